export { MTAdamOptimizer } from "./optimizer";
export type { MTAdamOptimizerOptions, TermLosses, VariableGradients } from "./optimizer";
