/** User code that runs in the middle of a call: getters, proxies, schedules and callbacks. */

import { MTAdam, type StateDict } from "../../lib";
import { onCpu } from "../support/device";
import { detach, HostileScene, inBuffers, Mischief, outcome } from "../support/hostile";
import type { Tensor } from "../support/scene";

const TERMS = ["content", "style"];

/** A scene whose memory can be detached or disposed of during a call. */
class Stage extends HostileScene {
  saved: StateDict | undefined;
  /** Arrays that own the detached memory, each with its elements at that time. */
  readonly #taken: [Float32Array, number[]][] = [];

  take(tensor: Tensor): void {
    if (!(tensor instanceof Float32Array)) {
      tensor.dispose();
    } else if (tensor.length > 0) {
      const array = detach(tensor);
      this.#taken.push([array, [...array]]);
    }
  }

  /** Whether memory was written to after it stopped being a parameter's or a gradient's. */
  isTakenIntact(): boolean {
    return this.#taken.every(([array, before]) => array.every((value, k) => value === before[k]));
  }

  async isFinite(): Promise<boolean> {
    const live = [this.w, this.b].map(async (one) => {
      // A detached array has no iterator.
      if (one instanceof Float32Array) return Array.prototype.slice.call(one) as number[];
      return one.disposed ? [] : await one.download();
    });
    return (await Promise.all(live)).every((values) => [...values].every(Number.isFinite));
  }
}

type Act = (stage: Stage) => unknown;

/** Actions of a getter, a schedule or a callback during a call. */
const actions: Record<string, Act> = {
  throws: () => {
    throw new Mischief();
  },
  "disposes of the optimizer": ({ optimizer }) => optimizer.dispose(),
  "disposes of the device": ({ device }) => device.dispose(),
  "takes a parameter away": (stage) => stage.take(stage.b),
  "takes the other parameter away": (stage) => stage.take(stage.w),
  "takes a gradient away": (stage) => stage.take(stage.g[0]),
  "takes every gradient away": (stage) => stage.g.forEach((one) => stage.take(one)),
  "makes a step": (stage) => stage.optimizer.step([stage.gradients(), null]),
  "makes a prepared step": ({ optimizer, prepared }) => optimizer.step(prepared),
  "accumulates a term": (stage) => stage.optimizer.accumulate(0, stage.gradients()),
  "accumulates the other term": (stage) => stage.optimizer.accumulate(1, stage.gradients()),
  "ends the step": ({ optimizer }) => optimizer.update(),
  "starts stepEach": ({ optimizer, g }) => void optimizer.stepEach([() => g, () => g]).catch(() => undefined),
  "loads a state": ({ optimizer, saved }) => void optimizer.loadStateDict(saved!).catch(() => undefined),
  "prepares others": (stage) => stage.optimizer.prepare([stage.gradients(), stage.gradients()]),
  "empties what is prepared": ({ prepared }) => TERMS.forEach((term) => prepared.set(term, "w", null)),
  "sets what is prepared to 0": ({ prepared }) => prepared.zero(),
  "adds a term": ({ optimizer }) => optimizer.addTerm("new"),
  "removes a term": ({ optimizer }) => optimizer.removeTerm("style"),
  "adds a group": (stage) =>
    stage.optimizer.addParamGroup({ parameters: [{ name: "new", data: stage.make(1) }] }),
  "discards the step": ({ optimizer }) => optimizer.discard(),
  "sets the weights": ({ optimizer }) => (optimizer.weights = [0, 5]),
  "spoils the options": ({ optimizer }) =>
    Object.assign(optimizer.paramGroups[0]!, { lr: NaN, betas: [2, 2, 2], eps: -1 }),
};

/** The list with a getter at `index`, which acts and then returns the entry. */
function withGetter<T>(list: readonly T[], index: number, act: () => void): T[] {
  const copy = [...list];
  const value = copy[index]!;
  return Object.defineProperty(copy, index, { get: () => (act(), value) });
}

/** An object that acts whenever a property is read. */
const watched = <T extends object>(target: T, act: () => void): T =>
  new Proxy(target, { get: (of, key) => (act(), Reflect.get(of, key) as unknown) });

type Place = (stage: Stage, act: () => void) => unknown;

const places: Record<string, Place> = {
  "a getter of step's first term": ({ optimizer, g }, act) =>
    optimizer.step({ get content() { return act(), g; }, style: g }), // prettier-ignore
  "a getter of step's last term": ({ optimizer, g }, act) => optimizer.step(withGetter([g, g], 1, act)),
  "a getter of step's last gradient": ({ optimizer, g }, act) => optimizer.step([g, withGetter(g, 1, act)]),
  "a getter of a new last gradient": (stage, act) =>
    stage.optimizer.step([stage.g, withGetter(stage.gradients(), 1, act)]),
  "a proxy of step's terms": ({ optimizer, g }, act) => optimizer.step(watched([g, g], act)),
  "a proxy of step's gradients by name": ({ optimizer, g }, act) =>
    optimizer.step([watched({ w: g[0], b: g[1] }, act), g]),
  "a getter of step's weights": ({ optimizer, g }, act) =>
    optimizer.step([g, g], { get weights() { return act(), [1, 2]; } }), // prettier-ignore
  "a getter of step's gradientScale": ({ optimizer, prepared }, act) =>
    optimizer.step(prepared, { get gradientScale() { return act(), 2; } }), // prettier-ignore
  "a getter of one of step's weights": ({ optimizer, g }, act) =>
    optimizer.step([g, g], { weights: withGetter([1, 2], 1, act) }),
  "lr in step": ({ optimizer, g }, act) => {
    optimizer.lr = () => (act(), 0.1);
    optimizer.step([g, g]);
  },
  "lr in a prepared step": ({ optimizer, prepared }, act) => {
    optimizer.lr = () => (act(), 0.1);
    optimizer.step(prepared);
  },
  "lr in accumulate": ({ optimizer, g }, act) => {
    optimizer.lr = () => (act(), 0.1);
    optimizer.accumulate(0, g);
  },
  "a getter of a beta": ({ optimizer, g }, act) => {
    optimizer.paramGroups[0]!.betas = withGetter([0.9, 0.999, 0.9], 1, act) as [number, number, number];
    optimizer.step([g, g]);
  },
  "a getter of accumulate's last gradient": ({ optimizer, g }, act) =>
    optimizer.accumulate(0, withGetter(g, 1, act)),
  "a getter in an open step": (stage, act) => {
    stage.optimizer.accumulate(0, stage.g);
    stage.optimizer.accumulate(1, withGetter(stage.gradients(), 1, act));
  },
  "a getter of accumulate's weights": ({ optimizer, g }, act) =>
    optimizer.accumulate("style", g, { weights: { get style() { return act(), 2; } } }), // prettier-ignore
  "a getter in update's options": ({ optimizer, g }, act) => {
    optimizer.accumulate(0, g);
    optimizer.update({ get stream() { return act(), null; } }); // prettier-ignore
  },
  "a getter of a callback": ({ optimizer, g }, act) =>
    optimizer.stepEach({ content: () => g, get style() { return act(), () => g; } }), // prettier-ignore
  "a callback": ({ optimizer, g }, act) => optimizer.stepEach([() => g, () => (act(), g)]),
  "a callback's getter": ({ optimizer, g }, act) =>
    optimizer.stepEach([() => withGetter(g, 1, act), () => g]),
  "a callback's thenable": ({ optimizer, g }, act) =>
    optimizer.stepEach([
      () =>
        ({
          then: (resolve: (value: typeof g) => void) => {
            act();
            resolve(g);
          },
        }) as never,
      null,
    ]),
  "a callback's getter of then": ({ optimizer, g }, act) =>
    optimizer.stepEach([() => g, () => ({ w: g[0], get then() { return act(), undefined; } })]), // prettier-ignore
  "a getter of stepEach's weights": ({ optimizer, g }, act) =>
    optimizer.stepEach([() => g, () => g], { weights: withGetter([1, 2], 1, act) }),
  "a getter of prepare's": ({ optimizer, g }, act) => optimizer.prepare([g, withGetter(g, 1, act)]),
  "a getter of addGradients's target": (stage, act) =>
    stage.optimizer.addGradients(withGetter(stage.g, 1, act), stage.gradients()),
  "a getter of addGradients's source": (stage, act) =>
    stage.optimizer.addGradients(stage.gradients(), { b: stage.g[1], get w() { return act(), stage.g[0]; } }), // prettier-ignore
  "a getter of the weights": ({ optimizer }, act) => {
    optimizer.weights = withGetter([1, 2], 1, act);
  },
  "a getter of a beta in stateDict": ({ optimizer }, act) => {
    optimizer.paramGroups[0]!.betas = withGetter([0.9, 0.999, 0.9], 1, act) as [number, number, number];
    return optimizer.stateDict();
  },
  "a getter of a beta in addParamGroup": (stage, act) => {
    const { paramGroups } = stage.optimizer;
    paramGroups[0]!.betas = withGetter([0.9, 0.999, 0.9], 1, act) as [number, number, number];
    stage.optimizer.addParamGroup({ parameters: [{ name: "last", data: stage.make(1) }] });
  },
  "a getter of addParamGroup's parameters": (stage, act) => {
    const parameters = [{ name: "last", get data() { return act(), stage.make(1); } }]; // prettier-ignore
    stage.optimizer.addParamGroup({ parameters });
  },
  "a getter of a state's metadata": ({ optimizer, saved }, act) =>
    optimizer.loadStateDict({ ...saved!, get metadata() { return act(), saved!.metadata; } }), // prettier-ignore
  "a proxy of a state's metadata": ({ optimizer, saved }, act) =>
    optimizer.loadStateDict({ ...saved!, metadata: watched(saved!.metadata, act) }),
  "a getter of a state's last tensor": ({ optimizer, saved }, act) =>
    optimizer.loadStateDict(
      Object.defineProperty({ ...saved! }, "v.1.1", { get: () => (act(), saved!["v.1.1"]) }),
    ),
  "a getter of strict": ({ optimizer, saved }, act) =>
    optimizer.loadStateDict(saved!, { get strict() { return act(), true; } }), // prettier-ignore
  "a getter of a parameter's data": (stage, act) => {
    const parameters = [{ name: "w", data: stage.w }, { get data() { return act(), stage.make(1); } }]; // prettier-ignore
    new MTAdam(parameters, { terms: 1, device: stage.device }).step([[stage.g[0], null]]);
  },
  "a getter of an option": (stage, act) => {
    const options = { terms: 1, device: stage.device, get lr() { return act(), 1; } }; // prettier-ignore
    new MTAdam([stage.w], options).step([[stage.g[0]]]);
  },
  "a getter of a group's parameter": (stage, act) => {
    const parameters = [{ parameters: withGetter([stage.w, stage.b], 1, act) }];
    new MTAdam(parameters, { terms: 1, device: stage.device }).step([[stage.g[0], null]]);
  },
};

/** The allowed results of a step without gradients afterwards: memory may be gone, or options may be invalid. */
const LAST = ["works", "ERR_MTADAM_DISPOSED", "ERR_MTADAM_LENGTH", "ERR_MTADAM_OPTION"];

function interrupts(arrays: boolean, table: Record<string, Place>): void {
  test.each(Object.entries(table))("from %s", async (_, place) => {
    const wrong: string[] = [];
    for (const [what, action] of Object.entries(actions)) {
      const stage = new Stage(arrays);
      stage.saved = await stage.optimizer.stateDict();
      const acted: string[] = [];
      const act = (): void => {
        // Only once, since a schedule that takes a step would recurse forever.
        if (acted.push(what) === 1) action(stage);
      };
      const calls = [
        () => place(stage, act),
        () => stage.optimizer.update(),
        () => stage.optimizer.step([stage.gradients(), stage.g]),
        () => stage.optimizer.step(stage.prepared),
      ];
      for (const [k, call] of calls.entries()) {
        await outcome(call).catch((error: unknown) =>
          wrong.push(`${what}: ${k === 0 ? "" : "later "}${String(error)}`),
        );
      }
      const { terms, weights, paramGroups } = stage.optimizer;
      if (weights.length !== terms.length) wrong.push(`${what}: ${weights.length} weights`);
      const parameters = paramGroups.reduce((count, group) => count + group.parameters.length, 0);
      const absent = terms.map(() => new Array<null>(parameters).fill(null));
      const last = await outcome(() => {
        stage.optimizer.discard(); // a lost parameter has kept the step open
        stage.optimizer.step(absent);
      });
      if (!LAST.includes(last)) wrong.push(`${what}: the last step ${last}`);
      if (acted.length === 0) wrong.push(`${what}: never came to it`);
      if (!stage.isTakenIntact()) wrong.push(`${what}: memory was changed that had been taken away`);
      if (!(await stage.isFinite())) wrong.push(`${what}: a parameter is not finite`);
      stage.optimizer.dispose();
    }
    expect(wrong).toEqual([]);
  });
}

describe("code that runs in the middle of a call", () => {
  interrupts(false, places);
});

onCpu("code that runs in the middle of a call, over arrays", () => {
  interrupts(true, places);
});

describe("a call from a value that another call reads is refused, and the other works", () => {
  const calls: Record<string, Act> = {
    step: ({ optimizer, g }) => optimizer.step([g, g]),
    accumulate: ({ optimizer, g }) => optimizer.accumulate(0, g),
    addTerm: ({ optimizer }) => optimizer.addTerm("new"),
    removeTerm: ({ optimizer }) => optimizer.removeTerm("style"),
    addParamGroup: (stage) =>
      stage.optimizer.addParamGroup({ parameters: [{ name: "new", data: stage.make(1) }] }),
  };
  const readers: Record<string, Place> = {
    weights: places["a getter of the weights"]!,
    stateDict: places["a getter of a beta in stateDict"]!,
    addParamGroup: places["a getter of a beta in addParamGroup"]!,
  };
  const cases = Object.keys(readers).flatMap((reader) => Object.keys(calls).map((call) => [reader, call]));

  test.each(cases)("%s: %s", async (reader, call) => {
    const [stage, plain] = [new Stage(false), new Stage(false)];
    const refused: unknown[] = [];
    await readers[reader]!(stage, () => {
      try {
        calls[call]!(stage);
      } catch (error) {
        refused.push(error);
      }
    });
    await readers[reader]!(plain, () => undefined);
    expect(refused[0]).toMatchObject({
      code: "ERR_MTADAM_BUSY",
      message: `\`${reader}\` is reading its values; they must not make other calls.`,
    });
    expect(await stage.fingerprint()).toBe(await plain.fingerprint());
  });

  test("also if the setter of one value reads another", () => {
    const { optimizer, g } = inBuffers();
    const outer = withGetter([1, 1], 1, () => {
      optimizer.weights = [2, 2];
      expect(() => optimizer.addTerm("new")).toThrow(/is reading its values/);
    });
    optimizer.step([g, g], { weights: outer });
    expect(optimizer.weights).toEqual([2, 2]);
    expect(optimizer.terms).toHaveLength(2);
  });

  test("also if the setter failed", () => {
    const { optimizer, g } = inBuffers();
    const { iterations } = optimizer;
    const outer = withGetter([1, 1], 1, () => {
      expect(() => (optimizer.weights = [-1, 2])).toThrow(/at least 0/);
      expect(() => optimizer.update()).toThrow(/^`step` is reading its values/);
    });
    optimizer.step([g, g], { weights: outer });
    expect(optimizer.iterations).toBe(iterations + 1);
  });
});

describe("a step in the middle of another", () => {
  const gradients = ({ make }: HostileScene, k: number): [Tensor, Tensor] => [make(k, -k, 2), make(k, 1)];
  const calls: Record<string, (scene: HostileScene, inner: () => void) => void> = {
    "from the getter of a term": (scene, inner) =>
      scene.optimizer.step(withGetter([gradients(scene, 1), gradients(scene, 2)], 1, inner)),
    "from the getter of a gradient": (scene, inner) =>
      scene.optimizer.step([gradients(scene, 1), withGetter(gradients(scene, 2), 1, inner)]),
    "from a schedule": (scene, inner) => {
      let called = false;
      scene.optimizer.lr = () => {
        if (!called) {
          called = true;
          inner();
        }
        return 0.1;
      };
      scene.optimizer.step([gradients(scene, 1), gradients(scene, 2)]);
    },
    "from the getter of a weight": (scene, inner) =>
      scene.optimizer.step([gradients(scene, 1), gradients(scene, 2)], {
        weights: withGetter([1, 1], 1, inner),
      }),
  };
  test.each(Object.entries(calls))("%s runs before it, or one of them is refused", async (_, call) => {
    const scene = inBuffers();
    const inside: string[] = [];
    const inner = (): void => {
      inside.push("began");
      scene.optimizer.step([gradients(scene, 7), gradients(scene, -3)]);
      inside.push("worked");
    };
    const came = await outcome(() => call(scene, inner));
    const plain = inBuffers();
    if (inside.includes("worked")) plain.optimizer.step([gradients(plain, 7), gradients(plain, -3)]);
    expect(inside).toContain("began");
    if (came === "works") plain.optimizer.step([gradients(plain, 1), gradients(plain, 2)]);
    scene.optimizer.lr = 0.1;
    expect(await scene.fingerprint()).toBe(await plain.fingerprint());
  });
});
