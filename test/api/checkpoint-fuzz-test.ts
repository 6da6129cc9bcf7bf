/**
 * Tests the reader of checkpoints with the corpus and random changes of it, for some seconds. For more runs:
 *
 *   MTADAM_FUZZ=10000 npx jest --selectProjects cpu -- test/api/checkpoint-fuzz-test.ts
 *
 * MTADAM_FUZZ_SEED repeats a run; its seed is printed.
 */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import fc from "fast-check";
import type { StateDict } from "../../lib";
import { change, check, fingerprint, makeFor, metadataOf, type Subject } from "../support/checkpoint-fuzz";
import { testDevice } from "../support/device";
import { temporaryFolder } from "../support/folder";

const corpus = path.join(__dirname, "../corpus/checkpoints");
const names = readdirSync(corpus).filter((name) => name.endsWith(".safetensors"));
const read = (name: string): Buffer => readFileSync(path.join(corpus, name));
const device = testDevice();
const file = path.join(temporaryFolder(), "state.safetensors");

function subjectFor(bytes: Buffer): Subject {
  const optimizer = makeFor(metadataOf(bytes), device);
  return {
    optimizer,
    load(changed, strict) {
      writeFileSync(file, changed);
      return optimizer.load(file, { strict });
    },
    async save() {
      await optimizer.save(file);
      return readFileSync(file);
    },
  };
}

test.each(names)("%s is loaded, and saved with the same bits", async (name) => {
  const bytes = read(name);
  const subject = subjectFor(bytes);
  const { optimizer } = subject;
  expect(await check(subject, bytes, true)).toBe("loaded");
  const fromFile = await fingerprint(optimizer);
  await optimizer.loadStateDict(await optimizer.stateDict());
  expect(await fingerprint(optimizer)).toBe(fromFile);
});

/** A state for the checkpoint's optimizer that differs from the checkpoint everywhere, so that any change shows. */
async function anotherState({ optimizer }: Subject): Promise<StateDict> {
  const { parameters } = (await optimizer.stateDict()).metadata;
  optimizer.step(
    optimizer.terms.map(() =>
      parameters.map(({ length }) => device.buffer(new Float32Array(length).fill(0.125))),
    ),
  );
  optimizer.weights = optimizer.weights.map(() => 3);
  optimizer.lr = 0.5;
  return optimizer.stateDict();
}

const rounds = Number(process.env["MTADAM_FUZZ"] ?? NaN);
const isByHand = !Number.isNaN(rounds);
const SECONDS = 4;
const BATCH = 50;

test(
  "any change of a checkpoint is loaded with its bits, or is an error with a code and changes nothing",
  async () => {
    const seed = Number(process.env["MTADAM_FUZZ_SEED"] ?? Date.now() & 0x7fffffff);
    console.log(`seed ${seed}`);
    const counts = { loaded: 0, refused: 0 };
    const originals = new Map(
      await Promise.all(
        names.map(async (name) => {
          const bytes = read(name);
          const subject = subjectFor(bytes);
          return [name, { bytes, subject, before: await anotherState(subject) }] as const;
        }),
      ),
    );
    const property = fc.asyncProperty(
      fc.constantFrom(...names),
      fc.array(change, { minLength: 1, maxLength: 2 }),
      fc.boolean(),
      async (name, changes, strict) => {
        const { bytes, subject, before } = originals.get(name)!;
        let changed: Buffer = Buffer.from(bytes);
        try {
          for (const one of changes) changed = one(changed);
        } catch {
          fc.pre(false); // after the first change, the second does not apply
        }
        await subject.optimizer.loadStateDict(before);
        try {
          ++counts[await check(subject, changed, strict)];
        } catch (cause) {
          const base64 = changed.toString("base64");
          throw new Error(`${name}, strict ${strict}: ${String(cause)}; the file: ${base64}`, { cause });
        }
      },
    );
    const end = Date.now() + SECONDS * 1000;
    for (let done = 0; isByHand ? done < rounds : Date.now() < end; done += BATCH) {
      await fc.assert(property, { numRuns: BATCH, seed: seed + done });
    }
    console.log(`${counts.loaded} loaded, ${counts.refused} refused`);
    expect(counts.loaded).toBeGreaterThan(0);
    expect(counts.refused).toBeGreaterThan(counts.loaded);
  },
  isByHand ? 2 ** 31 - 1 : 60_000,
);
