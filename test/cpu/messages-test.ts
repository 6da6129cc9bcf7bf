/** Messages that tell what the caller probably meant. */

import { MTAdam } from "../../lib";
import { describeValue } from "../../lib/inspect";
import { caught } from "../support/caught";

const data = new Float32Array(1);
const make = (options: object = {}, parameters: unknown = [{ name: "weight", data }]): MTAdam =>
  new MTAdam(parameters as [], { terms: ["content", "style"], ...options });

test.each<[string, () => unknown, string]>([
  [
    "learningRate",
    () => make({ learningRate: 1 }),
    '`options` has no option "learningRate" (did you mean `lr`?).',
  ],
  [
    "learning_rate",
    () => make({ learning_rate: 1 }),
    '`options` has no option "learning_rate" (did you mean `lr`?).',
  ],
  ["epsilon", () => make({ epsilon: 1 }), '`options` has no option "epsilon" (did you mean `eps`?).'],
  [
    "weight_decay",
    () => make({ weight_decay: 1 }),
    '`options` has no option "weight_decay" (did you mean `weightDecay`?).',
  ],
  [
    "params",
    () => make({}, [{ params: [data], lr: 1 }]),
    '`group` has no option "params" (did you mean `parameters`?).',
  ],
  [
    "a property of objects",
    () => make({ ["constructor"]: 1 }),
    '`options` has no option "constructor" (it knows terms, ',
  ],
  [
    "a term",
    () => make().accumulate("sytle", null),
    '`term` must be one of the terms (content, style) or its index; got "sytle" (did you mean "style"?).',
  ],
  [
    "a term in step",
    () => make().step({ Content: null }),
    '`gradients` must have names of terms (content, style) as keys; got "Content" (did you mean "content"?).',
  ],
  [
    "a term like none",
    () => make().step({ noise: null }),
    '`gradients` must have names of terms (content, style) as keys; got "noise".',
  ],
  [
    "indices as keys",
    () => make().step({ 0: null, 1: null }),
    '`gradients` must have names of terms (content, style) as keys; got "0".',
  ],
  [
    "weights of another term",
    () => make({ weights: { noise: 1 } }),
    '`weights` must have names of terms (content, style) as keys; got "noise".',
  ],
  [
    "a parameter",
    () => make().accumulate(0, { wieght: data }),
    '`gradients["content"]` must have names of parameters (weight) as keys; got "wieght" (did you mean "weight"?).',
  ],
  [
    "an array for a parameter of 16 bits",
    () => make({}, [{ name: "w", data: [1, 2], dtype: "bfloat16" }]),
    "`w` must be a Uint16Array, a bfloat16 buffer or a device pointer; got an array of 2.",
  ],
  [
    "a Promise",
    () => make().accumulate(0, Promise.resolve([data]) as never),
    '`gradients["content"]` must be an array or an object by name of the parameter; got a Promise (await it).',
  ],
  [
    "a Promise as a gradient",
    () => make().accumulate(0, [Promise.resolve(data)] as never),
    '`gradients["content"]["weight"]` must be a Float32Array or a float32 buffer; got a Promise (await it).',
  ],
  [
    "an Int32Array",
    () => make().accumulate(0, [new Int32Array(1)] as never),
    '`gradients["content"]["weight"]` must be a Float32Array or a float32 buffer; got an Int32Array of 1.',
  ],
])("%s", async (_, call, message) => {
  const error = await caught(call);
  expect(error.message.slice(0, message.length)).toBe(message);
});

test("a tensor of TensorFlow.js, found without running its code", () => {
  class Tensor {
    dataSync(): Float32Array {
      throw new Error("called");
    }
  }
  class Variable extends Tensor {
    get shape(): never {
      throw new Error("read");
    }
  }
  expect(describeValue(new Variable())).toBe("a Tensor (pass its `dataSync()`)");
  class Other {
    get dataSync(): never {
      throw new Error("read");
    }
  }
  expect(describeValue(new Other())).toBe("an object");
  expect(describeValue(Object.create(new Proxy(new Tensor(), {})))).toBe("an object");
});

test("articles", () => {
  const described = [new Int8Array(2), new Uint8Array(2), new Float64Array(2), new BigInt64Array(2)];
  expect(described.map(describeValue)).toEqual([
    "an Int8Array of 2",
    "a Uint8Array of 2",
    "a Float64Array of 2",
    "a BigInt64Array of 2",
  ]);
});
