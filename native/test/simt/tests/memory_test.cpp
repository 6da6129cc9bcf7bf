// The memory of kernels: shared arrays, aligned accesses, vector types.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "test/simt/device.h"
#include "test/simt/executor.h"
#include "test/simt/tests/support.h"

namespace simt {
namespace {

// ---- Shared arrays ----

template <int kWhich>
__device__ float* own_array() {
  MTADAM_SHARED(float, values, 8);
  return values;
}

__global__ void look_at_arrays(int* out) {
  MTADAM_SHARED(double, doubles, 3);
  MTADAM_SHARED(float4, vectors, 2);
  out[0] = own_array<0>() != own_array<1>();
  out[1] = own_array<0>() == own_array<0>();
  out[2] = reinterpret_cast<std::uintptr_t>(vectors) % 16 == 0 && reinterpret_cast<std::uintptr_t>(doubles) % 8 == 0;
  out[3] = sizeof(vectors) == 32 && sizeof(doubles) == 24;
}

TEST(SharedArrayTest, BelongsToItsPlaceAndItsTemplateInstance) {
  std::vector<int> out(4);
  run(look_at_arrays, 1, 1, out.data());
  EXPECT_EQ(out, (std::vector<int>{1, 1, 1, 1}));
}

__global__ void write_then_swap(int* out) {
  MTADAM_SHARED(int, value, 1);
  if (threadIdx.x == 0) value[0] = static_cast<int>(blockIdx.x);
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = value[0];
}

TEST(SharedArrayTest, BelongsToItsBlock) {
  std::vector<int> out(8 * 64);
  run(write_then_swap, 8, 64, out.data());
  for (std::size_t k = 0; k < out.size(); ++k) EXPECT_EQ(out[k], static_cast<int>(k / 64));
}

template <int kCount>
__global__ void use_floats() {
  MTADAM_SHARED(float, first, 1024);
  MTADAM_SHARED(float, rest, kCount);
  first[0] = 0;
  rest[0] = 0;
}

TEST(SharedArrayTest, EndsAtTheLimitOfABlock) {
  run(use_floats<11 * 1024>, 1, 1);
  const Error error = error_of([] { run(use_floats<11 * 1024 + 1>, 1, 1); });
  EXPECT_EQ(error.fault(), Fault::kSharedMemory);
  EXPECT_NE(std::string(error.what()).find("48 KB"), std::string::npos);
  EXPECT_NE(error.file().find("memory_test.cpp"), std::string::npos);
}

// ---- Accesses with a hint ----

template <class T>
__global__ void copy_with_hints(const T* from, T* to) {
  to[0] = __ldg(from);
  __stcs(to + 1, __ldcs(from + 1));
  __stcg(to + 2, __ldcg(from + 2));
  __stwt(to + 3, __ldlu(from + 3));
  __stwb(to + 4, __ldca(from + 4));
}

template <class T>
void expect_copy() {
  std::vector<T> from(5);
  std::vector<T> to(5);
  auto* bytes = reinterpret_cast<unsigned char*>(from.data());
  for (std::size_t k = 0; k < sizeof(T) * 5; ++k) bytes[k] = static_cast<unsigned char>(k + 1);
  run(copy_with_hints<T>, 1, 1, from.data(), to.data());
  EXPECT_EQ(std::memcmp(from.data(), to.data(), 5 * sizeof(T)), 0);
}

TEST(MemoryAccessTest, CopiesEveryWidth) {
  expect_copy<unsigned char>();
  expect_copy<__half>();
  expect_copy<int>();
  expect_copy<float>();
  expect_copy<float2>();
  expect_copy<double>();
  expect_copy<float4>();
  expect_copy<uint4>();
  expect_copy<double2>();
}

__global__ void load_vector(const float* from, float* to) {
  const float4 v = __ldcs(reinterpret_cast<const float4*>(from + threadIdx.x));
  to[0] = v.x;
}

TEST(MemoryAccessTest, FindsAMisalignedAddress) {
  alignas(16) float from[8] = {};
  float to = 0;
  const Error error = error_of([&] { run(load_vector, 1, 2, from, &to); });
  EXPECT_EQ(error.fault(), Fault::kAlignment);
  EXPECT_EQ(error.thread().x, 1u);
  EXPECT_NE(error.file().find("memory_test.cpp"), std::string::npos);
}

// ---- Types ----

TEST(VectorTypesTest, HaveTheSizesAndAlignmentsOfCuda) {
  static_assert(sizeof(float2) == 8 && alignof(float2) == 8);
  static_assert(sizeof(float3) == 12 && alignof(float3) == 4);
  static_assert(sizeof(float4) == 16 && alignof(float4) == 16);
  static_assert(sizeof(uint4) == 16 && alignof(uint4) == 16);
  static_assert(sizeof(ushort4) == 8 && alignof(ushort4) == 8);
  static_assert(sizeof(uchar4) == 4 && alignof(uchar4) == 4);
  static_assert(sizeof(double2) == 16 && alignof(double2) == 16);
  static_assert(sizeof(dim3) == 12 && alignof(dim3) == 4);
  static_assert(std::is_trivial_v<float4> && std::is_trivial_v<uint4> && std::is_trivial_v<double2>);
  const float4 v = make_float4(1, 2, 3, 4);
  EXPECT_EQ(v.x + 10 * v.y + 100 * v.z + 1000 * v.w, 4321);
  const dim3 grid = 7;
  EXPECT_EQ(grid.x * 100 + grid.y * 10 + grid.z, 711u);
}

TEST(MathFunctionsTest, AreTheRoundedOperations) {
  EXPECT_EQ(__fmaf_rn(1 + 0x1p-12f, 1 + 0x1p-12f, -1.0f), 0x1p-11f + 0x1p-24f);
  EXPECT_EQ(__fma_rn(1 + 0x1p-30, 1 + 0x1p-30, -1.0), 0x1p-29 + 0x1p-60);
  EXPECT_EQ(__float_as_uint(1.0f), 0x3f800000u);
  EXPECT_EQ(__longlong_as_double(__double_as_longlong(-0.5)), -0.5);
  EXPECT_EQ(__popc(0xf0f0u), 8);
  EXPECT_EQ(__ffs(0), 0);
  EXPECT_EQ(__ffs(8), 4);
  EXPECT_EQ(__clz(1), 31);
  EXPECT_EQ(min(3, 5), 3);
  EXPECT_EQ(max(2.0f, NAN), 2.0f);
}

}  // namespace
}  // namespace simt
