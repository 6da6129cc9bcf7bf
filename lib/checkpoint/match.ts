import { describeValue } from "../inspect";
import { checkGroup, OPTIMIZER_RULES, type CheckedOptions, type GroupOptions } from "../options";
import { checkBeta3 } from "../parameters";
import { fail } from "./fail";
import type { Steps } from "./pace";
import { describeShape } from "./reader";
import { BLOCK, type CheckpointMetadata, type StateOwner } from "./state";

/** An entity of the optimizer and its index in the state. */
export interface Match {
  ours: number;
  theirs: number;
}

/** The optimizer's terms, parameters and layers to restore, each with its match in the state. */
export interface Matches {
  readonly metadata: CheckpointMetadata;
  readonly terms: readonly Match[];
  readonly parameters: readonly Match[];
  readonly layers: readonly Match[];
}

export function match(
  kind: string,
  ours: readonly string[],
  theirs: readonly string[],
  strict: boolean,
): Match[] {
  const numbers = new Map(theirs.map((name, number) => [name, number]));
  const matches: Match[] = [];
  for (const [number, name] of ours.entries()) {
    const found = numbers.get(name);
    if (found !== undefined) matches.push({ ours: number, theirs: found });
    else if (strict)
      fail(`The state must have the ${kind} ${describeValue(name)}; it has none of that name.`);
  }
  if (strict && matches.length < theirs.length) {
    const known = new Set(ours);
    const extra = theirs.find((name) => !known.has(name));
    fail(`The state must have the optimizer's ${kind}s alone; got ${describeValue(extra)} besides.`);
  }
  return matches;
}

export function checkParameter(
  owner: StateOwner,
  ours: number,
  metadata: CheckpointMetadata,
  theirs: number,
): void {
  const own = owner.parameters[ours]!;
  const saved = metadata.parameters[theirs]!;
  if (saved.length !== own.length) {
    fail(`The state must have ${own.length} elements for ${describeValue(own.name)}; got ${saved.length}.`);
  }
  // One dimension may be the length of a parameter for which no shape was given.
  if (own.shape.length > 1 && saved.shape.length > 1 && own.shape.join() !== saved.shape.join()) {
    fail(
      `The state must have the shape ${describeShape(own.shape)} for ${describeValue(own.name)}; ` +
        `got ${describeShape(saved.shape)}.`,
    );
  }
  const layer = owner.layers[own.layer];
  if (saved.layer !== layer) {
    fail(
      `The state must have ${describeValue(own.name)} in the layer ${describeValue(layer)}; ` +
        `got ${describeValue(saved.layer)}.`,
    );
  }
}

/** Whether first moments have to be summed. */
export function checkForm(ours: CheckedOptions, theirs: CheckpointMetadata["options"]): boolean {
  if (theirs.amsgrad !== ours.amsgrad) {
    fail(`The state must be one with \`amsgrad: ${ours.amsgrad}\`; got ${describeValue(theirs.amsgrad)}.`);
  }
  const unit = theirs.unit ?? "tensor";
  if (unit !== ours.unit) {
    fail(`The state must be one with \`unit: "${ours.unit}"\`; got ${describeValue(unit)}.`);
  }
  const secondMoment = theirs.secondMoment ?? "perTerm";
  if (secondMoment !== ours.secondMoment) {
    fail(
      `The state must be one with \`secondMoment: "${ours.secondMoment}"\`; got ${describeValue(secondMoment)}, ` +
        "which cannot be converted.",
    );
  }
  checkStateDtype(theirs);
  if (theirs.firstMoment === ours.firstMoment) return false;
  if (theirs.firstMoment === "perTerm" && ours.firstMoment === "summed") return true;
  fail(
    `The state must be one with \`firstMoment: "${ours.firstMoment}"\`; got ${describeValue(theirs.firstMoment)}, ` +
      "which cannot be taken apart.",
  );
}

/** Any type can be loaded into any other, but it must be known. */
function checkStateDtype({ stateDtype = "float32", block }: CheckpointMetadata["options"]): void {
  if (!OPTIMIZER_RULES.stateDtype.accepts(stateDtype, [])) {
    fail(`The state must be one with a known \`stateDtype\`; got ${describeValue(stateDtype)}.`);
  }
  if (stateDtype === "8bit" && block !== BLOCK) {
    fail(`The state must have ${BLOCK} elements per exponent as \`block\`; got ${describeValue(block)}.`);
  }
}

/** The saved options of our groups whose parameters were all in one group; none for the others. A schedule stays. */
export function* matchGroups(
  owner: StateOwner,
  metadata: CheckpointMetadata,
  parameters: readonly Match[],
  strict: boolean,
): Steps<Partial<GroupOptions>[]> {
  const theirs = owner.groups.map(() => new Set<number>());
  for (const match of parameters) {
    const group = metadata.parameters[match.theirs]?.group ?? -1;
    theirs[owner.parameters[match.ours]?.group ?? -1]?.add(group);
  }
  yield undefined;
  const changes = owner.groups.map((): Partial<GroupOptions> => ({}));
  const groups: GroupOptions[] = [...owner.groups];
  for (const [ours, sources] of theirs.entries()) {
    const [source] = sources;
    if (strict && sources.size > 1) {
      fail("The state must have the optimizer's groups; got parameters in others.");
    }
    if (sources.size !== 1 || source === undefined) continue;
    const options = savedOptions(metadata, source);
    if (typeof groups[ours]!.lr === "function") delete options.lr;
    changes[ours] = options;
    groups[ours] = { ...groups[ours]!, ...options };
    yield undefined;
  }
  checkOptions(() => {
    const { unit, scales } = owner.options;
    checkBeta3({ ...owner, unit, scales }, groups);
  });
  return changes;
}

/** The saved options of a group, without `lr` if it was a schedule. */
function savedOptions({ groups }: CheckpointMetadata, index: number): Partial<GroupOptions> {
  const saved = groups[index];
  if (saved === undefined) fail("The state must have the options of every group.");
  const options: Partial<GroupOptions> = checkOptions(() =>
    checkGroup({ ...saved, lr: saved.lr ?? undefined }, undefined),
  );
  if (saved.lr === null) delete options.lr;
  return options;
}

/** An invalid option in a state is reported as an error of the state. */
function checkOptions<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    fail(`The state must have valid options; ${(error as Error).message}`, error);
  }
}
