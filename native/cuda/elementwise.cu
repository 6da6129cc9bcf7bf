#include "cuda/kernels/elementwise.cuh"

#include "cuda/errors.h"
#include "cuda/grid.h"
#include "cuda/kernels.h"

namespace mtadam::cuda {
namespace {

constexpr unsigned kThreads = kernels::kElementwiseThreads;

dim3 grid_of(std::uint64_t count) { return grid_for((count + kThreads - 1) / kThreads); }

template <class T>
void fill(void* to, std::uint64_t pattern, std::uint64_t count, cudaStream_t stream) {
  check(launch_kernel(&kernels::fill_kernel<T>, grid_of(count), kThreads, stream, static_cast<T*>(to),
                      static_cast<T>(pattern), count),
        "fill_kernel");
}

}  // namespace

void launch_zero(const Tables& tables, const Call& call, cudaStream_t stream) {
  const auto kernel = tables.narrow ? &kernels::zero_kernel<true> : &kernels::zero_kernel<false>;
  check(launch_kernel(kernel, grid_for(tables.chunk_count * call.count), kThreads, stream, tables, call),
        "zero_kernel");
}

void launch_add(void* target, const void* source, std::uint64_t count, ElementType type, cudaStream_t stream) {
  if (type == ElementType::kFloat32) {
    const dim3 grid = grid_of((count + kernels::kAddsAhead - 1) / kernels::kAddsAhead);
    check(launch_kernel(&kernels::add_kernel, grid, kThreads, stream, static_cast<float*>(target),
                        static_cast<const float*>(source), count),
          "add_kernel");
  } else {
    check(launch_kernel(&kernels::add_narrow_kernel, grid_of(count), kThreads, stream,
                        static_cast<std::uint16_t*>(target), static_cast<const std::uint16_t*>(source), count, type),
          "add_narrow_kernel");
  }
}

void launch_narrow(std::uint16_t* to, const float* from, std::uint64_t count, cudaStream_t stream) {
  check(launch_kernel(&kernels::narrow_kernel, grid_of(count), kThreads, stream, to, from, count), "narrow_kernel");
}

void launch_widen(float* to, const std::uint16_t* from, std::uint64_t count, ElementType type, cudaStream_t stream) {
  check(launch_kernel(&kernels::widen_kernel, grid_of(count), kThreads, stream, to, from, count, type), "widen_kernel");
}

void launch_fill(void* to, std::uint64_t pattern, std::size_t element, std::uint64_t count, cudaStream_t stream) {
  switch (element) {
    case 1:
      return fill<std::uint8_t>(to, pattern, count, stream);
    case 2:
      return fill<std::uint16_t>(to, pattern, count, stream);
    case 4:
      return fill<std::uint32_t>(to, pattern, count, stream);
    default:
      return fill<std::uint64_t>(to, pattern, count, stream);
  }
}

}  // namespace mtadam::cuda
