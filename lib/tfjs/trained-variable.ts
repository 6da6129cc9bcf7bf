import type { Tensor, Variable } from "@tensorflow/tfjs-core";
import { MTAdamError } from "../errors";
import { tf } from "./core";

/** The variable with this name; undefined after it was disposed of. */
export function registered(name: string): Variable | undefined {
  return tf.engine().registeredVariables[name];
}

/**
 * A variable and a copy of its values, which the optimizer updates. The copy is published by `assign`: the variable's own
 * memory may belong to other tensors too (cpu), and a kernel may have cached values computed from it (wasm).
 */
export class TrainedVariable {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
  /** Identifies the values that `data` has; changed by an assignment. */
  #values: Tensor["dataId"];

  /** @throws MTAdamError DTYPE */
  constructor(variable: Variable) {
    const { name, shape, dtype } = variable;
    if (dtype !== "float32") {
      throw new MTAdamError("DTYPE", `\`${name}\` must be float32; got a variable of ${dtype}.`);
    }
    this.name = name;
    this.shape = [...shape];
    this.data = variable.dataSync<"float32">().slice();
    this.#values = variable.dataId;
  }

  /**
   * Reads the values again if others were assigned, also to a new variable of the same name.
   *
   * @throws MTAdamError LENGTH
   */
  refresh(): void {
    const variable = registered(this.name);
    if (variable === undefined || variable.dataId === this.#values) return;
    if (!tf.util.arraysEqual(variable.shape, [...this.shape])) {
      throw new MTAdamError(
        "LENGTH",
        `\`${this.name}\` must keep its shape [${this.shape.join(", ")}]; got a variable of that name of shape ` +
          `[${variable.shape.join(", ")}].`,
      );
    }
    this.data.set(variable.dataSync<"float32">());
    this.#values = variable.dataId;
  }

  /** Assigns the values to the variable. */
  publish(): void {
    const variable = registered(this.name);
    if (variable === undefined) return;
    // Some backends keep the array itself.
    const values = tf.tensor(this.data.slice(), [...this.shape], "float32");
    variable.assign(values);
    values.dispose();
    this.#values = variable.dataId;
  }
}
