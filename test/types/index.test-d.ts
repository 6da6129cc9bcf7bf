// The promises of the types to users. scripts/test/package-test.js runs tsd on this file, with the package installed.

import { expectAssignable, expectNotAssignable, expectType } from "tsd";
import {
  BalanceMonitor,
  describeDevices,
  loadTensors,
  MTAdam,
  MTAdamError,
  openDevice,
  tuneWeights,
  type DeviceBuffer,
  type Float16ArrayLike,
  type Gradient,
  type MTAdamOptions,
  type OptimizerSummary,
  type ParameterDescription,
  type Parameters as OptimizerParameters,
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

// What a file has is a parameter, unless it is float64.
void loadTensors("model.safetensors").then(({ tensors }) => {
  for (const tensor of tensors.values()) {
    if (tensor.dtype !== "float64") new MTAdam([tensor], { terms: 1 });
  }
});
new BalanceMonitor(optimizer, { file: "run.jsonl", every: undefined });

// A step, three ways.
optimizer.step([[weight, null], null]);
optimizer.step({ content: { weight }, style: [null, undefined] }, { gradientScale: 2 });
optimizer.accumulate("style", [weight, null], { weights: { style: 1 } });
optimizer.update();
optimizer.discard();
expectType<Promise<void>>(optimizer.stepEach({ content: () => [weight, null], style: async () => null }));

// Gradients and parameters of 16 bits.
const codes = new Uint16Array(6);
new MTAdam([{ data: weight, gradientDtype: "bfloat16" }, weight], { terms: 1, gradientDtype: "float16" });
optimizer.step([[codes, null], null]);
const half = {} as Float16ArrayLike;
expectAssignable<Gradient>(half);
expectNotAssignable<Gradient>(new Float64Array(6));
expectNotAssignable<OptimizerParameters>([codes]);
new MTAdam([{ data: codes, dtype: "bfloat16" }], { terms: 1, masterWeights: true, rounding: "nearest" });
expectNotAssignable<ParameterDescription>({ data: weight, dtype: "float64" });
expectNotAssignable<MTAdamOptions["gradientDtype"]>("float64");

// Names of terms and parameters: a name that is not one of them is an error.
expectType<MTAdam<"content" | "style", "weight">>(optimizer);
expectType<readonly ("content" | "style")[]>(optimizer.terms);
// @ts-expect-error -- no such term
optimizer.step({ contnet: [weight, null] });
// @ts-expect-error -- no such parameter
optimizer.step({ content: { wieght: weight } });
// @ts-expect-error -- no such term
optimizer.accumulate("sytle", [weight, null]);
// @ts-expect-error -- no such parameter
optimizer.accumulate("style", { wieght: weight });
// @ts-expect-error -- no such term
optimizer.weights = { contnet: 2 };
// @ts-expect-error -- no such term
optimizer.step([null, null], { weights: { contnet: 2 } });
// @ts-expect-error -- no such term
optimizer.accumulate("style", null, { weights: { contnet: 2 } });
// @ts-expect-error -- no such term
void optimizer.stepEach({ contnet: () => null });
// @ts-expect-error -- no such term
void optimizer.stepEach([null, null], { weights: { contnet: 2 } });
// @ts-expect-error -- no such term
optimizer.prepare({ contnet: null });
// @ts-expect-error -- no such parameter
optimizer.prepare({ content: { wieght: weight } });
// @ts-expect-error -- no such parameter
optimizer.addGradients({ wieght: weight }, [weight, null]);
// @ts-expect-error -- no such term
optimizer.refresh({ weights: { contnet: 2 } });
// @ts-expect-error -- no such term
optimizer.removeTerm("contnet");
// @ts-expect-error -- no such term
new MTAdam([weight], { terms: ["content", "style"], anchor: "contnet" });
// @ts-expect-error -- no such term
new MTAdam([weight], { terms: ["content", "style"], weights: { contnet: 2 } });

// Names that are right, and indices.
optimizer.weights = { style: 2 };
optimizer.accumulate(0, { weight, 1: weight });
optimizer.accumulate("style", undefined, { weights: { content: undefined } });
optimizer.removeTerm(1);
for (const term of optimizer.terms) optimizer.step({ [term]: [weight, null] });
new MTAdam([weight], { terms: ["content", "style"], anchor: "style", weights: { content: 2 } });
new MTAdam([weight], { terms: ["content", "style"], anchor: "max" });

// Prepared gradients and captured steps know the names, too.
const prepared = optimizer.prepare({ content: { weight } });
optimizer.step(prepared);
prepared.set("content", "weight", weight);
prepared.set(0, "1", null);
// @ts-expect-error -- no such term
prepared.set("contnet", "weight", weight);
// @ts-expect-error -- no such parameter
prepared.set("content", "wieght", weight);
// @ts-expect-error -- no such term
optimizer.captureStep(prepared).replay({ weights: { contnet: 2 } });

// Parameters in groups.
const grouped = new MTAdam(
  [
    { parameters: [{ name: "encoder", data: weight }] },
    { parameters: [{ name: "head", data: weight }], lr: 1 },
  ],
  { terms: ["content"] },
);
expectType<MTAdam<"content", "encoder" | "head">>(grouped);
// @ts-expect-error -- no such parameter
grouped.accumulate("content", { haed: weight });

// A term or a group that is added: the same optimizer, with the name in its type.
const withEdges = optimizer.addTerm("edges");
expectType<MTAdam<"content" | "style" | "edges", "weight">>(withEdges);
withEdges.accumulate("edges", { weight });
// @ts-expect-error -- no such term
optimizer.accumulate("edges", { weight });
expectType<MTAdam<"content" | "style", "weight" | "bias">>(
  optimizer.addParamGroup({ parameters: [{ name: "bias", data: weight }], lr: undefined }),
);

// Names that are known only at run time, and numbered terms.
declare const names: string[];
declare const name: string;
expectType<MTAdam>(new MTAdam([weight], { terms: names }));
expectType<MTAdam>(new MTAdam([weight], { terms: 3 }));
expectType<MTAdam<"content">>(new MTAdam([{ name, data: weight }], { terms: ["content"] }));
new MTAdam(
  names.map((name) => ({ name, data: weight })),
  { terms: names, anchor: name, weights: { [name]: 1 } },
);
const dynamic: MTAdam = new MTAdam([{ name: "weight", data: weight }], { terms: ["content", "style"] });
dynamic.step({ [name]: { [name]: weight } });
dynamic.accumulate(name, null);
dynamic.weights = Object.fromEntries(names.map((name) => [name, 1]));
optimizer.step(Object.fromEntries(names.map((name) => [name, null])));

// An optimizer with known names is an optimizer; one with other names is not.
const options: MTAdamOptions = { terms: ["content", "style"], anchor: "style" };
const parameters: OptimizerParameters = [{ name: "weight", data: weight }];
expectType<MTAdam>(new MTAdam(parameters, options));
expectAssignable<MTAdam>(optimizer);
expectAssignable<MTAdam>(grouped);
expectNotAssignable<MTAdam<"content">>(optimizer);
declare const typed: MTAdamOptions<"content">;
expectAssignable<MTAdamOptions>(typed);

// An option may be undefined where it may be left out, also with exactOptionalPropertyTypes.
new MTAdam([{ name: undefined, data: weight, length: undefined, shape: undefined, layer: undefined }], {
  terms: 2,
  lr: undefined,
  anchor: undefined,
  weights: undefined,
  device: undefined,
  stream: undefined,
});
optimizer.step([null, null], { weights: undefined, gradientScale: undefined, stream: undefined });
void optimizer.save("a", { onProgress: undefined });
void optimizer.load("a", { strict: undefined, onProgress: undefined });
openDevice("cpu", { threads: undefined });

// Queries.
expectType<number>(optimizer.iterations);
expectType<OptimizerSummary>(optimizer.toJSON());
expectType<Promise<Float32Array>>(optimizer.norms());
expectType<() => void>(optimizer.onStats(({ anchors }) => expectType<Int32Array>(anchors), { every: 10 }));
expectType<() => void>(optimizer.onStep((iteration) => expectType<number>(iteration)));
optimizer.onStats((diagnostics) => {
  expectType<number>(diagnostics.at("style", 0).shareBefore);
  expectType<boolean>(diagnostics.table()[0]!.anchor);
});
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
const narrow = openDevice("cpu").buffer(half, "float16");
expectType<Promise<Uint16Array>>(narrow.download());
expectType<Promise<Float16ArrayLike>>(narrow.download(half));
// @ts-expect-error -- an array of another type
buffer.upload(half);
expectAssignable<Error>(new MTAdamError("OPTION", "A sentence."));

// Options.
expectAssignable<MTAdamOptions>({ terms: 3 });
expectAssignable<MTAdamOptions>({ terms: 3, anchor: "max", balance: 0.5, initialNorm: "first" });
expectNotAssignable<MTAdamOptions>({ terms: 3, learningRate: 1 });
expectNotAssignable<MTAdamOptions>({ terms: 3, nonFinite: "ignore" });
expectNotAssignable<MTAdamOptions>({ lr: 1 });
expectNotAssignable<ConstructorParameters<typeof MTAdam>>([[new Float64Array(2)], { terms: 1 }]);
expectNotAssignable<Parameters<MTAdam["accumulate"]>>(["style"]);
