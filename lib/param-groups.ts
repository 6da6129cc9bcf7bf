import { native } from "./addon/native";
import type { GroupValues } from "./call-options";
import { MTAdamError } from "./errors";
import { learningRate, recheckGroup, type GroupOptions } from "./options";
import { checkBeta3, type FlatParameters } from "./parameters";

/** The current options of a group; a change is checked and takes effect at the next step. */
export interface ParamGroup extends GroupOptions {
  betas: [number, number, number];
  /** The names of its parameters. */
  readonly parameters: readonly string[];
}

/** The groups from an index on. Sealed, so that assigning a misspelled option throws. */
export function makeParamGroups({ groups, parameters }: FlatParameters, first = 0): ParamGroup[] {
  const names = groups.map((): string[] => []);
  for (const { name, group } of parameters) names[group]!.push(name);
  return groups
    .map((options, index): ParamGroup => {
      const parameters = Object.freeze(names[index]!);
      return Object.seal({ ...options, betas: [...options.betas], parameters });
    })
    .slice(first);
}

/** The options to set in each group, in order. */
export type GroupChanges = readonly Readonly<Partial<GroupOptions>>[];

/** Sets options of groups: all, or none. @throws MTAdamError OPTION where one is read-only */
export function setGroupOptions(groups: readonly ParamGroup[], options: GroupChanges): void {
  checkWritable(groups, options);
  native.assign(groups, options);
}

/** @throws MTAdamError OPTION where one of the options is read-only */
export function checkWritable(groups: readonly ParamGroup[], options: GroupChanges): void {
  for (const [index, group] of groups.entries()) {
    for (const key of Object.keys(options[index]!)) {
      if (Object.getOwnPropertyDescriptor(group, key)?.writable === true) continue;
      throw new MTAdamError(
        "OPTION",
        `\`paramGroups[${index}].${key}\` must be writable; got a read-only one, perhaps of a frozen group.`,
      );
    }
  }
}

/**
 * The current options of all groups, checked, with the learning rates as numbers.
 *
 * @throws MTAdamError OPTION
 */
export function resolveGroups(
  groups: readonly ParamGroup[],
  flat: FlatParameters,
  iterations: () => number,
): GroupValues[] {
  const checked = groups.map(recheckGroup);
  checkBeta3(flat, checked);
  return checked.map((group) => Object.assign(group, { lr: learningRate(group, iterations) }));
}
