/** The version, fixed when the binary is built. */
export { version } from "../package.json";
