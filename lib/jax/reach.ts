import type { JaxAtom, JaxProgram } from "./module";

const isFloat = ({ aval }: JaxAtom): boolean => String(aval.dtype).includes("float");

/**
 * The inputs that a program's result depends on through values that have a gradient: not through integers and booleans, and
 * not through `lax.stopGradient`. For the others, jax-js gives a gradient of zeros.
 */
export function reachedInputs(program: JaxProgram): Set<JaxAtom> {
  const { eqns, outs } = program.flatten();
  const reached = new Set(outs.filter(isFloat));
  for (const { primitive, inputs, outBinders } of [...eqns].reverse()) {
    if (primitive === "stop_gradient" || !outBinders.some((result) => reached.has(result))) continue;
    for (const input of inputs) if (isFloat(input)) reached.add(input);
  }
  return reached;
}
