import type * as Core from "@tensorflow/tfjs-core";
import { MTAdamError } from "../errors";

/** TensorFlow.js as the user has installed it. */
export const tf = load();

function load(): typeof Core {
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- an import could not be caught
    return require("@tensorflow/tfjs-core") as typeof Core;
  } catch (cause) {
    throw new MTAdamError(
      "LOAD",
      "`mtadam/tfjs` needs the package @tensorflow/tfjs-core; install it with: npm install @tensorflow/tfjs-core@4",
      { cause },
    );
  }
}
