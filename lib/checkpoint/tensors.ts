import { checkKeys } from "../arguments";
import type { AnyTypedArray } from "../addon/native";
import { MTAdamError, mustBe } from "../errors";
import { isArray, isRecord, typedArrayBytes, typedArrayLength, typedArrayName } from "../inspect";
import { isBuffer, type DeviceBuffer } from "../memory/device";
import { isPointerLike } from "../memory/device-pointer";
import {
  checkDType,
  checkHostArray,
  DTYPES,
  type DType,
  type GradientDtype,
  type HostArray,
  type HostElements,
} from "../memory/dtype";
import { checkGivenLength, checkShape } from "../parameters";
import { writeAtomically } from "./atomic-file";
import { ChunkReader, ChunkWriter } from "./chunked-file";
import { checkUnchanged, openSafetensors } from "./file";
import type { PathLike } from "./options";
import { Pace } from "./pace";
import { Place } from "./path";
import { MAX_HEADER_BYTES, renderHeader, type SafetensorsDType } from "./safetensors";

/** One tensor to save: a parameter as `new MTAdam` gets it, or an array alone, whose name is its index. */
export type TensorToSave =
  | HostElements
  | DeviceBuffer
  | {
      /** Unique; by default the index in the list. */
      readonly name?: string | undefined;
      readonly data: HostElements | DeviceBuffer;
      /** Its product is the length; by default one dimension. */
      readonly shape?: readonly number[] | undefined;
      /** Needed for a Uint16Array, which holds "float16" or "bfloat16". */
      readonly dtype?: DType | undefined;
      readonly length?: number | undefined;
      /** A parameter may have these two; the file does not. */
      readonly gradientDtype?: GradientDtype | undefined;
      readonly layer?: string | undefined;
    };

export interface SaveTensorsOptions {
  /** Texts to save with the tensors. */
  metadata?: Readonly<Record<string, string>> | undefined;
}

/** One tensor of a file. Unless its dtype is "float64", `new MTAdam` takes it as a parameter. */
export type LoadedTensor<D extends DType = DType> = D extends DType
  ? {
      readonly name: string;
      readonly data: HostArray<D>;
      readonly shape: readonly number[];
      readonly dtype: D;
    }
  : never;

export interface LoadedTensors {
  /** By name, in the order of their bytes in the file. */
  readonly tensors: ReadonlyMap<string, LoadedTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

const FILE_DTYPES: Readonly<Record<DType, SafetensorsDType>> = {
  float32: "F32",
  float64: "F64",
  float16: "F16",
  bfloat16: "BF16",
};

/**
 * Writes tensors to a safetensors file, which then replaces the one at `path` as a whole. The data must not change until
 * the promise settles.
 *
 * @param path as for `optimizer.save`
 * @param tensors the parameters of an optimizer, for example; none may be a device pointer
 * @throws MTAdamError OPTION, LENGTH, DTYPE, DISPOSED, CUDA, CHECKPOINT (too many tensors for the format); errors of the
 * file system unchanged (the promise rejects)
 */
export async function saveTensors(
  path: PathLike,
  tensors: readonly TensorToSave[],
  options?: SaveTensorsOptions,
): Promise<void> {
  const metadata = checkMetadata(checkKeys<SaveTensorsOptions>("options", options, ["metadata"]).metadata);
  const checked = checkTensors(tensors);
  const target = Place.of(path).target();
  target.checkRegular();
  const header = await new Pace().run(renderHeader(headerEntries(checked), metadata));
  await writeAtomically(target, async (file) => {
    const chunks = new ChunkWriter(file, () => Promise.resolve());
    for (const piece of header.pieces) await chunks.append(piece);
    for (const { name, data, length } of checked) {
      const array = isBuffer(data) ? await data.download() : data;
      checkLength(name, array, length);
      await chunks.append(typedArrayBytes(array));
      checkLength(name, array, length);
    }
    await chunks.flush();
    await file.sync();
  });
}

function makeArray(name: string, traits: (typeof DTYPES)[DType], length: number): AnyTypedArray {
  try {
    return traits.make(length);
  } catch (cause) {
    const message = `There is not enough memory for the ${length} elements of \`${name}\`.`;
    throw new MTAdamError("OUT_OF_MEMORY", message, { cause });
  }
}

/** Other code may have detached or resized the array during a write. @throws MTAdamError LENGTH */
function checkLength(name: string, array: AnyTypedArray, length: number): void {
  if (typedArrayLength(array) === length) return;
  throw mustBe("LENGTH", `${name}.data`, `keep its ${length} elements until it is saved`, array);
}

/**
 * Reads a safetensors file: one of {@link saveTensors}, or one of another program.
 *
 * @param path as for `optimizer.load`
 * @throws MTAdamError CHECKPOINT if the file is damaged or has a tensor that is neither F32, F64, F16 nor BF16; OPTION;
 * OUT_OF_MEMORY; errors of the file system unchanged (the promise rejects)
 */
export async function loadTensors(path: PathLike): Promise<LoadedTensors> {
  const place = Place.of(path);
  place.checkRegular();
  const opened = await openSafetensors(place, new Pace(), MAX_HEADER_BYTES);
  const { file, header, start, size } = opened;
  try {
    const places = [...header.tensors].map(([name, tensor]) => ({
      name,
      ...tensor,
      dtype: dtypeOf(name, tensor),
    }));
    places.sort((a, b) => a.begin - b.begin);
    const chunks = new ChunkReader(file, size, () => Promise.resolve());
    const tensors = new Map<string, LoadedTensor>();
    for (const { name, dtype, shape, begin, end } of places) {
      const traits = DTYPES[dtype];
      const data = makeArray(name, traits, (end - begin) / traits.bytes);
      await chunks.read(typedArrayBytes(data), start + begin);
      tensors.set(name, { name, data, shape, dtype } as LoadedTensor);
    }
    await checkUnchanged(opened);
    return { tensors, metadata: Object.fromEntries(header.metadata) };
  } finally {
    await file.close();
  }
}

function dtypeOf(name: string, { dtype }: { dtype: SafetensorsDType }): DType {
  const known = (Object.keys(FILE_DTYPES) as DType[]).find((own) => FILE_DTYPES[own] === dtype);
  if (known !== undefined) return known;
  throw new MTAdamError(
    "CHECKPOINT",
    `The file must have tensors of ${Object.values(FILE_DTYPES).join(", ")} alone; ${JSON.stringify(name.slice(0, 40))} is of ${dtype}.`,
  );
}

interface CheckedTensor {
  readonly name: string;
  readonly data: AnyTypedArray | DeviceBuffer;
  readonly length: number;
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** The entry of a header that is no tensor. */
const RESERVED = "__metadata__";

/** What can be saved. */
const HELD = "a buffer, a Float32Array, a Float64Array, a Uint16Array or a Float16Array";

function checkTensors(value: unknown): CheckedTensor[] {
  if (!isArray(value)) throw mustBe("OPTION", "tensors", "be a list", value);
  const names = new Set<string>([RESERVED]);
  return Array.from(value, (item, index) => {
    const checked = checkTensor(item, String(index));
    if (names.has(checked.name)) {
      throw mustBe("OPTION", "name", `be unique among the tensors, and not ${RESERVED}`, checked.name);
    }
    names.add(checked.name);
    return checked;
  });
}

function checkTensor(item: unknown, index: string): CheckedTensor {
  const isBare = typedArrayName(item) !== undefined || isBuffer(item);
  const keys = ["name", "data", "shape", "dtype", "length", "gradientDtype", "layer"];
  const given = checkKeys<Record<string, unknown>>("tensor", isBare ? { data: item } : (item ?? null), keys);
  const { name = index, data, shape } = given;
  if (typeof name !== "string" || name === "") {
    throw mustBe("OPTION", "name", "be a string that is not empty", name);
  }
  if (isPointerLike(data) && !isBuffer(data)) {
    // Not mustBe: a message names no address.
    throw new MTAdamError("DTYPE", `\`${name}.data\` must be ${HELD}; got a bare pointer.`);
  }
  const dtype = checkDType(given["dtype"] ?? dtypeOfData(name, data));
  if (isBuffer(data) && data.dtype !== dtype)
    throw mustBe("DTYPE", `${name}.dtype`, `be ${data.dtype}`, dtype);
  const elements = isBuffer(data) ? data : checkHostArray(`${name}.data`, data, dtype);
  const length = isBuffer(elements) ? elements.length : typedArrayLength(elements);
  checkGivenLength(name, given["length"], length);
  return { name, data: elements, length, shape: checkShape(name, shape, length), dtype };
}

function dtypeOfData(name: string, data: unknown): DType {
  if (isBuffer(data)) return data.dtype;
  switch (typedArrayName(data)) {
    case "Float32Array":
      return "float32";
    case "Float64Array":
      return "float64";
    case "Float16Array":
      return "float16";
    case "Uint16Array":
      throw mustBe("DTYPE", `${name}.dtype`, 'be "float16" or "bfloat16" for a Uint16Array', undefined);
    default:
      throw mustBe("DTYPE", `${name}.data`, `be ${HELD}`, data);
  }
}

function* headerEntries(tensors: readonly CheckedTensor[]) {
  for (const { name, dtype, shape } of tensors) yield [name, { dtype: FILE_DTYPES[dtype], shape }] as const;
}

function checkMetadata(value: unknown): Record<string, readonly string[]> {
  const pieces = Object.create(null) as Record<string, readonly string[]>;
  if (value === undefined) return pieces;
  if (!isRecord(value)) throw mustBe("OPTION", "metadata", "be an object of strings", value);
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string")
      throw mustBe("OPTION", `metadata[${JSON.stringify(key)}]`, "be a string", text);
    pieces[key] = [text];
  }
  return pieces;
}
