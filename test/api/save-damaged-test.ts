/** Files that are not a checkpoint, or not one of this optimizer: a coded error, and nothing is loaded. */

import { ftruncateSync, openSync, closeSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import path from "node:path";
import { MTAdam, type CheckpointMetadata, type MTAdamError, type MTAdamOptions } from "../../lib";
import { caught } from "../support/caught";
import { testDevice } from "../support/device";
import { temporaryFolder } from "../support/folder";
import { joinSafetensors, splitSafetensors, type Header } from "../support/safetensors";
import { NAMES, Trained } from "../support/trained";

const TERMS = ["a", "b"];
const BOTH_SUMMED = { firstMoment: "summed", secondMoment: "summed" } as const;
const file = path.join(temporaryFolder(), "state.safetensors");
const make = (options: Partial<MTAdamOptions> = {}, terms = TERMS): MTAdam =>
  new Trained(NAMES, { terms, ...options }).train(0, 3, terms).optimizer;

/** The file of an optimizer after three steps, and its parts. */
let valid: Buffer;
beforeAll(async () => {
  await make({ lr: 0.5 }).save(file);
  valid = readFileSync(file);
});

async function expectRefused(optimizer: MTAdam, strict = true): Promise<MTAdamError> {
  const before = await optimizer.stateDict();
  const error = await caught(() => optimizer.load(file, { strict }));
  expect(error).toMatchObject({ code: "ERR_MTADAM_CHECKPOINT" });
  expect(error.message).toMatch(
    /^(The (file|state) must |"[^"\n]+" is not a safetensors file)[^\n]{1,300}\.$/,
  );
  expect(await optimizer.stateDict()).toEqual(before);
  return error;
}

describe("files of another format", () => {
  const withLength = (length: bigint): Buffer => {
    const bytes = Buffer.from(valid);
    bytes.writeBigUInt64LE(length);
    return bytes;
  };
  const header = (): Header => splitSafetensors(valid).header;
  const data = (): Buffer => splitSafetensors(valid).data;
  const text = (change: (text: string) => string): Buffer =>
    joinSafetensors(change(JSON.stringify(header())), data());
  const files: [string, () => Uint8Array][] = [
    ["nothing at all", () => Buffer.alloc(0)],
    ["less than a length", () => valid.subarray(0, 7)],
    ["a length alone", () => valid.subarray(0, 8)],
    ["half a header", () => valid.subarray(0, 100)],
    ["a header alone", () => joinSafetensors(header(), Buffer.alloc(0))],
    ["the last byte missing", () => valid.subarray(0, -1)],
    ["a byte more", () => Buffer.concat([valid, Buffer.alloc(1)])],
    ["zeros", () => Buffer.alloc(valid.length)],
    ["a header of no bytes", () => withLength(0n)],
    ["a header of one byte", () => withLength(1n)],
    ["a header as long as the file", () => withLength(BigInt(valid.length))],
    ["a header of 2**53 bytes", () => withLength(2n ** 53n)],
    ["a header of 2**64 - 1 bytes", () => withLength(2n ** 64n - 1n)],
    ["a header that is no JSON", () => text((json) => json.slice(0, -1))],
    ["a header that begins with a space", () => text((json) => ` ${json}`)],
    ["a header with more than spaces after it", () => text((json) => `${json}{}`)],
    ["a header that is an array", () => text((json) => `[${json}]`)],
    ["a header that is null", () => text(() => "null")],
    ["a header that is no UTF-8", () => joinSafetensors({}, data()).fill(0xff, 8, 9)],
    [
      "a name that is no UTF-8",
      () => {
        const bytes = Buffer.from(valid);
        bytes[bytes.indexOf('"occurred"') + 1] = 0xff;
        return bytes;
      },
    ],
    [
      "a header a hundred thousand arrays deep",
      () => text(() => `{"a":${"[".repeat(1e5)}${"]".repeat(1e5)}}`),
    ],
    ["an entry twice", () => text((json) => json.replace(/"n":{.*?},/, "$&$&"))],
    [
      "an entry twice, once with an escape",
      () => text((json) => json.replace(/"n":({.*?},)/, '$&"\\u006e":$1')),
    ],
    ["a part of an entry twice", () => text((json) => json.replace(/"dtype":"F64",/, "$&$&"))],
    ["metadata twice", () => text((json) => json.replace(/^{("__metadata__":{.*?}"}),/, "{$1,$1,"))],
    ["an entry four levels deep", () => text((json) => json.replace(/"shape":\[/, '"extra":[[0]],$&'))],
    ["a comma too many", () => text((json) => json.replace(/}$/, ",}"))],
    ["no comma between entries", () => text((json) => json.replace('},"n"', '}"n"'))],
    ["no colon after a key", () => text((json) => json.replace('"n":', '"n"'))],
    ["a key without quotes", () => text((json) => json.replace('"n":', "n:"))],
    ["brackets of two kinds", () => text((json) => json.replace(/"shape":\[2,3\]/, '"shape":[2,3}'))],
    ["no tensors, but bytes", () => joinSafetensors({ __metadata__: header().__metadata__ }, data())],
  ];
  test.each(files)("%s", async (_, bytes) => {
    writeFileSync(file, bytes());
    await expectRefused(make());
  });

  describe("a header that is larger than one that this optimizer could have written", () => {
    const write = (headerBytes: bigint): void => {
      // The file is sparse and takes no space.
      const handle = openSync(file, "w");
      const prefix = Buffer.alloc(8);
      prefix.writeBigUInt64LE(headerBytes);
      writeSync(handle, prefix);
      ftruncateSync(handle, 2 ** 30);
      closeSync(handle);
    };

    test("is not read", async () => {
      for (const [megabytes, strict] of [
        [2, true],
        [100, true],
        [1000, true],
        [17, false],
      ] as const) {
        write(BigInt(megabytes) * 1_000_000n);
        const { message } = await expectRefused(make(), strict);
        expect(message).toMatch(new RegExp(`at most 1\\d+ bytes; it says ${megabytes}000000\\.$`));
      }
    });

    test("may be larger if only parts are loaded, since it may be another optimizer's", async () => {
      write(10_000_000n);
      const { message } = await expectRefused(make(), false);
      expect(message).toBe(
        `${JSON.stringify(file)} is not a safetensors file; its header is not a JSON object.`,
      );
    });
  });

  test.each([
    ["a header of lists", "["],
    ["a header of objects", '{"a":'],
    ["an entry of lists", '{"a":['],
  ])("%s within each other, to the limit of its size", async (_, text) => {
    const bytes = Buffer.alloc(2 ** 20, text.repeat(8));
    bytes.writeBigUInt64LE(BigInt(bytes.length - 8));
    bytes.write('{"a":[[', 8);
    writeFileSync(file, bytes);
    await expectRefused(make());
  });
});

describe("a header that does not match the bytes", () => {
  type Edit = (header: Header & Record<string, unknown>) => unknown;
  const edits: [string, Edit][] = [
    ["a tensor missing", (h) => delete h["v.1.2"]],
    ["a tensor that is null", (h) => ((h as Record<string, unknown>)["n"] = null)],
    ["a tensor that is an array", (h) => ((h as Record<string, unknown>)["n"] = [])],
    ["a tensor more, over others", (h) => (h["extra"] = h["n"]!)],
    ["an unknown dtype", (h) => (h["n"]!.dtype = "F65")],
    ["a dtype of an object's own", (h) => (h["n"]!.dtype = "constructor")],
    ["a dtype that is no string", (h) => Object.assign(h["n"]!, { dtype: 64 })],
    ["another dtype of that size", (h) => (h["v.0.0"]!.dtype = "I32")],
    ["I64 for F64", (h) => (h["n"]!.dtype = "I64")],
    ["no shape", (h) => delete (h["n"] as Partial<Header[string]>).shape],
    ["another shape of that size", (h) => (h["n"]!.shape = [3, 2])],
    ["a flat shape", (h) => (h["n"]!.shape = [6])],
    ["a larger shape", (h) => (h["v.0.0"]!.shape = [7])],
    ["a negative shape", (h) => (h["v.0.0"]!.shape = [-2, -3])],
    ["a fractional shape", (h) => (h["v.0.0"]!.shape = [0.5, 12])],
    ["an endless shape", (h) => (h["v.0.0"]!.shape = [...new Array<number>(40).fill(2 ** 40), 0])],
    ["a shape that is a string", (h) => Object.assign(h["v.0.0"]!, { shape: "6" })],
    ["no offsets", (h) => delete (h["n"] as Partial<Header[string]>).data_offsets],
    ["three offsets", (h) => (h["n"]!.data_offsets as number[]).push(0)],
    ["offsets the other way round", (h) => h["n"]!.data_offsets.reverse()],
    ["an offset below 0", (h) => (h["n"]!.data_offsets = [-48, 0])],
    ["an offset that is a string", (h) => Object.assign(h["n"]!, { data_offsets: ["0", "48"] })],
    ["offsets behind the end", (h) => (h["n"]!.data_offsets = [2 ** 50, 2 ** 50 + 48])],
    ["an overlap", (h) => (h["P1"]!.data_offsets = h["P2"]!.data_offsets)],
    [
      "a gap",
      (h) => {
        const { occurred } = h;
        occurred!.data_offsets = [occurred!.data_offsets[0] + 1, occurred!.data_offsets[1] + 1];
      },
    ],
    ["no metadata", (h) => delete (h as Partial<Header>).__metadata__],
    ["metadata of null", (h) => Object.assign(h, { __metadata__: null })],
    ["other metadata", (h) => (h.__metadata__ = { format: "pt" })],
    ["metadata of no string", (h) => Object.assign(h.__metadata__, { other: 5 })],
    ["metadata of no JSON", (h) => (h.__metadata__["mtadam"] = "{")],
    ["metadata of a JSON number", (h) => (h.__metadata__["mtadam"] = "5")],
  ];
  test.each(edits)("%s", async (_, edit) => {
    const { header, data } = splitSafetensors(valid);
    edit(header);
    writeFileSync(file, joinSafetensors(header, data));
    await expectRefused(make());
  });
});

describe("metadata that does not match", () => {
  type Edit = (metadata: CheckpointMetadata & Record<string, unknown>) => unknown;
  const edits: [string, Edit][] = [
    ["another version", (m) => Object.assign(m, { version: 2 })],
    ["iterations of less than 0", (m) => (m.iterations = -1)],
    ["iterations that cannot be counted on", (m) => (m.iterations = Number.MAX_SAFE_INTEGER)],
    ["iterations of no number", (m) => Object.assign(m, { iterations: "3" })],
    ["a term more", (m) => m.terms.push("c")],
    ["a term fewer", (m) => m.terms.pop()],
    ["other terms", (m) => (m.terms = ["a", "c"])],
    ["two terms of one name", (m) => (m.terms = ["a", "a"])],
    ["a layer more", (m) => m.layers.push("other")],
    ["another layer", (m) => (m.parameters[1]!.layer = "weight")],
    ["a layer that there is not", (m) => (m.parameters[1]!.layer = "other")],
    ["a parameter fewer", (m) => m.parameters.pop()],
    ["another length", (m) => Object.assign(m.parameters[0]!, { length: 5, shape: [5] })],
    ["a shape of another length", (m) => (m.parameters[0]!.shape = [5])],
    ["a group that there is not", (m) => (m.parameters[0]!.group = 1)],
    ["no options", (m) => delete (m as Partial<CheckpointMetadata>).options],
    ["amsgrad", (m) => (m.options.amsgrad = true)],
    ["summed first moments", (m) => (m.options.firstMoment = "summed")],
    ["first moments of neither form", (m) => Object.assign(m.options, { firstMoment: "both" })],
    ["both moments summed", (m) => Object.assign(m.options, BOTH_SUMMED)],
    ["second moments of neither form", (m) => Object.assign(m.options, { secondMoment: "both" })],
    ["weights of null", (m) => Object.assign(m.options, { weights: null })],
    ["no groups", (m) => (m.groups = [])],
    ["a beta of 1", (m) => (m.groups[0]!.betas[0] = 1)],
    ["an eps of 0", (m) => (m.groups[0]!.eps = 0)],
  ];
  test.each<[string, (json: string) => string]>([
    ["a key twice", (json) => json.replace('"version":1,', "$&$&")],
    ["a key of an option twice", (json) => json.replace('"amsgrad":false,', "$&$&")],
    ["five levels", (json) => json.replace('"version":1', '$&,"extra":{"a":{"b":{"c":{}}}}')],
    ["more terms than a list may have", (json) => json.replace('"terms":[', `$&${'"t",'.repeat(70_000)}`)],
  ])("%s", async (_, edit) => {
    const { header, data } = splitSafetensors(valid);
    header.__metadata__["mtadam"] = edit(header.__metadata__["mtadam"] ?? "");
    writeFileSync(file, joinSafetensors(header, data));
    expect((await expectRefused(make())).message).toMatch(
      /^The file must have a JSON object as `mtadam`; it /,
    );
  });

  test.each(edits)("%s", async (_, edit) => {
    const { header, data } = splitSafetensors(valid);
    const metadata = JSON.parse(header.__metadata__["mtadam"] ?? "") as CheckpointMetadata &
      Record<string, unknown>;
    edit(metadata);
    header.__metadata__["mtadam"] = JSON.stringify(metadata);
    writeFileSync(file, joinSafetensors(header, data));
    await expectRefused(make());
  });

  test("groups that differ in β₃ and share a layer", async () => {
    const device = testDevice();
    const groups = ["weight", "bias"].map((name) => {
      return { parameters: [{ name, data: device.buffer(2), layer: "both" }] };
    });
    const optimizer = new MTAdam(groups, { terms: TERMS });
    await optimizer.save(file);
    const { header, data } = splitSafetensors(readFileSync(file));
    const metadata = JSON.parse(header.__metadata__["mtadam"] ?? "") as CheckpointMetadata;
    metadata.groups[1]!.betas[2] = 0.5;
    header.__metadata__["mtadam"] = JSON.stringify(metadata);
    writeFileSync(file, joinSafetensors(header, data));
    expect((await expectRefused(optimizer)).message).toMatch(/same β₃/);
  });
});

describe("values that are invalid in a state", () => {
  type Write = (data: Buffer, at: number) => unknown;
  const values: [string, key: string, element: number, Write][] = [
    ["a norm that is no number", "n", 5, (data, at) => data.writeDoubleLE(NaN, at)],
    ["an infinite norm", "n", 0, (data, at) => data.writeDoubleLE(Infinity, at)],
    ["a norm below 0", "n", 0, (data, at) => data.writeDoubleLE(-1e-300, at)],
    ["a norm where there was none", "occurred", 5, (data, at) => data.writeUInt8(0, at)],
    ["a count below 0", "skipped", 5, (data, at) => data.writeBigInt64LE(-1n, at)],
    ["a count about to overflow", "skipped", 0, (data, at) => data.writeBigInt64LE(2n ** 63n - 1n, at)],
    ["an occurrence of 2", "occurred", 5, (data, at) => data.writeUInt8(2, at)],
    ["a clock below 0", "t", 5, (data, at) => data.writeBigInt64LE(-1n, at)],
    ["a clock about to overflow", "t", 5, (data, at) => data.writeBigInt64LE(2n ** 63n - 1n, at)],
    ["a clock at 0 with products", "t", 0, (data, at) => data.writeBigInt64LE(0n, at)],
    ["a product above 1", "P1", 0, (data, at) => data.writeDoubleLE(1.5, at)],
    ["a product of 1 after steps", "P1", 0, (data, at) => data.writeDoubleLE(1, at)],
    ["a product below 0", "P2", 5, (data, at) => data.writeDoubleLE(-0.5, at)],
    ["a clock that cannot be counted on", "t", 5, (data, at) => data.writeBigInt64LE(2n ** 53n - 1n, at)],
    [
      "a count that cannot be counted on",
      "skipped",
      0,
      (data, at) => data.writeBigInt64LE(2n ** 53n - 1n, at),
    ],
    [
      "a product that no betas have after 3 steps",
      "P1",
      0,
      (data, at) => data.writeDoubleLE(1 - 2 ** -52, at),
    ],
    ["a first moment that is no number", "m.1.2", 0, (data, at) => data.writeFloatLE(NaN, at)],
    ["a first moment that is infinite", "m.0.0", 5, (data, at) => data.writeFloatLE(-Infinity, at)],
    ["a second moment that is no number", "v.0.0", 5, (data, at) => data.writeFloatLE(NaN, at)],
    ["a second moment that is infinite", "v.1.2", 0, (data, at) => data.writeFloatLE(Infinity, at)],
    ["a second moment below 0", "v.1.1", 2, (data, at) => data.writeFloatLE(-1e-45, at)],
    ["a product that is no number", "P2", 5, (data, at) => data.writeDoubleLE(NaN, at)],
  ];
  test.each(values)("%s", async (_, key, element, write) => {
    const { header, data } = splitSafetensors(Buffer.from(valid));
    const {
      data_offsets: [begin, end],
      shape,
    } = header[key]!;
    const bytes = (end - begin) / shape.reduce((product, size) => product * size, 1);
    write(data, begin + element * bytes);
    writeFileSync(file, joinSafetensors(header, data));
    await expectRefused(make());
  });
});

describe('with `nonFinite: "propagate"`', () => {
  const write = (key: string, value: number): Buffer => {
    const { header, data } = splitSafetensors(Buffer.from(valid));
    data.writeFloatLE(value, header[key]!.data_offsets[0]);
    return joinSafetensors(header, data);
  };

  test.each<[string, number]>([
    ["m.0.0", NaN],
    ["m.1.1", -Infinity],
    ["v.0.0", NaN],
    ["v.1.1", Infinity],
  ])("%s may be %p, and is saved again", async (key, value) => {
    const optimizer = make({ nonFinite: "propagate" });
    writeFileSync(file, write(key, value));
    await optimizer.load(file);
    await optimizer.save(file);
    const { header, data } = splitSafetensors(readFileSync(file));
    expect(data.readFloatLE(header[key]!.data_offsets[0])).toBe(value);
  });

  test("second moments below 0 are still refused", async () => {
    for (const value of [-1, -Infinity]) {
      writeFileSync(file, write("v.0.0", value));
      const { message } = await expectRefused(make({ nonFinite: "propagate" }));
      expect(message).toBe(`The state must have second moments of at least 0; got ${value} in \`v.0.0\`.`);
    }
  });
});

test("first moments whose sum float32 cannot hold", async () => {
  const { header, data } = splitSafetensors(Buffer.from(valid));
  for (const key of ["m.0.0", "m.1.0"]) data.writeFloatLE(3e38, header[key]!.data_offsets[0]);
  writeFileSync(file, joinSafetensors(header, data));
  const { message } = await expectRefused(make({ firstMoment: "summed" }));
  expect(message).toMatch(/finite moments unless .*; got Infinity in `M\.0`/);
});

test("read-only options are found before anything changes", async () => {
  const optimizer = make();
  Object.freeze(optimizer.paramGroups[0]);
  writeFileSync(file, valid);
  const before = await optimizer.stateDict();
  const error = await caught(() => optimizer.load(file));
  expect(error).toMatchObject({ code: "ERR_MTADAM_OPTION" });
  expect(error.message).toBe(
    "`paramGroups[0].lr` must be writable; got a read-only one, perhaps of a frozen group.",
  );
  expect(await optimizer.stateDict()).toEqual(before);
});

describe("a file of another optimizer", () => {
  const others: [string, Partial<MTAdamOptions>, Partial<MTAdamOptions>][] = [
    ["summed, where moments are per term", { firstMoment: "summed" }, {}],
    ["with amsgrad, where there is none", { amsgrad: true }, {}],
    ["without amsgrad, where there is", {}, { amsgrad: true }],
    ["per term without amsgrad, where it is summed with", {}, { amsgrad: true, firstMoment: "summed" }],
    ["per term, where both moments are summed", {}, BOTH_SUMMED],
    ["with first moments summed, where both are", { firstMoment: "summed" }, BOTH_SUMMED],
    ["with both moments summed, where they are per term", BOTH_SUMMED, {}],
    ["with both moments summed, where only first ones are", BOTH_SUMMED, { firstMoment: "summed" }],
  ];
  test.each(others)("%s", async (_, theirs, ours) => {
    await make(theirs).save(file);
    await expectRefused(make(ours));
  });

  test("with other second moments: the message names the option and says that nothing converts them", async () => {
    await make().save(file);
    const { message } = await expectRefused(make(BOTH_SUMMED));
    expect(message).toBe(
      'The state must be one with `secondMoment: "summed"`; got "perTerm", which cannot be converted.',
    );
  });

  test("with other parameters", async () => {
    await new Trained(["weight", "bias"], { terms: TERMS }).optimizer.save(file);
    await expectRefused(make());
    await make().save(file);
    await expectRefused(new Trained(["weight", "bias"], { terms: TERMS }).optimizer);
  });
});
