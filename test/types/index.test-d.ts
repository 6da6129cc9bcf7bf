// What the types promise to users: scripts/package-test.js hands this to tsd, with the package installed.

import { expectAssignable, expectNotAssignable, expectType } from "tsd";
import {
  describeDevices,
  MTAdam,
  MTAdamError,
  openDevice,
  type DeviceBuffer,
  type MTAdamOptions,
  type OptimizerSummary,
  type StateDict,
} from "mtadam";

const weight = new Float32Array(6);
const optimizer = new MTAdam([{ name: "weight", data: weight, shape: [2, 3] }, new Float32Array(2)], {
  terms: ["content", "style"],
  lr: (iterations) => 1 / (1 + iterations),
});

// A step, three ways.
optimizer.step([[weight, null], null]);
optimizer.step({ content: { weight }, style: [null, undefined] }, { gradientScale: 2 });
optimizer.accumulate("style", [weight, null], { weights: { style: 1 } });
optimizer.update();
optimizer.discard();
expectType<Promise<void>>(optimizer.stepEach({ content: () => [weight, null], style: async () => null }));

// What can be asked.
expectType<number>(optimizer.iterations);
expectType<OptimizerSummary>(optimizer.toJSON());
expectType<Promise<Float32Array>>(optimizer.norms());
expectAssignable<Promise<StateDict>>(optimizer.stateDict());
expectType<string[]>(describeDevices().cuda.architectures);

// Devices and memory.
const buffer = openDevice("cpu", { threads: 2 }).buffer(3);
expectType<DeviceBuffer<"float32">>(buffer);
expectType<bigint>(buffer.ptr);
expectAssignable<Disposable>(buffer);
expectAssignable<Error>(new MTAdamError("OPTION", "A sentence."));

// Options.
expectAssignable<MTAdamOptions>({ terms: 3 });
expectAssignable<MTAdamOptions>({ terms: 3, anchor: "max", balance: 0.5, initialNorm: "first" });
expectNotAssignable<MTAdamOptions>({ terms: 3, learningRate: 1 });
expectNotAssignable<MTAdamOptions>({ terms: 3, nonFinite: "ignore" });
expectNotAssignable<MTAdamOptions>({ lr: 1 });
expectNotAssignable<ConstructorParameters<typeof MTAdam>>([[new Float64Array(2)], { terms: 1 }]);
expectNotAssignable<Parameters<MTAdam["accumulate"]>>(["style"]);
