// The promises of the types to users. scripts/test/package-test.js runs tsd on this file, with the package installed.

import { expectAssignable, expectNotAssignable, expectType } from "tsd";
import {
  describeDevices,
  MTAdam,
  MTAdamError,
  openDevice,
  tuneWeights,
  type DeviceBuffer,
  type MTAdamOptions,
  type OptimizerSummary,
  type Resume,
  type StateDict,
  type TuneOptions,
  type TuningRow,
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

// Queries.
expectType<number>(optimizer.iterations);
expectType<OptimizerSummary>(optimizer.toJSON());
expectType<Promise<Float32Array>>(optimizer.norms());
expectAssignable<Promise<StateDict>>(optimizer.stateDict());
expectType<string[]>(describeDevices().cuda.architectures);

// A search for weights, in order or by name.
expectType<Promise<{ weights: number[]; table: TuningRow<2>[] }>>(tuneWeights(([a]) => a ?? 0, { terms: 2 }));
void tuneWeights(({ content, style }, steps, { resume }) => content + style + steps + resume.steps, {
  terms: ["content", "style"],
  resume: [{ weights: { content: 1, style: 1 }, steps: 1, loss: null }],
});
void tuneWeights(
  (weights, steps, { resume }: { resume: Resume<{ steps: number }> }) => {
    const run = (resume.state ??= { steps: 0 });
    run.steps = steps;
    return weights.style + run.steps;
  },
  { terms: ["content", "style"] },
);
expectNotAssignable<TuneOptions>({ terms: 2, value: [1] });

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
