/** Every public function with valid arguments, for tests that replace one of them. */

import { DeviceBuffer, MTAdam, openDevice, type StateDict } from "../../lib";
import { type HostileScene, inBuffers } from "./hostile";
import type { Buffer32 } from "./scene";

/** A public function with valid arguments. */
export interface Use {
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

export const uses: Record<string, Use> = {
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
        secondMoment: "summed",
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
