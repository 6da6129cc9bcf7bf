import type { AnyTypedArray, NativeAddon, NativeBuffer, NativeDevice } from "../addon/native";
import { checkKeys } from "../arguments";
import { fromNative, fromNativePromise, MTAdamError, mustBe } from "../errors";
import { nameClass, typedArrayLength, typedArrayName } from "../inspect";
import { checkReceivers } from "../receiver";
import { makeUncloneable } from "../uncloneable";
import { checkDType, checkHostArray, DTYPES, type DType, type HostArray, type HostElements } from "./dtype";
import { checkStream, type StreamLike } from "./stream";

// A device and its memory, in one file: each refers to the other in its public types.

export type DeviceKind = "cpu" | "cuda";

/** Private to the package, so that no other code can construct the class below. */
export const deviceKey = Symbol("Device");

// Access to a device's private fields, for this package alone.

/** Whether `value` was made by {@link Device}'s constructor, which instanceof does not guarantee. */
export let isDevice: (value: unknown) => value is Device;
/** The addon that this device's buffers and optimizers are made with. */
export let addonOf: (device: Device) => NativeAddon;
/** Whether two devices share their memory: the same GPU may be opened more than once. */
export let isSameMemory: (a: Device, b: Device) => boolean;
/** @throws MTAdamError DISPOSED */
export let nativeDevice: (device: Device) => NativeDevice;

/** Where parameters, gradients and the optimizer's state live, and where a step is computed. */
export class Device {
  readonly kind: DeviceKind;
  readonly name: string;
  /**
   * Threads of the CPU that compute, the calling one included; they start with the first step that can use them. On a
   * CUDA device none: 0.
   */
  readonly threads: number;
  readonly #addon: NativeAddon;
  /** Of a CUDA device: its number. */
  readonly #index: number | undefined;
  #native: NativeDevice | undefined;

  static {
    isDevice = (value): value is Device => typeof value === "object" && value !== null && #native in value;
    checkReceivers("a Device", this.prototype, isDevice);
    nameClass(this.prototype, "Device");
    addonOf = (device) => device.#addon;
    isSameMemory = (a, b) =>
      a === b || (a.#index !== undefined && a.#index === b.#index && a.#addon === b.#addon);
    nativeDevice = (device) => {
      if (device.#native === undefined) throw new MTAdamError("DISPOSED", "The device has been disposed of.");
      return device.#native;
    };
  }

  /** @internal {@link openDevice} makes devices. */
  constructor(
    key: symbol,
    kind: DeviceKind,
    name: string,
    threads: number,
    addon: NativeAddon,
    own: NativeDevice,
    index?: number,
  ) {
    if (key !== deviceKey) throw new MTAdamError("OPTION", "A device must be opened by `openDevice()`.");
    this.kind = kind;
    this.name = name;
    this.threads = threads;
    this.#addon = addon;
    this.#native = own;
    this.#index = index;
    makeUncloneable(this);
    Object.freeze(this);
  }

  /**
   * Memory on this device.
   *
   * @param lengthOrArray a number of elements, which start at 0, or a typed array of the dtype, which is copied
   * @throws MTAdamError LENGTH, DTYPE, OUT_OF_MEMORY, DISPOSED
   */
  buffer<D extends DType = "float32">(lengthOrArray: number | HostElements<D>, dtype?: D): DeviceBuffer<D>;
  buffer(lengthOrArray: unknown, dtype: unknown = "float32"): DeviceBuffer {
    const type = checkDType(dtype);
    return typedArrayName(lengthOrArray) === undefined && typeof lengthOrArray !== "object"
      ? DeviceBuffer.allocate(this, lengthOrArray, type)
      : DeviceBuffer.copyOf(this, lengthOrArray, type);
  }

  get disposed(): boolean {
    return this.#native === undefined;
  }

  /**
   * Optional: an unreachable device is collected. Buffers and optimizers made on it stay usable; no new ones can be made.
   * Its threads end when the device, its buffers and its optimizers are gone.
   */
  dispose(): void {
    const own = this.#native;
    this.#native = undefined;
    own?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

const token = Symbol("DeviceBuffer");

// Access to a buffer's private fields, for this package alone.

/** Whether `value` was made by {@link DeviceBuffer}'s constructor, which instanceof does not guarantee. */
export let isBuffer: (value: unknown) => value is DeviceBuffer;
/** @throws MTAdamError DISPOSED */
export let nativeBuffer: (buffer: DeviceBuffer) => NativeBuffer;

/** How many buffers have been disposed of. While it does not change, every live buffer is still alive. */
export let disposals = 0;

/** Elements of one dtype in the memory of a device. */
export class DeviceBuffer<D extends DType = DType> {
  readonly device: Device;
  readonly dtype: D;
  /** Elements. */
  readonly length: number;
  readonly byteLength: number;
  #native: NativeBuffer | undefined;

  static {
    isBuffer = (value): value is DeviceBuffer =>
      typeof value === "object" && value !== null && #native in value;
    checkReceivers("a DeviceBuffer", this.prototype, isBuffer);
    nameClass(this.prototype, "DeviceBuffer");
    nativeBuffer = (buffer) => buffer.#alive();
  }

  /** @internal `device.buffer()` and {@link DeviceBuffer.from} make buffers. */
  constructor(key: symbol, device: Device, dtype: D, length: number, own?: NativeBuffer) {
    if (key !== token) {
      throw new MTAdamError(
        "OPTION",
        "A `DeviceBuffer` must be made by `device.buffer()` or `DeviceBuffer.from()`.",
      );
    }
    this.device = device;
    this.dtype = dtype;
    this.length = length;
    this.byteLength = length * DTYPES[dtype].bytes;
    this.#native =
      own ?? fromNative(() => new (addonOf(device).Buffer)(nativeDevice(device), this.byteLength));
    makeUncloneable(this);
    // Other code trusts these four fields to describe the allocation.
    Object.freeze(this);
  }

  /**
   * A buffer on `device` with a copy of the elements of `array`.
   *
   * @param array of a type that holds `dtype`: a Float32Array (float32), a Float64Array (float64) or a Uint16Array of the
   * bits (float16 and bfloat16); for float16 also a Float16Array, where the runtime has it
   * @throws MTAdamError as {@link Device.buffer}
   */
  static from<D extends DType = "float32">(
    array: HostElements<D>,
    device: Device,
    dtype?: D,
  ): DeviceBuffer<D> {
    if (!isDevice(device)) throw mustBe("OPTION", "device", "be a device from `openDevice`", device);
    return device.buffer(array, dtype);
  }

  /** @internal */
  static allocate(device: Device, length: unknown, dtype: DType): DeviceBuffer {
    if (typeof length !== "number" || !Number.isSafeInteger(length) || length < 0 || length > MAX_LENGTH) {
      throw mustBe("LENGTH", "length", `be a whole number from 0 to 2**40`, length);
    }
    return new DeviceBuffer(token, device, dtype, length);
  }

  /** @internal */
  static copyOf(device: Device, array: unknown, dtype: DType): DeviceBuffer {
    const source = checkHostArray("array", array, dtype);
    const buffer = new DeviceBuffer(token, device, dtype, typedArrayLength(source));
    fromNative(() => {
      buffer.#alive().upload(source, null);
    });
    return buffer;
  }

  /** @internal A part of other memory, from `offset`, in bytes. */
  static partOf<D extends DType>(
    whole: NativeBuffer,
    device: Device,
    dtype: D,
    length: number,
    offset: number,
  ): DeviceBuffer<D> {
    const bytes = length * DTYPES[dtype].bytes;
    const own = fromNative(() => new (addonOf(device).Buffer)(nativeDevice(device), bytes, whole, offset));
    return new DeviceBuffer(token, device, dtype, length, own);
  }

  /** The address of the first element on the device. @throws MTAdamError DISPOSED */
  get ptr(): bigint {
    return this.#alive().pointer;
  }

  /**
   * Copies `array`, of the same length, into the buffer. The array may be changed as soon as the call returns.
   *
   * @param options `stream`: on a CUDA device, the stream that the copy is ordered on; default: the default stream
   * @throws MTAdamError LENGTH, DTYPE, OPTION, DISPOSED, OUT_OF_MEMORY, CUDA
   */
  upload(array: HostElements<D>, options: { stream?: StreamLike | null | undefined } = {}): void {
    const stream = checkStream(checkKeys<{ stream: unknown }>("options", options, ["stream"]).stream);
    const source = this.#sameLength("array", array);
    fromNative(() => {
      this.#alive().upload(source, stream);
    });
  }

  /**
   * Copies the elements to `target`, of the same length, or to a new array, and returns it. On a CUDA device it waits, off the
   * event loop, for all work enqueued on the device, possibly also for work enqueued before the promise settles.
   *
   * @throws MTAdamError LENGTH, DTYPE, DISPOSED, CUDA (the promise rejects)
   */
  async download(): Promise<HostArray<D>>;
  async download<A extends HostElements<D>>(target?: A): Promise<A>;
  async download(target?: HostElements<D>): Promise<HostElements<D>> {
    const source = this.#alive();
    const array =
      target === undefined ? DTYPES[this.dtype].make(this.length) : this.#sameLength("target", target);
    await fromNativePromise(fromNative(() => source.download(array)));
    return target ?? (array as HostArray<D>);
  }

  /** Sets every element to `value`, rounded to the dtype. @throws MTAdamError OPTION, DISPOSED */
  fill(value: number): void {
    if (typeof value !== "number") throw mustBe("OPTION", "value", "be a number", value);
    const traits = DTYPES[this.dtype];
    const element = traits.make(1);
    element[0] = traits.encode(value);
    fromNative(() => {
      this.#alive().fill(element);
    });
  }

  /** Whether {@link dispose} was called. */
  get disposed(): boolean {
    return this.#native === undefined;
  }

  /** Frees the memory now; otherwise it is freed when the buffer is collected. */
  dispose(): void {
    if (this.#native === undefined) return;
    const own = this.#native;
    // Cleared before the memory is freed, so that no table uses freed memory, wherever JavaScript ends.
    this.#native = undefined;
    disposals += 1;
    own.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #alive(): NativeBuffer {
    if (this.#native === undefined) throw new MTAdamError("DISPOSED", "The buffer has been disposed of.");
    return this.#native;
  }

  #sameLength(subject: string, array: unknown): AnyTypedArray {
    const checked = checkHostArray(subject, array, this.dtype);
    if (typedArrayLength(checked) === this.length) return checked;
    throw mustBe("LENGTH", subject, `have ${this.length} elements, as the buffer has`, checked);
  }
}

// As in native/engine/layout.cpp.
const MAX_LENGTH = 2 ** 40;
