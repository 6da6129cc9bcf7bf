import type { Device } from "mtadam";
import { Model, type Contender } from "./model.mjs";
import { reasonOf, type Peers } from "./peers.mjs";
import type { ContenderResult, Inputs, SettingResult } from "./results.mjs";
import { between, type Roof } from "./roof.mjs";
import { total, type Shape, type Subject } from "./shapes.mjs";
import { trafficOf, type Form } from "./traffic.mjs";

export interface Setting {
  subject: Subject;
  terms: number;
  form: Form;
  inputs: Inputs;
}

export interface Course {
  device: Device;
  roof: Roof;
  rounds: number;
  /** Seconds that each contender has at a time; a step that takes longer is taken once. */
  turn: number;
  /** What counts as cold. */
  coldBytes: number;
  peers?: Peers | undefined;
}

/** More than any cache has, a GPU's too. */
export const COLD_BYTES = 256 * 2 ** 20;

// A peer has as many rounds as fit in a few seconds, and at least some.
const PEER_SECONDS = 3;
const PEER_ROUNDS = 3;

/** Parameters, gradients and moments. */
export function workingSet({ subject, terms, form }: Omit<Setting, "inputs">): number {
  const moments = form === "perTerm" ? 2 * terms : terms + 1;
  return 4 * total(subject.lengths) * (1 + terms + moments);
}

/** What can be told apart: what never fits the caches is cold in any case. */
export function inputsOf(setting: Omit<Setting, "inputs">, coldBytes = COLD_BYTES): readonly Inputs[] {
  return workingSet(setting) < coldBytes ? ["warm", "cold"] : ["cold"];
}

/** Copies of everything that take turns. */
export function setsOf(setting: Setting, coldBytes = COLD_BYTES): number {
  return setting.inputs === "warm" ? 1 : Math.ceil(coldBytes / workingSet(setting));
}

/** Measures all contenders of one setting in turns, with the roof between any two of them. */
export async function measure(setting: Setting, course: Course): Promise<SettingResult> {
  const { subject, terms, form, inputs } = setting;
  const { device, roof, turn, coldBytes } = course;
  const sets = setsOf(setting, coldBytes);
  const models: Model[] = [];
  const modelOf = ({ lengths }: Shape) => {
    const model = new Model(device, { lengths, terms, form, sets });
    models.push(model);
    return model;
  };
  const model = modelOf(subject);
  const contenders = [model.contender("step"), model.contender("streamed")];
  // Of a large model a graph saves nothing that could be seen.
  if (device.kind === "cuda" && inputsOf(setting, coldBytes).length > 1) {
    contenders.push(model.contender("captured"));
  }
  if (subject.beside) contenders.push(modelOf(subject.beside).contender("step", "flat"));
  const resident = trafficOf(form, "resident", terms);
  await roof.prepare({ elements: total(subject.lengths), sets, turn }, resident);
  const peers = await course.peers?.join(form, { lengths: subject.lengths, terms, sets });
  const results = await takeTurns([...contenders, ...(peers?.contenders ?? [])], setting, course);
  await course.peers?.leave();
  for (const each of models) each.dispose();
  await roof.free();
  return { subject: subject.key, terms, form, inputs, contenders: [...results, ...(peers?.absent ?? [])] };
}

/** A contender with as many calls as fill a turn. */
class Turn {
  readonly result: ContenderResult;
  readonly #contender: Contender;
  #calls = 0;
  #spent = 0;

  constructor(contender: Contender) {
    this.#contender = contender;
    const { name, way, parameters, bytesPerParameter, stateBytes } = contender;
    this.result = {
      name,
      way,
      parameters,
      ...(bytesPerParameter === undefined ? {} : { bytesPerParameter }),
      ...(stateBytes === undefined ? {} : { stateBytes }),
      rounds: [],
    };
  }

  /** Takes the first steps, in which memory arrives, and finds how many fill a turn. */
  async warmUp(turn: number): Promise<void> {
    const { sets } = this.#contender;
    let seconds = await this.#time(sets);
    if (seconds === undefined) return;
    if (seconds < 1) seconds = (await this.#time(sets)) ?? seconds;
    this.#calls = Math.max(1, Math.ceil((turn * sets) / seconds));
  }

  /** Seconds of one step; undefined where it breaks off. */
  async take(): Promise<number | undefined> {
    const seconds = await this.#time(this.#calls);
    if (seconds === undefined) return undefined;
    this.#spent += seconds;
    return seconds / this.#calls;
  }

  /** A peer that cannot go on leaves the others to it. */
  async #time(calls: number): Promise<number | undefined> {
    try {
      return await this.#contender.time(calls);
    } catch (error) {
      this.result.notRun = reasonOf(error);
      return undefined;
    }
  }

  /** Whether it has shown all that it will. */
  get isDone(): boolean {
    const { bytesPerParameter, rounds, notRun } = this.result;
    if (notRun !== undefined) return true;
    const isPeer = bytesPerParameter === undefined;
    return isPeer && rounds.length >= PEER_ROUNDS && this.#spent > PEER_SECONDS;
  }
}

async function takeTurns(
  contenders: readonly Contender[],
  { terms, form }: Setting,
  { roof, rounds, turn }: Course,
): Promise<ContenderResult[]> {
  const turns = contenders.map((contender) => new Turn(contender));
  for (const each of turns) await each.warmUp(turn);
  const look = async (way: Contender["way"]) => roof.measure(trafficOf(form, way, terms));
  await look("resident");
  for (let round = 0; round < rounds; ++round) {
    let last: { way: Contender["way"]; ceiling: Awaited<ReturnType<typeof look>> } | undefined;
    for (const each of turns) {
      if (each.isDone) continue;
      const { way, bytesPerParameter, rounds: taken } = each.result;
      // What was measured after one contender is what was measured before the next, where it is the same loops.
      const before = last?.way === way ? last.ceiling : await look(way);
      const seconds = await each.take();
      if (seconds === undefined) continue;
      const after = await look(way);
      last = { way, ceiling: after };
      const { traffic, ...bandwidths } = between(before, after);
      const own = bytesPerParameter === undefined || traffic === undefined ? {} : { traffic };
      taken.push({ seconds, ...bandwidths, ...own });
    }
  }
  return turns.map(({ result }) => result);
}
