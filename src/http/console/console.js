/** The console: which view is shown, who is signed in, and whether it is light or dark. */
import { html, render, useEffect, useState } from "/console/preact.js";
import { Keys } from "/console/keys.js";
import { Overview } from "/console/overview.js";
import { ask, events, signIn } from "/console/server.js";
import { Terminal } from "/console/terminal.js";
import { Tree } from "/console/tree.js";

const VIEWS = { overview: Overview, keys: Keys, tree: Tree, commands: Terminal };
const TITLES = { overview: "Overview", keys: "Keys", tree: "Tree", commands: "Commands" };

function SignIn({ onDone }) {
  const [said, setSaid] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    signIn(form.get("name"), form.get("password"));
    try {
      await ask("/v1/keys?limit=1");
      onDone(form.get("name"));
    } catch (error) {
      // Who may not list keys is known all the same.
      if (error.status === 403) onDone(form.get("name"));
      else {
        signIn(null);
        setSaid(error.message);
      }
    }
  };
  return html`<main>
    <section>
      <h2>Sign in</h2>
      <form class="row" onSubmit=${submit}>
        <label>Name <input name="name" required autofocus autocomplete="username" /></label>
        <label>
          Password
          <input name="password" type="password" autocomplete="current-password" />
        </label>
        <button class="main">Sign in</button>
      </form>
      <p role="alert" class="bad">${said}</p>
    </section>
  </main>`;
}

function useTheme() {
  const wanted = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const [theme, setTheme] = useState(localStorage.getItem("theme") ?? wanted);
  useEffect(() => void (document.documentElement.dataset.theme = theme), [theme]);
  const turn = () => {
    const next = theme === "dark" ? "light" : "dark";
    localStorage.setItem("theme", next);
    setTheme(next);
  };
  return [theme, turn];
}

function viewInUrl() {
  const name = location.hash.slice(1);
  return Object.hasOwn(VIEWS, name) ? name : "overview";
}

function Console() {
  const [view, setView] = useState(viewInUrl());
  const [user, setUser] = useState(null);
  const [needsLogin, setNeedsLogin] = useState(false);
  const [theme, turnTheme] = useTheme();
  useEffect(() => {
    const onHash = () => setView(viewInUrl());
    const onLogin = () => setNeedsLogin(true);
    addEventListener("hashchange", onHash);
    events.addEventListener("login", onLogin);
  }, []);
  const signOut = () => {
    signIn(null);
    setUser(null);
    setNeedsLogin(true);
  };
  const onSignedIn = (name) => {
    setUser(name);
    setNeedsLogin(false);
  };
  return html`
    <header>
      <h1>MerkleKV</h1>
      <nav aria-label="Views">
        ${Object.keys(VIEWS).map(
          (name) =>
            html`<button
              aria-current=${name === view ? "page" : undefined}
              onClick=${() => (location.hash = name)}
            >
              ${TITLES[name]}
            </button>`,
        )}
      </nav>
      <span class="grow"></span>
      ${
        user !== null &&
        html`<span class="quiet">${user}</span><button onClick=${signOut}>Sign out</button>`
      }
      <button onClick=${turnTheme}>${theme === "dark" ? "Light" : "Dark"}</button>
    </header>
    ${
      needsLogin
        ? html`<${SignIn} onDone=${onSignedIn} />`
        : html`<main key=${`${view} ${user}`}><${VIEWS[view]} /></main>`
    }
  `;
}

render(html`<${Console} />`, document.getElementById("root"));
