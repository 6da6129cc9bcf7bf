import type { NativeBuffer } from "../addon/native";
import { fromNative, fromNativePromise } from "../errors";
import { addonOf, DeviceBuffer, nativeDevice, type Device } from "../memory/device";
import type { ParameterDtype } from "../memory/dtype";
import type { Layout } from "./layout";

/** Memory of a CUDA device that the Python process has allocated, with a buffer for each parameter and gradient. */
export class CudaMemory {
  #whole: NativeBuffer | undefined;
  readonly buffers: readonly DeviceBuffer<ParameterDtype>[];

  /**
   * @param handle of cudaIpcGetMemHandle
   * @throws MTAdamError CUDA, INVALID_POINTER, DISPOSED
   */
  constructor(device: Device, handle: Uint8Array, { byteLength, offsets, lengths, dtypes }: Layout) {
    const whole = fromNative(() => new (addonOf(device).Buffer)(nativeDevice(device), byteLength, handle));
    this.#whole = whole;
    this.buffers = Array.from(lengths, (length, k) =>
      DeviceBuffer.partOf(whole, device, dtypes[k]!, length, offsets[k]!),
    );
  }

  /** Settles when all work of this process on the device is done: no event orders it with that of the other process. */
  async ready(): Promise<void> {
    await fromNativePromise(fromNative(() => this.#whole?.download(new Float32Array(0))));
  }

  /** Waits for the device, and closes the memory. Its buffers are then disposed of. */
  dispose(): void {
    for (const buffer of this.buffers) buffer.dispose();
    this.#whole?.dispose();
    this.#whole = undefined;
  }
}
