import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { openTorch, type TorchModel } from "../../lib/torch";
import { caught } from "../support/caught";
import { temporaryFolder } from "../support/folder";
import { endOf } from "../support/process";
import { Models, SMALL, python, withTorch } from "../support/torch";

const folder = temporaryFolder();
const quiet = { onStderr: (): void => undefined };
const withLosses = (lines: string): string => SMALL.slice(0, SMALL.indexOf("    def losses")) + lines;
const inInit = (lines: string): string =>
  SMALL.replace("\n    def losses", `        ${lines}\n\n    def losses`);

withTorch("a model file", () => {
  const models = new Models();

  test.concurrent.each([
    ["without a Model", "import torch", /^model\d+\.py must define a class `Model`\.$/],
    ["whose Model is no module", "Model = lambda: 3", /^`Model` must be a torch\.nn\.Module; got a int\.$/],
    ["without losses", withLosses(""), /^`Model` must have a method `losses\(batch\)`/],
    ["without terms", SMALL.replace('terms = ["size"]', ""), /^`Model\.terms` must be a list of the names/],
    ["that names a term twice", SMALL.replace('"size"]', '"a", "a"]'), /^`Model\.terms` must be a list/],
    ["with one string as terms", SMALL.replace('["size"]', '"size"'), /^`Model\.terms` must be a list/],
    [
      "with nothing to train",
      inInit("self.w.requires_grad_(False)"),
      /^`Model` must have a parameter that requires/,
    ],
    [
      "in double precision",
      inInit("self.double()"),
      /^The parameter `w` must be float32, float16 or bfloat16 on the CPU; got float64 on cpu\.$/,
    ],
    [
      "on another device",
      inInit('self.to("meta")'),
      /^The parameter `w` must be float32, float16 or bfloat16 on the CPU; got float32 on meta\.$/,
    ],
    [
      "with a buffer over a parameter's storage",
      inInit('self.register_buffer("u", self.w.detach()[1:])'),
      /^`w` and `u` must not share memory: one of them is not trained, and would not change with the other\.$/,
    ],
    [
      "with a frozen parameter and a buffer over a parameter's storage",
      inInit(
        "self.u = nn.Parameter(self.w.data, requires_grad=False); " +
          'self.register_buffer("u2", self.u.detach()[:1])',
      ),
      /^`[uw]2?` and `[uw]2?` must not share memory: one of them is not trained/,
    ],
    [
      "with parameters over one storage",
      inInit("self.u = nn.Parameter(self.w.data[1:])"),
      /^The parameters `w` and `u` must not share memory\. To tie them, use one torch\.nn\.Parameter in both places\.$/,
    ],
    [
      "with a syntax error",
      "\n\nclass Model(:\n",
      /^`Model` raised SyntaxError: .*\(model\d+\.py, line 3\)$/,
    ],
    [
      "that imports nothing",
      "import nothing_like_it",
      /^`Model` raised ModuleNotFoundError: .*\(model\d+\.py, line 1\)$/,
    ],
    [
      "that raises an exception",
      inInit('raise ValueError("no")'),
      /^`Model` raised ValueError: no \(model\d+\.py, line 11\)$/,
    ],
    [
      "that exits",
      "print('bye', file=__import__('sys').stderr); exit(3)",
      /ended with exit code 3 during `Model`; it wrote:\nbye$/,
    ],
    [
      "that crashes",
      "import os; os.abort()",
      /ended with signal SIGABRT during `Model`; it wrote:\nFatal Python error/,
    ],
  ])("%s is refused", async (_, text, message) => {
    const error = await caught(() => openTorch(models.file(text), { python, ...quiet }));
    expect(error.code).toBe("ERR_MTADAM_TORCH");
    expect(error.message).toMatch(message);
  });

  test("gets arguments that fit", async () => {
    const error = await caught(() => openTorch(models.file(SMALL), { python, args: { width: 3 } }));
    expect(error.message).toMatch(/^`Model` raised TypeError: .*unexpected keyword argument 'width'$/);
  });

  test("may import its neighbours, and its name is its module's", async () => {
    writeFileSync(path.join(folder, "neighbour.py"), "VALUE = 5\n");
    const file = path.join(folder, "net.py");
    writeFileSync(
      file,
      `import sys, neighbour\n${SMALL}\n    def where(self):\n        return [neighbour.VALUE, __name__, sys.argv, sys.modules["net"].Model is type(self)]\n`,
    );
    const model = await openTorch(pathToFileURL(file), { python });
    expect(await model.call("where")).toEqual([5, "net", [file], true]);
    await model.close();
  });

  test("gets a working directory and environment variables, and prints", async () => {
    let printed = "";
    const onStderr = (text: string): void => void (printed += text);
    const text = `import os, sys${SMALL}\n    def where(self):\n        print("ä", file=sys.stderr)\n        return [os.getcwd(), os.environ["MODEL"], os.environ["PATH"]]\n`;
    const model = await openTorch(models.file(text), {
      python,
      cwd: folder,
      env: { MODEL: "big" },
      onStderr,
    });
    expect(await model.call("where")).toEqual([folder, "big", process.env["PATH"]]);
    await model.close();
    expect(printed).toBe("ä\n");
  });
});

withTorch("losses", () => {
  const models = new Models();
  let model: TorchModel;
  beforeAll(async () => {
    model = await models.open(
      withLosses(`        self.fixed = nn.Parameter(torch.zeros(2), requires_grad=False)

    def losses(self, batch):
        return eval(batch)

    def run(self, text):
        exec(text)

kept = []

class NoWayBack(torch.autograd.Function):
    @staticmethod
    def forward(context, tensor):
        return tensor.sum()

    @staticmethod
    def backward(context, gradient):
        raise ValueError("no way back")
`),
    );
  });

  test.each([
    ["a list", "[self.w.sum()]", "`losses` must return a dict of one scalar per term; got a list."],
    ["nothing", "None", "`losses` must return a dict of one scalar per term; got a NoneType."],
    [
      "an unknown term",
      '{"sizes": self.w.sum()}',
      "`losses` must return the terms of `Model.terms` only; got 'sizes'.",
    ],
    [
      "a vector",
      '{"size": self.w}',
      "The loss `size` must be a tensor of one element, or None; got a tensor of shape [2].",
    ],
    ["a float", '{"size": 0.0}', "The loss `size` must be a tensor of one element, or None; got float."],
    ["a constant", '{"size": torch.zeros(())}', "The loss `size` must depend on a parameter, or be None."],
  ])("that return %s are refused", async (_, text, message) => {
    const error = await caught(() => model.gradients(text));
    expect(error).toMatchObject({ code: "ERR_MTADAM_TORCH", message });
    const { size } = await model.gradients('{"size": self.w.sum()}');
    expect(size!["w"]).toEqual(Float32Array.of(1, 1));
  });

  test("that raise an exception give its type, text, place and traceback", async () => {
    const error = await caught(() => model.gradients("1 // 0"));
    expect(error.message).toMatch(/^`gradients` raised ZeroDivisionError: .* \(model\d+\.py, line 15\)$/);
    expect(error.cause).toMatchObject({ name: "ZeroDivisionError" });
    expect((error.cause as Error).stack).toMatch(
      /^Traceback \(most recent call last\):\n {2}File ".*model\d+\.py", line 15, in losses\n[^]*ZeroDivisionError: /,
    );
    expect((error.cause as Error).stack).not.toMatch(/host\.py/);
  });

  test("whose backward pass fails say so", async () => {
    const error = await caught(() => model.gradients('{"size": NoWayBack.apply(self.w)}'));
    expect(error.message).toMatch(/^`gradients` raised ValueError: no way back \(model\d+\.py, line 29\)$/);
  });

  test.each([
    ["replaced", "kept.append(self.w); self.w = nn.Parameter(torch.zeros(2))", "self.w = kept.pop()"],
    ["moved", "kept.append(self.w.data); self.w.data = torch.zeros(2)", "self.w.data = kept.pop()"],
    ["removed", "kept.append(self.w); del self.w", "self.w = kept.pop()"],
  ])("need parameters that stay: one that was %s is refused", async (_, change, repair) => {
    await model.call("run", [change]);
    const error = await caught(() => model.gradients('{"size": self.w.sum()}'));
    expect(error.message).toMatch(
      /^The parameter `w` must keep its memory; it was moved, replaced or removed/,
    );
    await model.call("run", [repair]);
    await model.gradients('{"size": self.w.sum()}');
  });

  test.each([
    ["added", "late", "self.late = nn.Parameter(torch.zeros(2))", "del self.late"],
    ["unfrozen", "fixed", "self.fixed.requires_grad_()", "self.fixed.requires_grad_(False)"],
  ])(
    "need all parameters at the opening: one that is %s later is refused",
    async (_, name, change, repair) => {
      await model.call("run", [change]);
      const error = await caught(() => model.gradients('{"size": self.w.sum()}'));
      expect(error).toMatchObject({
        code: "ERR_MTADAM_TORCH",
        message:
          `The parameter \`${name}\` must require a gradient when the model is opened; ` +
          "it was added or unfrozen later. Freeze it only once the model is open.",
      });
      await model.call("run", [repair]);
      await model.gradients('{"size": self.w.sum()}');
    },
  );
});

withTorch("a call of the model", () => {
  const models = new Models();
  const METHODS = `
    def fail(self):
        raise RuntimeError("first\\nsecond")

    def odd(self):
        return {"a": [object()]}

    def complex(self):
        return torch.zeros(2, dtype=torch.complex64)

    def quantized(self):
        return {"a": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)}

    def take(self, value):
        return 1

    def spin(self):
        self.spinning = True
        while True:
            pass

    def stubborn(self):
        while True:
            try:
                while True:
                    pass
            except KeyboardInterrupt:
                pass

    def sleep(self):
        import time
        time.sleep(600)

    def answer(self):
        return 42

    def is_training(self):
        return self.training
`;
  let model: TorchModel;
  beforeAll(async () => {
    model = await models.open(SMALL + METHODS);
  });

  test("that fails leaves the model usable", async () => {
    const error = await caught(() => model.call("fail"));
    expect(error.message).toMatch(/^`fail` raised RuntimeError: first\nsecond \(model/);
    expect(await model.call("answer")).toBe(42);
  });

  test.each([
    ["unknown", "nope"],
    ["private", "_apply"],
    ["no method", "w"],
  ])("by a name that is %s is refused", async (_, name) => {
    const error = await caught(() => model.call(name));
    expect(error).toMatchObject({
      code: "ERR_MTADAM_TORCH",
      message: `\`Model\` has no method \`${name}\`.`,
    });
  });

  test("whose result is the model gives null, as for `eval`", async () => {
    expect(await model.call("eval")).toBeNull();
    expect(await model.call("is_training")).toBe(false);
    expect(await model.call("train")).toBeNull();
    expect(await model.call("is_training")).toBe(true);
  });

  test("whose result is no plain data is refused", async () => {
    const odd = await caught(() => model.call("odd"));
    expect(odd.message).toMatch(/^A result must consist of .*; got one of type object\.$/);
    const complex = await caught(() => model.call("complex"));
    expect(complex.message).toBe("A result must have no complex numbers.");
    const quantized = await caught(() => model.call("quantized"));
    expect(quantized.message).toMatch(/^A result must have tensors of bool, float16, .*; got quint8\.$/);
    expect(await model.call("answer")).toBe(42);
  });

  test("whose arguments Python cannot hold fails, and the model goes on", async () => {
    // Python 3.11 and newer read at most 4,300 digits.
    const [outcome] = await Promise.allSettled([model.call("take", [10n ** 5000n])]);
    if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ code: "ERR_MTADAM_TORCH" });
    expect(await model.call("answer")).toBe(42);
  });

  test.each([
    ["no JSON", "b'junk'", 0],
    ["null", "b'null'", 0],
    ["an array that no memory holds", "b'{}'", 2 ** 50],
    ["a tensor of an unknown type", `b'{"value": {"$": ["tensor", "uint16", 0, 0, [0]]}}'`, 0],
  ])("whose answer is %s ends the process with an error", async (_, json, arrays) => {
    const write = `
    def write(self):
        import os, struct
        os.write(3, struct.pack("<IQ", len(${json}), ${arrays}) + ${json})
        import time
        time.sleep(600)
`;
    const broken = await models.open(SMALL + write);
    const error = await caught(() => broken.call("write"));
    expect(error.code).toBe("ERR_MTADAM_TORCH");
    expect(error.message).toMatch(
      /^The Python process of model\d+\.py wrote a message that cannot be read\.$/,
    );
    expect(error.cause).toHaveProperty("message");
    expect((await caught(() => broken.call("write"))).message).toBe(error.message);
  });

  test("before the last has settled is BUSY", async () => {
    const first = model.call("answer");
    const second = await caught(() => model.gradients(null));
    expect(second).toMatchObject({ code: "ERR_MTADAM_BUSY" });
    expect(second.message).toBe("`answer` has not settled: await its promise before the next call.");
    expect(await first).toBe(42);
  });

  test("that is aborted rejects with the signal's reason, and the model goes on", async () => {
    const reason = new Error("enough");
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 100);
    await expect(model.call("spin", [], { signal: controller.signal })).rejects.toBe(reason);
    await expect(model.call("answer", [], { signal: controller.signal })).rejects.toBe(reason);
    expect(await model.call("answer")).toBe(42);
    await expect(model.call("spin", [], { signal: AbortSignal.timeout(50) })).rejects.toThrow(/timeout/);
    await expect(model.call("sleep", [], { signal: AbortSignal.timeout(50) })).rejects.toThrow(/timeout/);
    expect((await model.gradients(null))["size"]!["w"]).toEqual(Float32Array.of(2, -4));
  });

  test("that is aborted before Python has it is not run to its end", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    const running = model.call("spin", [], { signal: controller.signal });
    controller.abort(reason);
    await expect(running).rejects.toBe(reason);
    expect(await model.call("answer")).toBe(42);
  });

  test("that is over when it is aborted has its result", async () => {
    const controller = new AbortController();
    expect(await model.call("answer", [], { signal: controller.signal })).toBe(42);
    controller.abort();
    expect(await model.call("answer")).toBe(42);
  });

  test("that ignores its interruption is killed", async () => {
    const own = await models.open(SMALL + METHODS);
    await expect(own.call("stubborn", [], { signal: AbortSignal.timeout(50) })).rejects.toThrow(/timeout/);
    const error = await caught(() => own.call("answer"));
    expect(error.message).toMatch(/ended with signal SIGKILL during `stubborn`/);
  }, 30_000);

  test("after `close` is DISPOSED, and one that runs is ended", async () => {
    const own = await models.open(SMALL + METHODS);
    const running = caught(() => own.call("spin"));
    await own.close();
    expect(await running).toMatchObject({ code: "ERR_MTADAM_DISPOSED" });
    expect(await caught(() => own.call("answer"))).toMatchObject({ code: "ERR_MTADAM_DISPOSED" });
    await own.close();
    await own[Symbol.asyncDispose]();
    expect(own.parameters[0]!.data).toEqual(Float32Array.of(1, -2));
  });

  test("on a proxy is refused", async () => {
    const error = await caught(() => new Proxy(model, {}).call("answer"));
    expect(error.message).toMatch(/^`this` must be a TorchModel of this copy/);
  });
});

describe("opening a model", () => {
  const models = new Models();

  test.each([
    [
      "a file that is missing",
      ["/nowhere/model.py"],
      "`file` must be a Python file; /nowhere/model.py does not exist.",
    ],
    ["a file that is no path", [5], /^`file` must be the path of a file/],
    ["an unknown option", [__filename, { pyton: "" }], /did you mean `python`\?/],
    [
      "a python that is no name",
      [__filename, { python: 3 }],
      /^`python` must be the name or the path of a program; got 3\.$/,
    ],
    ["arguments that are none", [__filename, { args: 3 }], /^`args` must be a list of arguments/],
    ["a cwd that is no path", [__filename, { cwd: 3 }], /^`cwd` must be the path of a folder/],
    [
      "a cwd that is missing",
      [__filename, { cwd: "/nowhere" }],
      /^`cwd` must be the path of a folder that exists/,
    ],
    ["a cwd that is a file", [__filename, { cwd: __filename }], /^`cwd` must be the path of a folder/],
    [
      "a signal without methods",
      [__filename, { signal: { aborted: false } }],
      /^`signal` must be an AbortSignal/,
    ],
    ["an env of other values", [__filename, { env: { A: 1 } }], /^`env` must be an object of strings/],
    ["a listener that is none", [__filename, { onStderr: 1 }], /^`onStderr` must be a function/],
    ["a signal that is none", [__filename, { signal: {} }], /^`signal` must be an AbortSignal/],
  ])("with %s is refused", async (_, args, message) => {
    const error = await caught(() => openTorch(...(args as Parameters<typeof openTorch>)));
    expect(error.code).toBe("ERR_MTADAM_OPTION");
    expect(error.message).toMatch(message);
  });

  test("with an environment that no process can have is refused", async () => {
    const error = await caught(() => openTorch(models.file(SMALL), { env: { A: "\0" } }));
    expect(error.code).toBe("ERR_MTADAM_TORCH");
    expect(error.message).toMatch(/^`python` cannot be started: /);
  });

  test("needs a Python", async () => {
    const error = await caught(() => openTorch(models.file(SMALL), { python: "/nowhere/python" }));
    expect(error).toMatchObject({
      code: "ERR_MTADAM_TORCH",
      message: "`python` cannot be started: spawn /nowhere/python ENOENT.",
    });
  });

  test("needs descriptors, and refuses where there are none", async () => {
    const program = `
      const { openTorch } = require(${JSON.stringify(path.resolve("dist/torch"))});
      const { openSync, closeSync } = require("node:fs");
      openTorch("none.py").catch(() => 0); // loads what it needs
      const open = [];
      try {
        for (;;) open.push(openSync("/dev/null"));
      } catch {}
      for (let k = 0; k < 3; ++k) closeSync(open.pop());
      openTorch(${JSON.stringify(models.file(SMALL))}).catch(({ code, message }) => console.log(code, message));
    `;
    const ended = await endOf(
      spawn("sh", ["-c", `ulimit -n 64; exec "$0" -e "$1"`, process.execPath, program]),
    );
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    expect(ended.stdout).toMatch(/^ERR_MTADAM_TORCH `python` cannot be started: spawn \S+ EMFILE\.\n$/);
  });

  test("needs a PyTorch that has what the model needs", async () => {
    for (const [name, text, message] of [
      ["none", "raise ImportError('there is none')", "there is none"],
      ["old", "__version__ = '1.9'", "it has 1.9"],
    ] as const) {
      const place = path.join(folder, name);
      mkdirSync(place);
      writeFileSync(path.join(place, "torch.py"), text);
      for (const args of [[], [Float32Array.of(1, 2)]]) {
        const opened = openTorch(models.file(SMALL), { env: { PYTHONPATH: place }, args });
        const error = await caught(() => opened);
        expect(error.code).toBe("ERR_MTADAM_TORCH");
        expect(error.message).toMatch(/^`python` must have PyTorch 1\.10 or newer; got .*python/);
        expect(error.message).toContain(message);
      }
    }
  });

  test("can be aborted", async () => {
    const reason = new Error("enough");
    await expect(openTorch(models.file(SMALL), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const file = models.file("import time; time.sleep(60)");
    await expect(openTorch(file, { python, signal: AbortSignal.timeout(100) })).rejects.toThrow(/timeout/);
  });
});
