/** Files of the console are imported as the texts that they are. */
declare module "./console/*.js" {
  const text: string;
  export default text;
}
declare module "*.css" {
  const text: string;
  export default text;
}
declare module "htm/preact/standalone.module.js" {
  const text: string;
  export default text;
}
