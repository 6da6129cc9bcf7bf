export { MTAdamOptimizer } from "./optimizer";
export type { MTAdamOptimizerOptions, TermComputation, TermLosses, VariableGradients } from "./optimizer";
