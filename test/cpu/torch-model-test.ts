import { MTAdam } from "../../lib";
import type { PythonValue, TensorValue, TorchGradients, TorchModel } from "../../lib/torch";
import { caught } from "../support/caught";
import { Models, SMALL, withTorch } from "../support/torch";

/** Two layers and a head that only the first term reaches; \`skip\` leaves terms out. */
const NET = `
import torch
from torch import nn
from torch.nn import functional as F

class Model(nn.Module):
    terms = ["fit", "size"]

    def __init__(self, width=3, *, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Linear(2, width)
        self.head = nn.Linear(width, 1)
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)

    def losses(self, batch):
        output = self.head(torch.tanh(self.body(batch["x"])))[:, 0]
        losses = {"fit": F.mse_loss(output, batch["y"]), "size": self.body.weight.square().sum()}
        return {name: loss for name, loss in losses.items() if name not in batch.get("skip", [])}

    def backward(self, batch):
        """PyTorch's own gradients, as lists; None where there is none."""
        result = {}
        for term, loss in self.losses(batch).items():
            self.zero_grad(set_to_none=True)
            loss.backward(retain_graph=True)
            result[term] = {n: None if p.grad is None else p.grad.clone() for n, p in self.named_parameters()}
        return result

    def weight(self):
        return self.body.weight

    @torch.no_grad()
    def double(self):
        self.body.weight.mul_(2)

    def freeze(self, name, on=True):
        self.get_parameter(name).requires_grad_(not on)
`;

const random = (length: number): Float32Array => Float32Array.from({ length }, (_, k) => Math.sin(7 * k + 1));
const batch = { x: { data: random(20), shape: [10, 2] }, y: random(10) };

withTorch("a PyTorch model", () => {
  const models = new Models();
  let model: TorchModel;
  beforeAll(async () => {
    model = await models.open(NET);
  });

  test("has the parameters that are trained, in order, and the terms", async () => {
    expect(model.terms).toEqual(["fit", "size"]);
    expect(model.parameters.map(({ name, shape, data }) => [name, shape, data.length])).toEqual([
      ["body.weight", [3, 2], 6],
      ["body.bias", [3], 3],
      ["head.weight", [1, 3], 3],
      ["head.bias", [1], 1],
    ]);
  });

  test("gets its arguments in order or by keyword", async () => {
    const [inOrder, byKeyword] = await Promise.all([
      models.open(NET, { args: [5] }),
      models.open(NET, { args: { seed: 1, width: 5 } }),
    ]);
    const [first, second] = [inOrder, byKeyword].map(({ parameters }) => parameters[0]!);
    expect([first!.shape, second!.shape]).toEqual([
      [5, 2],
      [5, 2],
    ]);
    expect(second!.data).not.toEqual(first!.data);
  });

  test("shares its parameters' memory in both directions", async () => {
    const { data } = model.parameters[0]!;
    const before = Float32Array.from(data);
    data[3] = 42;
    expect(((await model.call("weight")) as TensorValue).data[3]).toBe(42);
    await model.call("double");
    expect(data[3]).toBe(84);
    expect(data[0]).toBe(2 * before[0]!);
  });

  test("gives PyTorch's gradients, and null where a term does not reach a parameter", async () => {
    const gradients = await model.gradients(batch);
    const expected = (await model.call("backward", [batch])) as typeof gradients;
    expect(Object.keys(gradients)).toEqual(["fit", "size"]);
    for (const term of model.terms) {
      for (const { name } of model.parameters) {
        const theirs = expected[term]![name] as unknown as TensorValue | null;
        expect(gradients[term]![name]).toEqual(theirs === null ? null : theirs.data);
      }
    }
    expect(gradients["size"]!["head.weight"]).toBeNull();
    expect(gradients["fit"]!["head.weight"]).not.toBeNull();
  });

  test("is trained by MTAdam as the same arrays in this process are", async () => {
    const model = await models.open(NET);
    const copies = model.parameters.map(({ name, data }) => ({ name, data: Float32Array.from(data) }));
    const options = { terms: model.terms, lr: 0.02, preset: "recommended" } as const;
    const optimizer = new MTAdam(model.parameters, options);
    const reference = new MTAdam(copies, options);
    let first = 0;
    for (let step = 0; step < 100; ++step) {
      const gradients = await model.gradients(batch);
      if (step === 0) first = model.losses["fit"]!;
      reference.step(structuredClone(gradients));
      optimizer.step(gradients);
    }
    expect(model.parameters.map(({ data }) => data)).toEqual(copies.map(({ data }) => data));
    expect(model.losses["fit"]).toBeLessThan(first);
  });

  test.each(["bfloat16", "float16"] as const)(
    "may have parameters of %s, which lie in arrays of their bits",
    async (dtype) => {
      const narrow = await models.open(
        `
import torch
from torch import nn

class Model(nn.Module):
    terms = ["size", "shift"]

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -2.0, 0.3, 5e-3]).to(torch.${dtype}))
        self.empty = nn.Parameter(torch.empty(0, 2).to(torch.${dtype}))
        self.b = nn.Parameter(torch.tensor([0.5]))

    def losses(self, batch):
        return {"size": self.w.square().sum() + 0 * self.empty.sum(), "shift": self.w.float().sum() * self.b.sum()}

    def values(self):
        return [self.w, self.b]
`,
      );
      expect(
        narrow.parameters.map((each) => [each.dtype, each.gradientDtype, each.data.constructor.name]),
      ).toEqual([
        [dtype, dtype, "Uint16Array"],
        [dtype, dtype, "Uint16Array"],
        ["float32", "float32", "Float32Array"],
      ]);
      const own = narrow.parameters.map((each) => ({ ...each, data: each.data.slice() }));
      const options = { terms: narrow.terms, masterWeights: true, lr: 0.01 };
      const [optimizer, reference] = [new MTAdam(narrow.parameters, options), new MTAdam(own, options)];
      for (let step = 0; step < 5; ++step) {
        const gradients = await narrow.gradients(null);
        const copies = Object.values(gradients).map((ofTerm) =>
          Object.values(ofTerm!).map((values) => values?.slice() ?? null),
        );
        optimizer.step(gradients);
        reference.step(copies);
        narrow.parameters.forEach(({ data }, k) => expect(data).toEqual(own[k]!.data));
      }
      const [w, b] = (await narrow.call("values")) as TensorValue[];
      const decoded = (code: number): number =>
        dtype === "bfloat16"
          ? new Float32Array(Uint32Array.of(code << 16).buffer)[0]!
          : (-1) ** (code >> 15) * 2 ** (((code >> 10) & 31) - 25) * (1024 + (code & 1023));
      expect([...(w!.data as Float32Array)]).toEqual(Array.from(own[0]!.data, decoded));
      expect(b!.data).toEqual(own[2]!.data);
      expect(w!.data[0]).toBeLessThan(0.95); // it began at 1
    },
  );

  test("gives the same arrays in every call, so that a step can be prepared", async () => {
    const optimizer = new MTAdam(model.parameters, { terms: model.terms });
    const gradients = await model.gradients(batch);
    const prepared = optimizer.prepare(gradients);
    const again = await model.gradients(batch);
    expect(again["fit"]!["body.weight"]).toBe(gradients["fit"]!["body.weight"]);
    optimizer.step(prepared);
    await optimizer.stepEach({ fit: () => again["fit"], size: () => again["size"] });
    expect(optimizer.iterations).toBe(2);
  });

  test("leaves out a term that `losses` leaves out", async () => {
    const gradients = await model.gradients({ ...batch, skip: ["fit"] });
    expect(gradients["fit"]).toBeNull();
    expect(gradients["size"]!["body.weight"]).not.toBeNull();
    expect(model.losses).toEqual({ fit: null, size: expect.any(Number) as number });
  });

  test("leaves out a parameter that is frozen for a while", async () => {
    await model.call("freeze", ["head.bias"]);
    expect((await model.gradients(batch))["fit"]!["head.bias"]).toBeNull();
    await model.call("freeze", { name: "head.bias", on: false });
    expect((await model.gradients(batch))["fit"]!["head.bias"]).toHaveLength(1);
  });

  test("computes some terms, for some parameters, on request", async () => {
    const all = structuredClone(await model.gradients(batch));
    const some = await model.gradients(batch, { terms: ["fit"], parameters: ["head.weight", "head.bias"] });
    expect(some).toEqual({
      fit: { "head.weight": all["fit"]!["head.weight"], "head.bias": all["fit"]!["head.bias"] },
    });
    expect(Object.keys(model.losses)).toEqual(["fit"]);
    const unknown = await caught(() => model.gradients(batch, { terms: ["fits"] }));
    expect(unknown).toMatchObject({ code: "ERR_MTADAM_TERM" });
    const nobody = await caught(() => model.gradients(batch, { parameters: ["head.weights"] }));
    expect(nobody).toMatchObject({ code: "ERR_MTADAM_OPTION" });
  });

  test("tells a loss that is not a number", async () => {
    await model.gradients({ ...batch, y: new Float32Array(10).fill(NaN) });
    expect(model.losses["fit"]).toBeNaN();
    await model.gradients({ ...batch, y: new Float32Array(10).fill(1e30) });
    expect(model.losses["fit"]).toBe(Infinity);
  });

  test("may have a parameter without elements, one without dimensions, and tied ones", async () => {
    const model = await models.open(`
import torch
from torch import nn

class Model(nn.Module):
    terms = ["one"]

    def __init__(self):
        super().__init__()
        self.empty = nn.Parameter(torch.empty(0, 3))
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.again = self.scale
        self.matrix = nn.Parameter(torch.arange(6.0).view(2, 3).t())

    def losses(self, batch):
        return {"one": self.again * self.matrix[2, 1] + self.empty.sum()}
`);
    expect(model.parameters.map(({ name, shape }) => [name, shape])).toEqual([
      ["empty", [0, 3]],
      ["scale", []],
      ["matrix", [3, 2]],
    ]);
    expect(model.parameters[2]!.data).toEqual(Float32Array.of(0, 3, 1, 4, 2, 5));
    const { one } = await model.gradients(null);
    expect(one!["empty"]).toHaveLength(0);
    expect(one!["scale"]).toEqual(Float32Array.of(5));
    expect(one!["matrix"]).toEqual(Float32Array.of(0, 0, 0, 0, 0, 2));
  });

  test("may load its batches in processes that are forked or started anew", async () => {
    const loads = await models.open(`
import torch
from torch.utils.data import DataLoader, Dataset
${SMALL}
    def load(self, how):
        loader = DataLoader(Squares(), batch_size=2, num_workers=1, multiprocessing_context=how)
        return [batch.tolist() for batch in loader]

class Squares(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index * index
`);
    for (const how of ["fork", "spawn"]) {
      expect(await loads.call("load", [how])).toEqual([
        [0, 1],
        [4, 9],
      ]);
    }
  });

  test("takes a sparse gradient", async () => {
    const model = await models.open(`
import torch
from torch import nn

class Model(nn.Module):
    terms = ["sum"]

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(4, 2, sparse=True)

    def losses(self, batch):
        return {"sum": self.words(batch.long()).sum()}
`);
    const { sum } = await model.gradients(Uint8Array.of(2, 2, 0));
    expect(sum!["words.weight"]).toEqual(Float32Array.of(1, 1, 0, 0, 2, 2, 0, 0));
  });

  test("gives the gradients inside a reentrant checkpoint, and runs hooks", async () => {
    const model = await models.open(`
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

class Model(nn.Module):
    terms = ["first", "second"]

    def __init__(self):
        super().__init__()
        self.inner = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.outer = nn.Parameter(torch.tensor([3.0, 4.0]))
        self.outer.register_hook(lambda gradient: gradient.clamp(max=1.5))

    def losses(self, batch):
        dummy = torch.ones(1, requires_grad=True)
        inner = checkpoint(lambda one: one * self.inner, dummy, use_reentrant=True)
        return {"first": (inner * self.outer).sum(), "second": inner.sum()}
`);
    const { first, second } = await model.gradients(null);
    expect(first).toEqual({ inner: Float32Array.of(3, 4), outer: Float32Array.of(1, 1.5) });
    expect(second).toEqual({ inner: Float32Array.of(1, 1), outer: null });
    const { first: part } = await model.gradients(null, { parameters: ["outer"] });
    expect(part).toEqual({ outer: Float32Array.of(1, 1.5) });
  });

  test("adds up the gradients of micro-batches, where absent is not zero", async () => {
    const model = await models.open(NET);
    const halves = [0, 1].map((k) => ({
      x: { data: batch.x.data.subarray(10 * k, 10 * k + 10), shape: [5, 2] },
      y: batch.y.subarray(5 * k, 5 * k + 5),
    }));
    const singles: TorchGradients[] = [];
    for (const half of halves) singles.push(structuredClone(await model.gradients(half)));
    await model.gradients({ ...halves[0]!, skip: ["size"] });
    const sum = await model.gradients(halves[1], { add: true });
    for (const { name } of model.parameters) {
      const [first, second] = singles.map(({ fit }) => fit![name]!);
      expect(sum["fit"]![name]).toEqual(first!.map((value, k) => value + second![k]!));
      expect(sum["size"]![name]).toEqual(singles[1]!["size"]![name]);
    }
    // A term that is absent now has come before.
    const more = await model.gradients({ ...halves[0]!, skip: ["size"] }, { add: true });
    expect(more["size"]).toEqual(singles[1]!["size"]);
    expect(more["size"]!["head.weight"]).toBeNull();
    const anew = await model.gradients({ ...halves[0]!, skip: ["size"] });
    expect(anew).toEqual({ fit: singles[0]!["fit"], size: null });
    const refused = await caught(() => model.gradients(halves[0], { add: 1 as never }));
    expect(refused).toMatchObject({
      code: "ERR_MTADAM_OPTION",
      message: "`add` must be true or false; got 1.",
    });
  });

  test("keeps the sums of other parts where only some are added to", async () => {
    const model = await models.open(NET);
    const once = structuredClone(await model.gradients(batch));
    await model.gradients(batch, { terms: ["fit"], parameters: ["body.bias"], add: true });
    const again = await model.gradients({ ...batch, skip: ["fit", "size"] }, { add: true });
    expect(again["fit"]!["body.bias"]).toEqual(once["fit"]!["body.bias"]!.map((value) => 2 * value));
    expect(again["fit"]!["head.weight"]).toEqual(once["fit"]!["head.weight"]);
    expect(again["size"]).toEqual(once["size"]);
  });
});

withTorch("values that cross to PyTorch and back", () => {
  const models = new Models();
  let model: TorchModel;
  beforeAll(async () => {
    model = await models.open(SMALL + ECHO);
  });
  const ECHO = `
    def echo(self, value):
        return value

    def kinds(self, values):
        return [f"{v.dtype} {list(v.shape)}" if torch.is_tensor(v) else type(v).__name__ for v in values]

    def results(self):
        return [
            torch.tensor([True, False]), torch.tensor([1.5]).half(), torch.tensor(7), torch.empty(0, 2),
            torch.eye(2).to_sparse(), torch.arange(6.0).view(2, 3).t(), (1, 2), {1: "one"}, 2**60,
        ]

    def add(self, tensor):
        tensor.add_(1)
        return tensor.sum()
`;

  test("come back as they went", async () => {
    const values: PythonValue[] = [
      null,
      true,
      "ä\u0000\u{1f600}",
      0,
      -0,
      1.5e-310,
      NaN,
      -Infinity,
      2 ** 53 - 1,
      12345678901234567890n,
      [],
      {},
      { $: 1, __proto__: null, nested: [{ $: { $: NaN } }] },
    ];
    for (const value of values) expect(await model.call("echo", [value])).toEqual(value);
    const arrays = [
      Float32Array.of(1.5, NaN, -Infinity),
      Float64Array.of(1e300),
      Int8Array.of(-1),
      Uint8Array.of(255),
      Int16Array.of(-300),
      Int32Array.of(-(2 ** 31)),
      BigInt64Array.of(-(2n ** 63n)),
    ];
    const came = (await model.call("echo", [arrays])) as TensorValue[];
    expect(came.map(({ data }) => data)).toEqual(arrays);
    expect(came.map(({ shape }) => shape)).toEqual(arrays.map(({ length }) => [length]));
  });

  test("are tensors of the array's dtype and shape", async () => {
    const whole = Float32Array.from({ length: 12 }, (_, k) => k);
    const values = [
      { data: whole.subarray(3, 9), shape: [2, 3] },
      { data: Float32Array.of(1), shape: [] },
      { data: new Int32Array(0), shape: [0, 4] },
      { data: whole, shape: [12], more: 1 },
      BigInt64Array.of(1n),
      5n,
      new Uint8ClampedArray(2),
      Buffer.from([1, 2, 3]),
      new Float32Array(new SharedArrayBuffer(8)),
    ];
    expect(await model.call("kinds", [values as PythonValue])).toEqual([
      "torch.float32 [2, 3]",
      "torch.float32 []",
      "torch.int32 [0, 4]",
      "dict",
      "torch.int64 [1]",
      "int",
      "torch.uint8 [2]",
      "torch.uint8 [3]",
      "torch.float32 [2]",
    ]);
    expect(await model.call("echo", [values[0] as PythonValue])).toEqual({
      data: Float32Array.of(3, 4, 5, 6, 7, 8),
      shape: [2, 3],
    });
  });

  test("of any kind that PyTorch has come back", async () => {
    expect(await model.call("results")).toEqual([
      { data: Uint8Array.of(1, 0), shape: [2] },
      { data: Float32Array.of(1.5), shape: [1] },
      7,
      { data: new Float32Array(0), shape: [0, 2] },
      { data: Float32Array.of(1, 0, 0, 1), shape: [2, 2] },
      { data: Float32Array.of(0, 3, 1, 4, 2, 5), shape: [3, 2] },
      [1, 2],
      { 1: "one" },
      2n ** 60n,
    ]);
  });

  test("may be large, and Python's changes stay there", async () => {
    const large = Float32Array.from({ length: 5_000_000 }, (_, k) => k % 7);
    expect(await model.call("add", [large])).toBeCloseTo(14_999_997 + 5_000_000, -2);
    const { data } = (await model.call("echo", [[Uint8Array.of(1), large]]).then((value) => {
      return (value as TensorValue[])[1]!;
    })) as { data: Float32Array };
    expect(Buffer.from(data.buffer, data.byteOffset, data.byteLength).equals(Buffer.from(large.buffer))).toBe(
      true,
    );
  });

  test.each([
    ["a Date", new Date(), "OPTION"],
    ["a function", () => 1, "OPTION"],
    ["an array of another dtype", new Uint16Array(2), "DTYPE"],
    ["a DataView", new DataView(new ArrayBuffer(2)), "OPTION"],
    ["a shape that does not fit", { data: new Float32Array(5), shape: [2, 3] }, "LENGTH"],
    ["a shape that is none", { data: new Float32Array(2), shape: [-1, -2] }, "LENGTH"],
  ])("are refused: %s", async (_, value, code) => {
    const error = await caught(() => model.call("echo", [[1, { deep: value as PythonValue }]]));
    expect(error.code).toBe(`ERR_MTADAM_${code}`);
    expect(error.message).toContain("`args[0][1].deep");
    expect(await model.call("echo", [1])).toBe(1);
  });

  test("are refused if they contain themselves", async () => {
    const loop: PythonValue[] = [];
    loop.push(loop);
    const error = await caught(() => model.call("echo", [loop]));
    expect(error.message).toMatch(/must not contain itself\.$/);
  });
});
