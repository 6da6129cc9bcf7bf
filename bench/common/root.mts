import { createRequire } from "node:module";
import { dirname } from "node:path";

/** The checkout, wherever this has been compiled to. */
export const ROOT = dirname(createRequire(import.meta.url).resolve("mtadam/package.json"));
