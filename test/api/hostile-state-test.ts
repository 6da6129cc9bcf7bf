/** Hostile states given to loadStateDict. */

import { inspect } from "node:util";
import type { StateDict } from "../../lib";
import { isSlow } from "../support/device";
import { detach, HostileScene, inBuffers, Mischief, outcome } from "../support/hostile";

describe("loading a hostile state", () => {
  /** Loads a state that changes while it is read. It must be loaded as it was before the change, or not at all. */
  const wholeOrNothing = async (spoil: (state: StateDict) => StateDict): Promise<string> => {
    const [scene, other, clean] = [inBuffers(), inBuffers(), inBuffers()];
    other.optimizer.step([other.g, null]);
    const before = await scene.fingerprint();
    await clean.optimizer.loadStateDict(await other.optimizer.stateDict());
    const state = spoil(await other.optimizer.stateDict());
    const came = await outcome(() => scene.optimizer.loadStateDict(state));
    expect(await scene.fingerprint()).toBe(came === "works" ? await clean.fingerprint() : before);
    return came;
  };

  test("an array with a false length is refused", async () => {
    const liar = Object.defineProperty(new Float32Array(1), "length", { value: 2 });
    expect(await wholeOrNothing((state) => ({ ...state, "v.1.1": liar }))).not.toBe("works");
  });

  test("an array that is detached while a later one is read", async () => {
    await wholeOrNothing((state) => {
      const last = state["v.1.1"];
      return Object.defineProperty(state, "v.1.1", {
        get: () => {
          const { "m.1.0": earlier } = state;
          if ((earlier as Float32Array).length > 0) detach(earlier as Float32Array);
          return last;
        },
      });
    });
  });

  test("iterations that cannot be read twice", async () => {
    await wholeOrNothing((state) => {
      let reads = 0;
      const metadata = Object.defineProperty({ ...state.metadata }, "iterations", {
        enumerable: true,
        get: () => {
          if (++reads > 1) throw new Mischief();
          return state.metadata.iterations;
        },
      });
      return { ...state, metadata };
    });
  });

  describe("entries that change between reads give a valid state or none", () => {
    /** A state whose read number `spoiled` returns `answer`, and a count of its reads. */
    function lying(
      saved: StateDict,
      spoiled: number,
      answer: unknown,
    ): { state: StateDict; readings: () => number } {
      let readings = 0;
      const wrap = <T extends object>(target: T): T =>
        new Proxy(target, {
          get: (of, key) => {
            const value: unknown = Reflect.get(of, key);
            if (typeof key === "symbol" || typeof value === "function") return value;
            if (readings++ === spoiled) return answer;
            return typeof value === "object" && value !== null && !ArrayBuffer.isView(value)
              ? wrap(value)
              : value;
          },
        });
      return { state: wrap({ ...saved }), readings: () => readings };
    }

    test.each([undefined, NaN, -1, "x", 1e3, [], { length: 1e3 }, { 0: 1, length: 1 }])(
      "%p",
      async (answer) => {
        const scene = inBuffers();
        const saved = await scene.optimizer.stateDict();
        const clean = lying(saved, -1, null);
        await scene.optimizer.loadStateDict(clean.state);
        expect(clean.readings()).toBeGreaterThan(20);

        const before = await inBuffers().fingerprint();
        const wrong: string[] = [];
        // Spoils every read on a fast device. On a slow device it spoils every fourth, with an offset per type of
        // answer.
        const [first, stride] = isSlow ? [(typeof answer).length % 4, 4] : [0, 1];
        for (let spoiled = first; spoiled < clean.readings(); spoiled += stride) {
          const { optimizer, g, ...rest } = inBuffers();
          const fingerprint = (): Promise<string> =>
            HostileScene.prototype.fingerprint.call({ optimizer, g, ...rest });
          const came = await outcome(() =>
            optimizer.loadStateDict(lying(saved, spoiled, answer).state),
          ).catch(String);
          const where = `reading ${spoiled}: ${came}`;
          if (!/^(works|TypeError|ERR_MTADAM_CHECKPOINT)$/.test(came)) wrong.push(where);
          if (came !== "works" && (await fingerprint()) !== before)
            wrong.push(`${where}, but something has changed`);
          const { iterations, weights } = optimizer;
          if (!Number.isSafeInteger(iterations) || iterations < 0)
            wrong.push(`${where}, iterations ${String(iterations)}`);
          if (weights.length !== 2 || !weights.every(Number.isFinite))
            wrong.push(`${where}, weights ${inspect(weights)}`);
          if ((await outcome(() => optimizer.step([g, g]))) !== "works")
            wrong.push(`${where}, no step after it`);
        }
        expect(wrong).toEqual([]);
      },
    );
  });
});
