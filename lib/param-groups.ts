import type { GroupValues } from "./call-options";
import { learningRate, recheckGroup, type GroupOptions } from "./options";
import { checkUnitBetas, type FlatParameters } from "./parameters";

/** The current options of a group; a change is checked and takes effect at the next step. */
export interface ParamGroup extends GroupOptions {
  betas: [number, number, number];
  /** The names of its parameters. */
  readonly parameters: readonly string[];
}

/** The group with an index. Sealed, so that assigning a misspelled option throws. */
export function makeParamGroup({ groups, parameters }: FlatParameters, index: number): ParamGroup {
  const options = groups[index]!;
  const names = parameters.filter(({ group }) => group === index).map(({ name }) => name);
  return Object.seal({ ...options, betas: [...options.betas], parameters: Object.freeze(names) });
}

/**
 * The current options of all groups, checked, with the learning rates as numbers.
 *
 * @throws MTAdamError OPTION
 */
export function resolveGroups(
  groups: readonly ParamGroup[],
  flat: FlatParameters,
  iterations: number,
): GroupValues[] {
  const checked = groups.map(recheckGroup);
  checkUnitBetas(flat, checked);
  return checked.map((group) => ({ ...group, lr: learningRate(group.lr, iterations) }));
}
