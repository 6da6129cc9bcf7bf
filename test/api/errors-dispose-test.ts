/** Errors after `dispose`. Asynchronous calls reject with them. */

import { DeviceBuffer, MTAdam, MTAdamError, type StateDict } from "../../lib";
import { testDevice } from "../support/device";
import {
  array,
  buffer,
  checkError,
  everything,
  onDevice,
  refusal,
  refuses,
  type Subject,
  thrownBy,
  withParameters,
} from "../support/refusals";
import type { Buffer32 } from "../support/scene";

describe("use after dispose", () => {
  const calls: [what: string, call: (subject: Subject) => unknown][] = [
    ["step", ({ optimizer, g }) => optimizer.step([g, g])],
    ["accumulate", ({ optimizer, g }) => optimizer.accumulate(0, g)],
    ["update", ({ optimizer }) => optimizer.update()],
    ["stepEach", ({ optimizer, g }) => optimizer.stepEach([() => g, null])],
    ["prepare", ({ optimizer, g }) => optimizer.prepare([g, g])],
    ["addGradients", ({ optimizer, g }) => optimizer.addGradients(g, g)],
    ["norms", ({ optimizer }) => optimizer.norms()],
    ["stateDict", ({ optimizer }) => optimizer.stateDict()],
    ["loadStateDict", ({ optimizer }) => optimizer.loadStateDict({} as StateDict)],
    ["synchronize", ({ optimizer }) => optimizer.synchronize()],
    ["synchronizeSync", ({ optimizer }) => optimizer.synchronizeSync()],
  ];
  refuses(
    "ERR_MTADAM_DISPOSED",
    onDevice,
    calls.map(([what, call]) =>
      refusal(`of the optimizer: ${what}`, /optimizer has been disposed of/, call, ({ optimizer }) =>
        optimizer.dispose(),
      ),
    ),
  );
  refuses("ERR_MTADAM_DISPOSED", onDevice, [
    ...calls
      .slice(0, 4)
      .map(([what, call]) =>
        refusal(`of a parameter's buffer: ${what}`, /^`b` must be a live buffer/, call, ({ b }: Subject) =>
          b.dispose(),
        ),
      ),
    ...[calls[0], calls[1], calls[3], calls[4]].flatMap((one) =>
      one === undefined
        ? []
        : refusal(
            `of a gradient's buffer: ${one[0]}`,
            /^`gradients\["(content|style)"\]\["b"\]` must be a live buffer/,
            one[1],
            ({ g }: Subject) => g[1].dispose(),
          ),
    ),
    refusal(
      "of a gradient's buffer: addGradients",
      /^`source\["b"\]` must be a live buffer/,
      ({ optimizer, g }) => optimizer.addGradients([buffer(1, 1, 1), buffer(1, 1)], g),
      ({ g }) => g[1].dispose(),
    ),
    refusal(
      "of a buffer that becomes a parameter",
      /^`0` must be a live buffer/,
      ({ g }) => withParameters([g[1]]),
      ({ g }) => g[1].dispose(),
    ),
    ...(
      [
        ["ptr", (one) => one.ptr],
        ["upload", (one) => one.upload(array(1, -1))],
        ["download", (one) => one.download()],
        ["fill", (one) => one.fill(0)],
      ] as [string, (one: Buffer32) => unknown][]
    ).map(([what, call]) =>
      refusal(
        `of a buffer: ${what}`,
        /buffer has been disposed of/,
        ({ g }: Subject) => call(g[1]),
        ({ g }: Subject) => g[1].dispose(),
      ),
    ),
  ]);

  test("of a parameter's buffer: refused by step after terms have come and gone", async () => {
    const { optimizer, b, g } = onDevice();
    b.dispose();
    for (const change of [() => optimizer.addTerm("new"), () => optimizer.removeTerm("new")]) {
      change();
      const error = await thrownBy(() => optimizer.step({ content: g }));
      checkError(error, "ERR_MTADAM_DISPOSED");
      expect(error.message).toMatch(/^`b` must be a live buffer/);
      checkError(await thrownBy(() => optimizer.update()), "ERR_MTADAM_DISPOSED");
    }
  });

  test("of the optimizer: refused by its prepared gradients", async () => {
    const { optimizer } = onDevice();
    const prepared = optimizer.prepare([null, null]);
    optimizer.dispose();
    for (const call of [() => prepared.set(0, 0, null), () => prepared.zero(), () => prepared.upload()]) {
      checkError(await thrownBy(call), "ERR_MTADAM_DISPOSED");
    }
  });

  test("of a prepared gradient's buffer: refused by step and by zero", async () => {
    const subject = onDevice();
    const gradient = buffer(1, 1, 1);
    const prepared = subject.optimizer.prepare([[gradient, null], null]);
    gradient.dispose();
    const before = await everything(subject);
    for (const call of [() => subject.optimizer.step(prepared), () => prepared.zero()]) {
      checkError(await thrownBy(call), "ERR_MTADAM_DISPOSED");
    }
    expect(await everything(subject)).toEqual(before);
  });

  test("of a device: nothing new can be made on it", async () => {
    const own = testDevice({ threads: 1 });
    const data = own.buffer(1);
    own.dispose();
    for (const call of [
      () => own.buffer(1),
      () => DeviceBuffer.from(array(1), own),
      () => new MTAdam([data], { terms: 1 }),
      () => new MTAdam([data], { terms: 1, device: own }),
    ]) {
      checkError(await thrownBy(call), "ERR_MTADAM_DISPOSED");
    }
  });

  test("a second dispose does nothing", () => {
    const { optimizer, w } = onDevice();
    const own = testDevice({ threads: 1 });
    for (const one of [optimizer, w, own]) {
      one.dispose();
      one.dispose();
      one[Symbol.dispose]();
    }
  });
});

describe("asynchronous calls", () =>
  test.each<[string, (subject: Subject) => unknown]>([
    ["stepEach", ({ optimizer }) => optimizer.stepEach(5 as never)],
    ["norms", ({ optimizer }) => optimizer.norms()],
    ["stateDict", ({ optimizer }) => optimizer.stateDict()],
    ["loadStateDict", ({ optimizer }) => optimizer.loadStateDict(5 as never)],
    ["synchronize", ({ optimizer }) => optimizer.synchronize()],
    ["download", ({ w }) => w.download()],
  ])("%s rejects instead of throwing", async (_, call) => {
    const subject = onDevice();
    subject.optimizer.dispose();
    subject.w.dispose();
    await expect(call(subject)).rejects.toBeInstanceOf(MTAdamError);
  }));
