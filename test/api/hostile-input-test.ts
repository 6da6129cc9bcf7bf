/**
 * Nothing that a user passes can crash their process: it works, or it is an MTAdamError, or, where a value itself throws
 * when it is touched, whatever that value throws. And what was refused has changed nothing. Not so the handle of a stream
 * that does not exist, on a GPU: docs/cuda.md.
 */

import { spawn } from "node:child_process";
import path from "node:path";
import { inspect } from "node:util";
import vm from "node:vm";
import fc from "fast-check";
import {
  DeviceBuffer,
  MTAdam,
  MTAdamError,
  openDevice,
  type PreparedGradients,
  type StateDict,
} from "../../lib";
import type * as mtadam from "../../lib";
import { checkStream } from "../../lib/memory/stream";
import { isSlow, onCpu, testDevice } from "../support/device";
import { contents, inArray, Scene, type Buffer32, type Tensor } from "../support/scene";

const TERMS = ["content", "style"];

/** A scene on a device of its own that has made a step, and what the calls below need. */
class HostileScene extends Scene<Tensor> {
  readonly g: [w: Tensor, b: Tensor];
  readonly prepared: PreparedGradients;

  constructor(
    readonly inArrays: boolean,
    readonly device = testDevice({ threads: 1 }),
  ) {
    super(inArrays ? inArray : (...values) => device.buffer(inArray(...values)), { device });
    this.g = this.gradients();
    this.optimizer.step([this.g, this.g]);
    this.prepared = this.optimizer.prepare([this.g, this.g]);
  }

  /** All that a refused call must not have changed. */
  async fingerprint(): Promise<string> {
    const tensors = [this.w, this.b].map(contents);
    const state = await this.optimizer.stateDict().catch((error: unknown) => (error as MTAdamError).code);
    const { iterations, weights, paramGroups } = this.optimizer;
    return inspect([await Promise.all(tensors), state, iterations, weights, paramGroups], { depth: 9 });
  }
}

const inBuffers = (): HostileScene => new HostileScene(false);

const ownDevice = testDevice({ threads: 1 });

/** Thrown by the hostile values of this file. */
class Mischief extends Error {}

/** The outcome of a call: "works", or the name of its error if that error is allowed. */
async function outcome(call: () => unknown): Promise<string> {
  try {
    await call();
    return "works";
  } catch (error) {
    if (error instanceof MTAdamError) return error.code;
    if (error instanceof Mischief) return "Mischief";
    // By name, since these errors come from several realms.
    if ((error as Error).name === "TypeError") return "TypeError";
    throw error;
  }
}

const detach = (array: Float32Array): Float32Array => {
  const { buffer } = array;
  return new Float32Array(structuredClone(buffer, { transfer: [buffer as ArrayBuffer] }));
};

const revoked = (): object => {
  const { proxy, revoke } = Proxy.revocable([], {});
  revoke();
  return proxy;
};

const throwing = (target: object): object => {
  const fail = (): never => {
    throw new Mischief();
  };
  return new Proxy(target, {
    get: fail,
    has: fail,
    ownKeys: fail,
    getOwnPropertyDescriptor: fail,
    getPrototypeOf: fail,
  });
};

// ---- Calls that could crash the process run in a process of their own ----

type Library = typeof mtadam;

/** Runs a function, which may refer to nothing outside itself, in a process of its own. */
function isolated(scenario: (library: Library) => unknown, ...flags: string[]): Promise<string> {
  const root = JSON.stringify(path.join(__dirname, "../.."));
  const source = `
    const library = require(${root});
    Promise.resolve(library).then(${scenario.toString()}).then(
      () => console.log("works"),
      (error) => console.log(error instanceof library.MTAdamError ? error.code : String(error)),
    );`;
  const child = spawn(process.execPath, [...flags, "-e", source], {
    timeout: 4000,
    stdio: ["ignore", "pipe", "ignore"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      resolve(code === 0 ? output.trim() : `ended by ${signal ?? `code ${String(code)}`}`);
    });
  });
}

describe("in a process of its own", () => {
  const small = "--max-old-space-size=64";
  const scenarios: [
    what: string,
    expected: RegExp,
    scenario: (library: Library) => unknown,
    ...flags: string[],
  ][] = [
    [
      "a buffer disposed of while upload looks at the length",
      /^(works|ERR_MTADAM_\w+)$/,
      ({ openDevice }) => {
        const buffer = openDevice("cpu").buffer(0);
        const array = new Float32Array(0);
        Object.defineProperty(array, "length", { get: () => (buffer.dispose(), 0) });
        buffer.upload(array);
      },
    ],
    [
      "a buffer disposed of while download looks at the length",
      /^(works|ERR_MTADAM_\w+)$/,
      ({ openDevice }) => {
        const buffer = openDevice("cpu").buffer(0);
        const array = new Float32Array(0);
        Object.defineProperty(array, "length", { get: () => (buffer.dispose(), 0) });
        return buffer.download(array);
      },
    ],
    [
      "betas that take a parameter away when they become numbers",
      /^(works|ERR_MTADAM_\w+)$/,
      ({ MTAdam, openDevice }) => {
        const data = openDevice("cpu").buffer(1000);
        const optimizer = new MTAdam([data], { terms: 1 });
        const beta = { valueOf: () => (data.dispose(), 0.9) };
        const betas = Object.assign([0.9, 0.999, 0.9], {
          every: () => true,
          [Symbol.iterator]: () => [beta, 0.999, 0.9][Symbol.iterator](),
        });
        Object.assign(optimizer.paramGroups[0] as object, { betas });
        optimizer.step([[new Float32Array(1000)]]);
      },
    ],
    [
      "a shape of four billion holes",
      /^ERR_MTADAM_OPTION$/,
      ({ MTAdam }) =>
        new MTAdam([{ data: new Float32Array(1), shape: new Array<number>(2 ** 32 - 1) }], { terms: 1 }),
    ],
    [
      "a list of parameters of four billion holes",
      /^ERR_MTADAM_\w+$/,
      ({ MTAdam }) => new MTAdam(new Array<Float32Array>(2 ** 32 - 1), { terms: 1 }),
    ],
    [
      "a group with four billion holes",
      /^ERR_MTADAM_\w+$/,
      ({ MTAdam }) => new MTAdam([{ parameters: new Array<Float32Array>(2 ** 32 - 1) }], { terms: 1 }),
    ],
    [
      "terms, weights, gradients and callbacks of four billion holes",
      /^works$/,
      async ({ MTAdam }) => {
        const holes = new Array<never>(2 ** 32 - 1);
        const data = new Float32Array(1);
        const optimizer = new MTAdam([data], { terms: 2 });
        const calls: (() => unknown)[] = [
          () => new MTAdam([data], { terms: holes }),
          () => new MTAdam([data], { terms: 2, weights: holes }),
          () => new MTAdam([data], { terms: 2, betas: holes as never }),
          () => optimizer.step(holes),
          () => optimizer.accumulate(0, holes),
          () => optimizer.stepEach(holes),
          () => optimizer.addGradients(holes, holes),
          () => optimizer.step([null, null], { weights: holes }),
        ];
        for (const call of calls) {
          const error: unknown = await Promise.resolve()
            .then(call)
            .catch((reason: unknown) => reason);
          if (!(error as { code: string }).code.startsWith("ERR_MTADAM_")) throw error;
        }
      },
    ],
    // Gradients given in place of options, a slip of a comma: each element would become a property.
    [
      "a long array as the options of step",
      /^ERR_MTADAM_OPTION$/,
      ({ MTAdam }) =>
        new MTAdam([new Float32Array(1)], { terms: 1 }).step([null], new Float32Array(2 ** 23) as object),
      small,
    ],
    [
      "a long array as the optimizer's options",
      /^ERR_MTADAM_OPTION$/,
      ({ MTAdam }) => new MTAdam([new Float32Array(1)], new Float32Array(2 ** 23) as never),
      small,
    ],
    [
      "a long typed array as weights",
      /^ERR_MTADAM_(OPTION|LENGTH|TERM)$/,
      ({ MTAdam }) =>
        new MTAdam([new Float32Array(1)], { terms: 2, weights: new Float32Array(2 ** 23) as never }),
      small,
    ],
    [
      "long arrays to addGradients",
      /^ERR_MTADAM_(OPTION|LENGTH)$/,
      ({ MTAdam }) => {
        const data = new Float32Array(2 ** 23);
        new MTAdam([data], { terms: 1 }).addGradients(data.slice() as never, data.slice() as never);
      },
      small,
    ],
    [
      "a long array as callbacks",
      /^ERR_MTADAM_(OPTION|LENGTH|TERM)$/,
      ({ MTAdam }) =>
        new MTAdam([new Float32Array(1)], { terms: 1 }).stepEach(new Float32Array(2 ** 23) as never),
      small,
    ],
    [
      "an option with a name of sixteen million letters",
      /^ERR_MTADAM_OPTION$/,
      ({ MTAdam }) => new MTAdam([new Float32Array(1)], { terms: 1, ["x".repeat(2 ** 24)]: 1 }),
    ],
    [
      "names and messages of ten million letters",
      /^ERR_MTADAM_\w+$/,
      ({ MTAdam }) => {
        const name = "x".repeat(1e7);
        new MTAdam([{ name, data: new Float32Array(1), layer: name }], { terms: [name], lr: name as never });
      },
    ],
  ];
  test.concurrent.each(scenarios)("%s", async (_, expected, scenario, ...flags) => {
    expect(await isolated(scenario, ...flags)).toMatch(expected);
  });
});

// ---- Code of the user's that runs in the middle of a call ----

/** A scene in which memory can be taken away. */
class Stage extends HostileScene {
  saved: StateDict | undefined;
  /** Arrays that own what was taken, and what was in them then. */
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

/** What a getter, a schedule or a callback may do while a call is under way. */
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
  "sets the weights": ({ optimizer }) => (optimizer.weights = [0, 5]),
  "spoils the options": ({ optimizer }) =>
    Object.assign(optimizer.paramGroups[0]!, { lr: NaN, betas: [2, 2, 2], eps: -1 }),
};

/** The list, with a getter at `index` that acts before it gives what was there. */
function withGetter<T>(list: readonly T[], index: number, act: () => void): T[] {
  const copy = [...list];
  const value = copy[index]!;
  return Object.defineProperty(copy, index, { get: () => (act(), value) });
}

/** An object that acts whenever it is looked at. */
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

function interrupts(arrays: boolean, table: Record<string, Place>): void {
  test.each(Object.entries(table))("from %s", async (_, place) => {
    const wrong: string[] = [];
    for (const [what, action] of Object.entries(actions)) {
      const stage = new Stage(arrays);
      stage.saved = await stage.optimizer.stateDict();
      const acted: string[] = [];
      const act = (): void => {
        // Once: a schedule that steps would otherwise go on without end.
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
  test.each(Object.entries(calls))("%s comes before it, or one of them is refused", async (_, call) => {
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

// ---- A state that is not what it seems ----

describe("loading a hostile state", () => {
  /** Loads a state, which spoils itself meanwhile. It is loaded as it was before, or not at all. */
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
    /** The state, in which the reading number `spoiled` gives `answer`; and how many readings there were. */
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
        // Every reading on a fast device; on a slow one every fourth, others for other types of answer.
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

// ---- Values that are not what they seem ----

/** The types of it come with those of browsers only. */
interface Memory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}
const { WebAssembly } = globalThis as unknown as {
  WebAssembly: { Memory: new (of: { initial: number; maximum: number; shared?: boolean }) => Memory };
};

onCpu("arrays that are not plain ones", () => {
  class Weights extends Float32Array {
    override get length(): number {
      return super.length;
    }
  }
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 4 });
  const sharedMemory = new WebAssembly.Memory({ initial: 1, maximum: 4, shared: true });
  const over = (buffer: ArrayBufferLike, values: readonly number[]): Float32Array => {
    const array = new Float32Array(buffer, 64, values.length);
    array.set(values);
    return array;
  };
  const fake = (key: PropertyKey, value: unknown) => (values: readonly number[]) =>
    Object.defineProperty(Float32Array.from(values), key, { value });
  const kinds: Record<string, (values: readonly number[]) => Float32Array> = {
    "of a subclass": (values) => Weights.from(values),
    "of another realm": (values) =>
      vm.runInNewContext("Float32Array.from(values)", { values: [...values] }) as Float32Array,
    "over shared memory": (values) => over(new SharedArrayBuffer(128), values),
    "over WebAssembly's memory": (values) => over(memory.buffer, values),
    "over WebAssembly's shared memory": (values) => over(sharedMemory.buffer, values),
    "frozen as an object": (values) => Object.preventExtensions(Float32Array.from(values)),
    "with its own buffer": fake("buffer", new ArrayBuffer(0)),
    "with its own constructor": fake("constructor", null),
    "with its own name": fake(Symbol.toStringTag, "Float64Array"),
    "with its own iterator": fake(Symbol.iterator, () => ({ next: () => ({ done: true }) })),
    "with its own byteOffset and ptr": (values) =>
      Object.assign(fake("byteOffset", 1e9)(values), { ptr: 8n, data: 8n }),
  };
  const run = (make: (values: readonly number[]) => Float32Array): number[] => {
    const [w, g, h] = [make([1, 2, 3]), make([1, -2, 0.5]), make([3, 2, 1])];
    const optimizer = new MTAdam([w], { terms: 2, lr: 0.1 });
    optimizer.step([[g], [h]]);
    optimizer.step(optimizer.prepare([[h], [g]]));
    optimizer.addGradients([g], [h]);
    optimizer.accumulate(0, [g]);
    optimizer.update();
    return Array.prototype.slice.call(w) as number[];
  };
  // The kinds over one memory would share it.
  test.each(Object.entries(kinds).filter(([what]) => !what.includes("WebAssembly")))(
    "%s are taken",
    (_, make) => {
      expect(run(make)).toEqual(run((values) => Float32Array.from(values)));
    },
  );

  test.each([
    ["memory", memory],
    ["shared memory", sharedMemory],
  ])("over WebAssembly's %s are taken", (_, { buffer }) => {
    let at = 0;
    const make = (values: readonly number[]): Float32Array => {
      const array = new Float32Array(buffer, (at += 64), values.length);
      array.set(values);
      return array;
    };
    expect(run(make)).toEqual(run((values) => Float32Array.from(values)));
  });

  test("without a prototype are taken or refused", async () => {
    const w = Object.setPrototypeOf(Float32Array.of(1, 2, 3), null) as Float32Array;
    const { optimizer } = new HostileScene(true);
    for (const call of [() => new MTAdam([w], { terms: 1 }), () => optimizer.accumulate(0, [w, null])]) {
      expect(await outcome(call)).toMatch(/^(works|ERR_MTADAM_\w+)$/);
    }
  });

  test("growing WebAssembly memory detaches its arrays", async () => {
    const growing = new WebAssembly.Memory({ initial: 1, maximum: 4 });
    const [w, g] = [over(growing.buffer, [1, 2]), Float32Array.of(1, 1)];
    const optimizer = new MTAdam([w], { terms: 1 });
    optimizer.step([[g]]);
    growing.grow(1);
    for (const call of [
      () => optimizer.step([[g]]),
      () => optimizer.accumulate(0, [g]),
      () => optimizer.update(),
    ]) {
      expect(await outcome(call)).toBe("ERR_MTADAM_LENGTH");
    }
    const fixed = Float32Array.of(1, 2);
    const gradient = over(growing.buffer, [1, 1]);
    const other = new MTAdam([fixed], { terms: 1 });
    const prepared = other.prepare([[gradient]]);
    other.step(prepared);
    growing.grow(1);
    expect(await outcome(() => other.step(prepared))).toBe("ERR_MTADAM_LENGTH");
    expect(await outcome(() => other.step([[gradient]]))).toBe("ERR_MTADAM_LENGTH");
    expect(other.iterations).toBe(1);
  });

  const lengths = [
    0,
    2,
    4,
    1e9,
    2 ** 40,
    -1,
    0.5,
    NaN,
    "3",
    3n,
    null,
    undefined,
    Symbol("3"),
    { valueOf: () => 3 },
  ];
  test.each(lengths)("a false length of %p does not bypass a check", async (length) => {
    const liar = (): Float32Array => fake("length", length)([1, 2, 3]);
    const device = openDevice("cpu", { threads: 1 });
    const came: string[] = [];
    const allowed = async (call: () => unknown): Promise<void> => {
      came.push(await outcome(call).catch(String));
    };
    // Where it is taken, it is for what it is: three elements.
    await allowed(() => {
      const w = liar();
      new MTAdam([w], { terms: 1, lr: 0.5 }).step([[Float32Array.of(1, 1, 1)]]);
      expect([w[0], w[1], w[2]].map((value) => value?.toFixed(3))).toEqual(["0.500", "1.500", "2.500"]);
    });
    await allowed(() => {
      const w = Float32Array.of(1, 2, 3);
      new MTAdam([w], { terms: 1 }).step([[liar()]]);
      expect(w).not.toEqual(Float32Array.of(1, 2, 3));
    });
    await allowed(async () => {
      const buffer = device.buffer(liar());
      expect(buffer).toMatchObject({ length: 3, byteLength: 12 });
      expect(await buffer.download()).toEqual(Float32Array.of(1, 2, 3));
    });
    await allowed(async () => {
      const buffer = device.buffer(3);
      buffer.upload(liar());
      expect(await buffer.download()).toEqual(Float32Array.of(1, 2, 3));
    });
    await allowed(() => device.buffer(3).download(liar()));
    // Nor where a lie makes it seem to fit.
    for (const size of [2, 4]) {
      const buffer = device.buffer(new Float32Array(size));
      const lying = fake("length", size)([1, 2, 3]);
      await allowed(() => {
        buffer.upload(lying);
        throw new Error("a part was uploaded");
      });
      await allowed(async () => {
        await buffer.download(lying);
        throw new Error("a part was downloaded");
      });
    }
    expect(came.filter((one) => !/^(works|TypeError|ERR_MTADAM_\w+)$/.test(one))).toEqual([]);
  });
});

describe("objects that are not plain ones", () => {
  const nothing = (entries: object): object => Object.assign(Object.create(null) as object, entries);

  test("without a prototype are options, gradients, callbacks and weights", async () => {
    const { optimizer, g } = inBuffers();
    optimizer.step(nothing({ content: nothing({ w: g[0] }) }) as never, nothing({ gradientScale: 2 }));
    await optimizer.stepEach(nothing({ style: () => g }) as never);
    optimizer.weights = nothing({ style: 2 }) as Record<string, number>;
    expect(optimizer.weights).toEqual([1, 2]);
    const parameters = [nothing({ parameters: [nothing({ data: g[0], name: "w" })], lr: 1 })];
    const other = new MTAdam(parameters as never, nothing({ terms: 1 }) as never);
    other.step([[null]]);
    expect([other.iterations, optimizer.iterations]).toEqual([1, 3]);
  });

  test("with names of Object.prototype are as good as others", async () => {
    const names = ["__proto__", "constructor", "toString", "hasOwnProperty", "valueOf", "then"];
    const buffers = names.map((_, k) => ownDevice.buffer(Float32Array.of(k)));
    const parameters = names.map((name, k) => ({ name, data: buffers[k]! }));
    const optimizer = new MTAdam(parameters, { terms: names, lr: 0.5 });
    const gradient = ownDevice.buffer(Float32Array.of(1));
    for (const name of names) {
      const before = await Promise.all(buffers.map((one) => one.download()));
      const gradients = Object.fromEntries([[name, Object.fromEntries([[name, gradient]])]]);
      optimizer.step(gradients);
      const now = await Promise.all(buffers.map((one) => one.download()));
      expect(names.filter((_, k) => before[k]![0] !== now[k]![0])).toEqual([name]);
    }
    await optimizer.loadStateDict(await optimizer.stateDict());
    expect(await outcome(() => optimizer.accumulate("isPrototypeOf", null))).toBe("ERR_MTADAM_TERM");
    expect(
      await outcome(() =>
        optimizer.step(JSON.parse('{"propertyIsEnumerable": null}') as Record<string, null>),
      ),
    ).toBe("ERR_MTADAM_TERM");
    expect(
      await outcome(() => new MTAdam([gradient], JSON.parse('{"terms": 1, "__proto__": 1}') as never)),
    ).toBe("ERR_MTADAM_OPTION");
  });

  const evil: Record<string, () => unknown> = {
    "a revoked proxy": revoked,
    "a proxy that throws": () => throwing({}),
    "a list that throws": () => throwing([]),
    "a function that throws": () => throwing((): void => undefined),
    "an object whose conversion throws": () => ({
      [Symbol.toPrimitive]: () => {
        throw new Mischief();
      },
    }),
    "an array that has only holes": () => new Array<unknown>(2),
    "a class": () => Map,
    "an array with an iterator that throws": () =>
      Object.assign([null, null], {
        [Symbol.iterator]: () => {
          throw new Mischief();
        },
      }),
  };
  test.each(Object.entries(evil))("%s in any place is an error or does nothing", async (_, make) => {
    const wrong: string[] = [];
    const tried = Object.entries(uses).flatMap(([name, use]) =>
      Array.from({ length: use.arguments.length }, (_, position) => ({ name, use, position })),
    );
    for (const { name, use, position } of tried) {
      const scene = inBuffers();
      const before = await scene.fingerprint();
      const given = use.arguments.map((argument, k) => (k === position ? make() : argument(scene)));
      const came = await outcome(() => use.call(scene, given as never[])).catch(String);
      if (!/^(works|Mischief|TypeError|ERR_MTADAM_\w+)$/.test(came))
        wrong.push(`${name}, ${position}: ${came}`);
      if (came !== "works" && (await scene.fingerprint()) !== before)
        wrong.push(`${name}, ${position}: has changed`);
    }
    expect(wrong).toEqual([]);
  });
});

// ---- Anything, anywhere ----

/** A public function, and arguments that are right. */
interface Use {
  arguments: readonly ((scene: HostileScene) => unknown)[];
  call: (scene: HostileScene, given: never[]) => unknown;
}

const options = (): unknown => ({ gradientScale: 2, weights: [1, 2], stream: null });
const gradientsOf = ({ g }: HostileScene): unknown => [g, { w: g[0], b: null }];
const method = (name: keyof MTAdam, ...args: ((scene: HostileScene) => unknown)[]): Use => ({
  arguments: args,
  call: ({ optimizer }, given) => (optimizer[name] as (...args: never[]) => unknown)(...given),
});
const group = (): Record<string, unknown> => ({
  lr: 0.1,
  betas: [0.9, 0.99, 0.9],
  eps: 1e-8,
  weightDecay: 0.1,
  decoupledWeightDecay: true,
  maximize: false,
});

const uses: Record<string, Use> = {
  "new MTAdam": {
    arguments: [
      (scene) => [
        {
          parameters: [{ name: "a", data: scene.g[0], length: 3, shape: [3], dtype: "float32", layer: "l" }],
          ...group(),
        },
        { parameters: [scene.g[1]], lr: 0 },
      ],
      (scene) => ({
        terms: 2,
        weights: [1, 2],
        amsgrad: true,
        firstMoment: "summed",
        initialNorm: 1,
        device: scene.device,
        stream: null,
        ...group(),
      }),
    ],
    call: (_, [parameters, given]) => new MTAdam(parameters!, given!).dispose(),
  },
  stateBytes: {
    arguments: [(scene) => [scene.w, { name: "b", data: scene.b }], () => ({ terms: ["a", "b"] })],
    call: (_, [parameters, given]) => MTAdam.stateBytes(parameters!, given!),
  },
  step: method("step", gradientsOf, options),
  "a prepared step": method("step", ({ prepared }) => prepared, options),
  accumulate: method(
    "accumulate",
    () => "style",
    ({ g }) => g,
    options,
  ),
  stepEach: method("stepEach", ({ g }) => [() => g, () => null], options),
  update: method("update", () => ({ stream: null })),
  prepare: method("prepare", gradientsOf),
  addGradients: method(
    "addGradients",
    ({ g }) => g,
    (scene) => scene.gradients(),
  ),
  loadStateDict: method(
    "loadStateDict",
    () => state,
    () => ({ strict: false }),
  ),
  "prepared.set": {
    arguments: [() => 0, () => "b", ({ g }) => g[1]],
    call: ({ prepared }, [term, parameter, gradient]) => prepared.set(term!, parameter!, gradient),
  },
  "the weights": {
    arguments: [() => [1, 2]],
    call: ({ optimizer }, [weights]) => {
      optimizer.weights = weights!;
    },
  },
  lr: {
    arguments: [() => 1],
    call: ({ optimizer }, [lr]) => {
      optimizer.lr = lr!;
    },
  },
  "a schedule": {
    arguments: [() => 1],
    call: ({ optimizer, g }, [lr]) => {
      const before = optimizer.lr;
      optimizer.lr = () => lr!;
      try {
        optimizer.step([g, g]);
      } finally {
        optimizer.lr = before;
      }
    },
  },
  "a callback's value": {
    arguments: [({ g }) => g],
    call: async (scene, [value]) => {
      await scene.optimizer.stepEach([() => value!, () => null]);
    },
  },
  openDevice: {
    arguments: [() => "cpu", () => ({ threads: 1, instructionSet: "baseline" })],
    call: (_, [name, given]) => openDevice(name, given),
  },
  "device.buffer": {
    arguments: [() => 3, () => "float32"],
    call: ({ device }, [length, dtype]) =>
      (device as never as { buffer: (...args: unknown[]) => unknown }).buffer(length, dtype),
  },
  "DeviceBuffer.from": {
    arguments: [() => Float32Array.of(1), ({ device }) => device, () => "float32"],
    call: (_, [array, device, dtype]) => DeviceBuffer.from(array!, device!, dtype),
  },
  "new DeviceBuffer": {
    arguments: [() => null, ({ device }) => device, () => "float32", () => 3],
    call: (_, given) => Reflect.construct(DeviceBuffer, given) as unknown,
  },
  upload: {
    arguments: [() => Float32Array.of(1, -1), () => ({ stream: null })],
    call: ({ g }, [array, given]) => (g[1] as Buffer32).upload(array!, given),
  },
  download: {
    arguments: [() => new Float32Array(2)],
    call: ({ g }, [array]) => (g[1] as Buffer32).download(array),
  },
  fill: {
    arguments: [() => 1],
    call: ({ g }, [value]) => (g[1] as Buffer32).fill(value!),
  },
};

let state: StateDict;
beforeAll(async () => {
  state = await inBuffers().optimizer.stateDict();
});

/** Whether the driver would be given it as the handle of a stream. */
function isHandle(value: unknown): boolean {
  try {
    return checkStream(value) !== null;
  } catch {
    return false;
  }
}

/** Values for `stream`. A real driver looks for the stream where a handle points: a wrong one ends the process. */
function forStream(wrong: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  return testDeviceKind === "cuda" ? wrong.filter((value) => !isHandle(value)) : wrong;
}

/** The right argument with some of its parts replaced; or another value altogether. */
function spoiled(right: unknown, wrong: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  if (ArrayBuffer.isView(right) || typeof right !== "object" || right === null) {
    return fc.oneof({ weight: 3, arbitrary: fc.constant(right) }, wrong);
  }
  if (Array.isArray(right)) {
    return fc.oneof({ weight: 4, arbitrary: fc.tuple(...right.map((one) => spoiled(one, wrong))) }, wrong);
  }
  const prototype: unknown = Object.getPrototypeOf(right);
  if (prototype !== Object.prototype) return fc.oneof({ weight: 3, arbitrary: fc.constant(right) }, wrong);
  const parts = Object.fromEntries(
    Object.entries(right).map(([key, value]) => [
      key,
      spoiled(value, key === "stream" ? forStream(wrong) : wrong),
    ]),
  );
  return fc.oneof({ weight: 4, arbitrary: fc.record(parts, { requiredKeys: [] }) }, wrong);
}

const harmless: fc.Arbitrary<unknown> = fc.oneof(
  fc.anything({
    withBigInt: true,
    withBoxedValues: true,
    withDate: true,
    withMap: true,
    withNullPrototype: true,
    withObjectString: true,
    withSet: true,
    withSparseArray: true,
    withTypedArray: true,
  }),
  fc.double(),
  fc.constantFrom<unknown>(
    ...[Symbol("any"), Symbol.iterator, (): void => undefined, /x/, new WeakMap(), new Error("any")],
    ...[
      -0,
      2 ** 31,
      2 ** 32,
      2 ** 53,
      -(2 ** 53),
      2 ** 64,
      2n ** 64n,
      -1n,
      "__proto__",
      "constructor",
      "length",
    ],
    ...[new ArrayBuffer(8), new SharedArrayBuffer(8), new DataView(new ArrayBuffer(8)), Buffer.from("any")],
    ...[
      new Float32Array(0),
      new Float32Array(2),
      new Float32Array(3),
      new Float64Array(3),
      new BigInt64Array(3),
    ],
    ...[
      new Proxy({}, {}),
      new Proxy([], {}),
      new Proxy(new Float32Array(3), {}),
      Object.create(Float32Array.prototype),
    ],
    ...[
      Promise.resolve(),
      globalThis,
      Object.prototype,
      Array.prototype,
      Float32Array.prototype,
      MTAdam.prototype,
    ],
    ...[ownDevice, ownDevice.buffer(3), ownDevice.buffer(2, "float16")],
  ),
);

describe("anything, anywhere", () => {
  test.each(Object.entries(uses))(
    "%s works or is an MTAdamError, and then has changed nothing",
    async (name, use) => {
      const scene = inBuffers();
      const given = use.arguments.map((argument) => spoiled(argument(scene), harmless));
      let before = await scene.fingerprint();
      await fc.assert(
        fc.asyncProperty(fc.tuple(...given), async (values) => {
          const came = await outcome(() => use.call(scene, values as never[])).catch(String);
          expect(came).toMatch(/^(works|ERR_MTADAM_\w+)$/);
          // A rejected stepEach leaves the terms that had come.
          if (came !== "works" && name !== "stepEach") expect(await scene.fingerprint()).toBe(before);
          scene.optimizer.update();
          before = await scene.fingerprint();
        }),
        { numRuns: 200 },
      );
    },
  );
});

describe("methods called on something else", () => {
  const makeInstances = (): Record<string, object> => {
    const { optimizer, prepared, device, g } = inBuffers();
    return { optimizer, prepared, device, buffer: g[0], error: new MTAdamError("OPTION", "A.") };
  };
  const receivers: ((prototype: object, instances: Record<string, object>) => unknown)[] = [
    ...[undefined, null, 5, "x", {}, [], new Float32Array(3), Map, revoked(), throwing({})].map(
      (one) => () => one,
    ),
    (prototype) => prototype,
    (prototype) => Object.create(prototype) as object,
    ...Object.keys(makeInstances()).flatMap((name) => [
      (_: object, instances: Record<string, object>) => instances[name],
      (_: object, instances: Record<string, object>) => new Proxy(instances[name]!, {}),
    ]),
  ];
  test.each(Object.keys(makeInstances()))("those of the %s", async (name) => {
    const prototype = Object.getPrototypeOf(makeInstances()[name]) as object;
    const wrong: string[] = [];
    for (const key of Reflect.ownKeys(prototype)) {
      if (key === "constructor") continue;
      const property = Reflect.getOwnPropertyDescriptor(prototype, key) as Record<string, unknown>;
      for (const part of ["value", "get", "set"]) {
        const call = property[part];
        if (typeof call !== "function") continue;
        for (const [k, receiver] of receivers.entries()) {
          const given = receiver(prototype, makeInstances());
          const came = await outcome(
            () => Reflect.apply(call, given, [0, [null, null], {}]) as unknown,
          ).catch(String);
          const where = `${String(key)} on receiver ${k}: ${came}`;
          if (!/^(works|TypeError|Mischief|ERR_MTADAM_\w+)$/.test(came)) wrong.push(where);
        }
      }
    }
    expect(wrong).toEqual([]);
  });

  test("classes called as functions, and constructed for another class", async () => {
    const { g, prepared, device } = inBuffers();
    for (const one of [MTAdam, DeviceBuffer, MTAdamError, prepared.constructor, device.constructor]) {
      expect(await outcome(() => Reflect.apply(one, undefined, [[g[0]], { terms: 1 }]) as unknown)).toBe(
        "TypeError",
      );
    }
    const made = (): unknown => Reflect.construct(MTAdam, [[g[0]], { terms: 1 }], Array);
    expect(await outcome(made)).toMatch(/^(works|TypeError)$/);
  });

  test("subclasses work", () => {
    class Own extends MTAdam {
      override get iterations(): number {
        return super.iterations * 2;
      }
    }
    const own = new Own([ownDevice.buffer(1)], { terms: 1 });
    own.step([[null]]);
    expect(own.iterations).toBe(2);
  });
});
