import koffi, { type LibraryHandle } from "koffi";

const TO_DEVICE = 1;
const TO_HOST = 2;

/** The memory of a CUDA device. Addresses are bigints. */
export interface DeviceMemory {
  allocate(bytes: number): bigint;
  upload(address: bigint, values: Float32Array): void;
  download(address: bigint, values: Float32Array): void;
  free(address: bigint): void;
}

const LIBRARIES = [
  "libcudart.so",
  "libcudart.so.13",
  "libcudart.so.12",
  "cudart64_13.dll",
  "cudart64_12.dll",
];

/** CUDA's runtime, a shared library, called through koffi. */
export function openRuntime(names: readonly string[] = LIBRARIES): DeviceMemory {
  const library = load(names);
  const malloc = library.func("int cudaMalloc(_Out_ void **address, size_t bytes)");
  // A typed array is passed as the address of its memory.
  const copy = library.func("int cudaMemcpy(void *to, const void *from, size_t bytes, int kind)");
  const free = library.func("int cudaFree(void *address)");
  const describe = library.func("const char *cudaGetErrorString(int status)");

  const check = (call: string, status: number): void => {
    if (status !== 0) throw new Error(`${call}: ${String(describe(status))}`);
  };
  return {
    allocate: (bytes) => {
      const address: [bigint | null] = [null];
      check("cudaMalloc", malloc(address, bytes) as number);
      return address[0]!;
    },
    upload: (address, values) => {
      check("cudaMemcpy", copy(address, values, values.byteLength, TO_DEVICE) as number);
    },
    download: (address, values) => {
      check("cudaMemcpy", copy(values, address, values.byteLength, TO_HOST) as number);
    },
    free: (address) => {
      check("cudaFree", free(address) as number);
    },
  };
}

function load(names: readonly string[]): LibraryHandle {
  const reasons: string[] = [];
  for (const name of names) {
    try {
      return koffi.load(name);
    } catch (error) {
      reasons.push((error as Error).message);
    }
  }
  throw new Error(`CUDA's runtime cannot be loaded:\n${reasons.join("\n")}`);
}
