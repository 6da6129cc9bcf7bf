// Compares this directory's own types with CUDA's, where CUDA's headers are installed. Both are in this file: CUDA's
// under their names, ours in a namespace.
//   simt_cuda_headers_tests --every-float
// compares the conversions of all floats instead of a sample.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace ours {
#include "test/simt/cuda_types.h"
#include "test/simt/half.h"
#include "test/simt/vector_types.h"
}  // namespace ours

namespace {

bool every_float = false;

template <class Compare>
void for_floats(Compare compare) {
  // A prime, so that the low bits vary too.
  const std::uint64_t step = every_float ? 1 : 257;
  for (std::uint64_t bits = 0; bits <= 0xffffffffu; bits += step) compare(static_cast<std::uint32_t>(bits));
  for (std::uint32_t high = 0; high < 0x10000; ++high) {
    for (const std::uint32_t low : {0x0000u, 0x0001u, 0x0fffu, 0x1000u, 0x1001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      compare(high << 16 | low);
    }
  }
}

TEST(CudaHeadersTest, HalvesHaveTheSameBits) {
  std::uint64_t different = 0;
  for_floats([&](std::uint32_t bits) {
    const float value = std::bit_cast<float>(bits);
    different += __half_as_ushort(__float2half_rn(value)) != ours::__half_as_ushort(ours::__float2half_rn(value));
  });
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<unsigned short>(bits);
    different += std::bit_cast<std::uint32_t>(__half2float(__ushort_as_half(half))) !=
                 std::bit_cast<std::uint32_t>(ours::__half2float(ours::__ushort_as_half(half)));
  }
  EXPECT_EQ(different, 0u);
}

TEST(CudaHeadersTest, Bfloat16sHaveTheSameBits) {
  std::uint64_t different = 0;
  for_floats([&](std::uint32_t bits) {
    const float value = std::bit_cast<float>(bits);
    different += __bfloat16_as_ushort(__float2bfloat16_rn(value)) !=
                 ours::__bfloat16_as_ushort(ours::__float2bfloat16_rn(value));
  });
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto value = static_cast<unsigned short>(bits);
    different += std::bit_cast<std::uint32_t>(__bfloat162float(__ushort_as_bfloat16(value))) !=
                 std::bit_cast<std::uint32_t>(ours::__bfloat162float(ours::__ushort_as_bfloat16(value)));
  }
  EXPECT_EQ(different, 0u);
}

// ---- Layouts and values: if this compiles, they agree ----

#define SAME_LAYOUT(type) static_assert(sizeof(ours::type) == sizeof(::type) && alignof(ours::type) == alignof(::type))
SAME_LAYOUT(char2);
SAME_LAYOUT(char4);
SAME_LAYOUT(uchar2);
SAME_LAYOUT(uchar4);
SAME_LAYOUT(short2);
SAME_LAYOUT(short4);
SAME_LAYOUT(ushort2);
SAME_LAYOUT(ushort4);
SAME_LAYOUT(int2);
SAME_LAYOUT(int3);
SAME_LAYOUT(int4);
SAME_LAYOUT(uint2);
SAME_LAYOUT(uint3);
SAME_LAYOUT(uint4);
SAME_LAYOUT(float2);
SAME_LAYOUT(float3);
SAME_LAYOUT(float4);
SAME_LAYOUT(double2);
SAME_LAYOUT(longlong2);
SAME_LAYOUT(ulonglong2);
SAME_LAYOUT(dim3);
SAME_LAYOUT(__half);
SAME_LAYOUT(__half2);
SAME_LAYOUT(__nv_bfloat16);
SAME_LAYOUT(__nv_bfloat162);

#define SAME_VALUE(name) static_assert(static_cast<int>(ours::name) == static_cast<int>(::name))
#define SAME_ERROR(name, value, text) SAME_VALUE(name);
SIMT_CUDA_ERRORS(SAME_ERROR)
SAME_VALUE(cudaMemcpyHostToHost);
SAME_VALUE(cudaMemcpyHostToDevice);
SAME_VALUE(cudaMemcpyDeviceToHost);
SAME_VALUE(cudaMemcpyDeviceToDevice);
SAME_VALUE(cudaMemcpyDefault);
SAME_VALUE(cudaMemoryTypeUnregistered);
SAME_VALUE(cudaMemoryTypeHost);
SAME_VALUE(cudaMemoryTypeDevice);
SAME_VALUE(cudaMemoryTypeManaged);
SAME_VALUE(cudaStreamCaptureStatusNone);
SAME_VALUE(cudaStreamCaptureStatusActive);
SAME_VALUE(cudaStreamCaptureStatusInvalidated);
SAME_VALUE(cudaStreamCaptureModeGlobal);
SAME_VALUE(cudaStreamCaptureModeThreadLocal);
SAME_VALUE(cudaStreamCaptureModeRelaxed);
SAME_VALUE(cudaGraphNodeTypeKernel);
SAME_VALUE(cudaGraphNodeTypeMemcpy);
SAME_VALUE(cudaGraphNodeTypeMemset);
SAME_VALUE(cudaGraphNodeTypeHost);
SAME_VALUE(cudaGraphNodeTypeEmpty);
SAME_VALUE(cudaDriverEntryPointSuccess);
SAME_VALUE(cudaDriverEntryPointSymbolNotFound);
SAME_VALUE(cudaDriverEntryPointVersionNotSufficent);
SAME_VALUE(cudaDevAttrMaxThreadsPerBlock);
SAME_VALUE(cudaDevAttrMaxSharedMemoryPerBlock);
SAME_VALUE(cudaDevAttrWarpSize);
SAME_VALUE(cudaDevAttrMaxRegistersPerBlock);
SAME_VALUE(cudaDevAttrClockRate);
SAME_VALUE(cudaDevAttrMultiProcessorCount);
SAME_VALUE(cudaDevAttrIntegrated);
SAME_VALUE(cudaDevAttrCanMapHostMemory);
SAME_VALUE(cudaDevAttrComputeMode);
SAME_VALUE(cudaDevAttrConcurrentKernels);
SAME_VALUE(cudaDevAttrPciBusId);
SAME_VALUE(cudaDevAttrPciDeviceId);
SAME_VALUE(cudaDevAttrMemoryClockRate);
SAME_VALUE(cudaDevAttrGlobalMemoryBusWidth);
SAME_VALUE(cudaDevAttrL2CacheSize);
SAME_VALUE(cudaDevAttrMaxThreadsPerMultiProcessor);
SAME_VALUE(cudaDevAttrUnifiedAddressing);
SAME_VALUE(cudaDevAttrPciDomainId);
SAME_VALUE(cudaDevAttrComputeCapabilityMajor);
SAME_VALUE(cudaDevAttrComputeCapabilityMinor);
SAME_VALUE(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
SAME_VALUE(cudaDevAttrMaxRegistersPerMultiprocessor);
SAME_VALUE(cudaDevAttrManagedMemory);
SAME_VALUE(cudaDevAttrSingleToDoublePrecisionPerfRatio);
SAME_VALUE(cudaDevAttrCooperativeLaunch);
SAME_VALUE(cudaDevAttrMaxSharedMemoryPerBlockOptin);
SAME_VALUE(cudaDevAttrMaxBlocksPerMultiprocessor);
SAME_VALUE(cudaDevAttrMemoryPoolsSupported);

}  // namespace

int main(int count, char** arguments) {
  testing::InitGoogleTest(&count, arguments);
  every_float = count > 1 && std::string_view(arguments[1]) == "--every-float";
  return RUN_ALL_TESTS();
}
