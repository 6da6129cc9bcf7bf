export { MTAdamOptimizer } from "./optimizer";
export type {
  MTAdamOptimizerOptions,
  TermComputation,
  TermLosses,
  TrainableVariable,
  VariableGradients,
} from "./optimizer";
