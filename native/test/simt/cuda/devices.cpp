#include <cstdio>
#include <cstring>

#include "test/simt/cuda/runtime.h"
#include "test/simt/cuda_runtime.h"
#include "test/simt/shared_memory.h"

namespace {

constexpr int kWarpSize = 32;
constexpr int kMaxBlockThreads = 1024;
constexpr int kMaxBlockZ = 64;
constexpr int kMaxGridX = 0x7fffffff;
constexpr int kMaxGridYZ = 65535;
constexpr int kRegisters = 65536;
constexpr int kMaxThreadsPerMultiprocessor = 2048;
constexpr int kMaxBlocksPerMultiprocessor = 32;
constexpr int kSharedPerMultiprocessor = 228 << 10;
constexpr int kSharedOptIn = 227 << 10;
constexpr int kMemoryBusWidth = 4096;
constexpr int kL2Bytes = 32 << 20;
constexpr int kClockRate = 1'500'000;        // kHz
constexpr int kMemoryClockRate = 2'000'000;  // kHz

}  // namespace

extern "C" {

cudaError_t cudaDriverGetVersion(int* version) {
  SIMT_CUDA_CALL(kNothing);
  if (!version) return call.done(cudaErrorInvalidValue);
  *version = runtime.settings.driver ? runtime.settings.driver_version : 0;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  SIMT_CUDA_CALL(kNothing);
  if (!version) return call.done(cudaErrorInvalidValue);
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  if (count) *count = 0;
  SIMT_CUDA_CALL(kDevice);
  if (!count) return call.done(cudaErrorInvalidValue);
  *count = runtime.settings.devices;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  SIMT_CUDA_CALL(kDevice);
  if (!runtime.valid_device(device)) return call.done(cudaErrorInvalidDevice);
  runtime.enter_primary_context(device);
  return cudaSuccess;
}

cudaError_t cudaInitDevice(int device, unsigned, unsigned) {
  SIMT_CUDA_CALL(kDevice);
  if (!runtime.valid_device(device)) return call.done(cudaErrorInvalidDevice);
  runtime.with_context.insert(device);
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  SIMT_CUDA_CALL(kDevice);
  if (!device) return call.done(cudaErrorInvalidValue);
  *device = runtime.thread().device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  SIMT_CUDA_CALL(kDevice);
  if (!properties) return call.done(cudaErrorInvalidValue);
  if (!runtime.valid_device(device)) return call.done(cudaErrorInvalidDevice);
  const simt::cuda::Settings& settings = runtime.settings;
  cudaDeviceProp found{};
  std::snprintf(found.name, sizeof found.name, "SIMT executor %d", device);
  found.uuid.bytes[15] = static_cast<char>(device + 1);
  found.totalGlobalMem = settings.memory;
  found.sharedMemPerBlock = simt::SharedMemory::kLimit;
  found.regsPerBlock = kRegisters;
  found.warpSize = kWarpSize;
  found.maxThreadsPerBlock = kMaxBlockThreads;
  found.maxThreadsDim[0] = kMaxBlockThreads;
  found.maxThreadsDim[1] = kMaxBlockThreads;
  found.maxThreadsDim[2] = kMaxBlockZ;
  found.maxGridSize[0] = kMaxGridX;
  found.maxGridSize[1] = kMaxGridYZ;
  found.maxGridSize[2] = kMaxGridYZ;
  found.major = settings.compute_major;
  found.minor = settings.compute_minor;
  found.multiProcessorCount = settings.multiprocessors;
  found.canMapHostMemory = 1;
  found.concurrentKernels = 1;
  found.pciBusID = device + 1;
  found.asyncEngineCount = 2;
  found.unifiedAddressing = 1;
  found.memoryBusWidth = kMemoryBusWidth;
  found.l2CacheSize = kL2Bytes;
  found.maxThreadsPerMultiProcessor = kMaxThreadsPerMultiprocessor;
  found.sharedMemPerMultiprocessor = kSharedPerMultiprocessor;
  found.regsPerMultiprocessor = kRegisters;
  found.sharedMemPerBlockOptin = kSharedOptIn;
  found.maxBlocksPerMultiProcessor = kMaxBlocksPerMultiprocessor;
  *properties = found;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  SIMT_CUDA_CALL(kDevice);
  if (!value) return call.done(cudaErrorInvalidValue);
  if (!runtime.valid_device(device)) return call.done(cudaErrorInvalidDevice);
  const simt::cuda::Settings& settings = runtime.settings;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY:
      *value = kMaxBlockThreads;
      return cudaSuccess;
    case cudaDevAttrMaxBlockDimZ:
      *value = kMaxBlockZ;
      return cudaSuccess;
    case cudaDevAttrMaxGridDimX:
      *value = kMaxGridX;
      return cudaSuccess;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
      *value = kMaxGridYZ;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(simt::SharedMemory::kLimit);
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = kWarpSize;
      return cudaSuccess;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      *value = kRegisters;
      return cudaSuccess;
    case cudaDevAttrClockRate:
      *value = kClockRate;
      return cudaSuccess;
    case cudaDevAttrMemoryClockRate:
      *value = kMemoryClockRate;
      return cudaSuccess;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = kMemoryBusWidth;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = kL2Bytes;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = settings.multiprocessors;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = kMaxThreadsPerMultiprocessor;
      return cudaSuccess;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = kMaxBlocksPerMultiprocessor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = kSharedPerMultiprocessor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = kSharedOptIn;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = settings.compute_major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = settings.compute_minor;
      return cudaSuccess;
    case cudaDevAttrSingleToDoublePrecisionPerfRatio:
      *value = 2;
      return cudaSuccess;
    case cudaDevAttrPciBusId:
      *value = device + 1;
      return cudaSuccess;
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrUnifiedAddressing:
      *value = 1;
      return cudaSuccess;
    case cudaDevAttrIntegrated:
    case cudaDevAttrComputeMode:
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId:
    case cudaDevAttrManagedMemory:
    case cudaDevAttrCooperativeLaunch:
      *value = 0;
      return cudaSuccess;
    case cudaDevAttrMemoryPoolsSupported:
      *value = settings.pools ? 1 : 0;
      return cudaSuccess;
  }
  return call.done(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  SIMT_CUDA_CALL(kDevice);
  if (!can) return call.done(cudaErrorInvalidValue);
  if (!runtime.valid_device(device) || !runtime.valid_device(peer)) return call.done(cudaErrorInvalidDevice);
  *can = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  SIMT_CUDA_CALL(kSafe);
  const int device = runtime.thread().device;
  for (const auto& stream : runtime.all_streams()) {
    if (!stream->capture || stream->device != device) continue;
    stream->capture->invalidated = true;
    return call.done(cudaErrorStreamCaptureUnsupported);
  }
  runtime.synchronise_device(device);
  return call.outcome(device);
}

cudaError_t cudaDeviceReset() {
  SIMT_CUDA_CALL(kDevice);
  runtime.reset_device(runtime.thread().device);
  runtime.thread().last_error = cudaSuccess;
  return cudaSuccess;
}

}  // extern "C"
