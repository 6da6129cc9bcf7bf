#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "test/simt/control.h"
#include "test/simt/cuda_runtime.h"
#include "test/simt/error.h"
#include "test/simt/executor.h"

#define EXPECT_CUDA(expression) EXPECT_EQ(cudaGetErrorName(expression), std::string("cudaSuccess"))
#define ASSERT_CUDA(expression) ASSERT_EQ(cudaGetErrorName(expression), std::string("cudaSuccess"))

namespace simt {

inline const std::vector<Order> kOrders{Order::kAscending, Order::kDescending, Order::kRandom};

inline std::string order_name(const testing::TestParamInfo<Order>& order) {
  switch (order.param) {
    case Order::kAscending:
      return "Ascending";
    case Order::kDescending:
      return "Descending";
    case Order::kRandom:
      return "Random";
  }
  return "";
}

/// The error of a run; fails the test if there is none.
template <class Run>
Error error_of(Run run) {
  try {
    run();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "the kernel ran to its end";
  return Error(Fault::kLaunch, "none");
}

/// Begins with a fresh machine.
class CudaTest : public testing::Test {
 protected:
  CudaTest() {
    settings.print_failures = false;
    cuda::reset(settings);
  }
  ~CudaTest() override {
    cuda::reset();
    configure(Config{});
  }

  /// A fresh machine with the current `settings`.
  void restart() { cuda::reset(settings); }

  template <class T>
  T* device_memory(std::size_t count) {
    T* memory = nullptr;
    EXPECT_CUDA(cudaMalloc(&memory, count * sizeof(T)));
    return memory;
  }

  template <class T>
  T* device_copy(const std::vector<T>& values) {
    T* memory = device_memory<T>(values.size());
    EXPECT_CUDA(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
    // It returns when the values are staged; streams that do not order with the legacy one need more.
    EXPECT_CUDA(cudaStreamSynchronize(cudaStreamLegacy));
    return memory;
  }

  template <class T>
  T* pinned_memory(std::size_t count) {
    T* memory = nullptr;
    EXPECT_CUDA(cudaMallocHost(&memory, count * sizeof(T)));
    return memory;
  }

  template <class T>
  std::vector<T> host_copy(const T* memory, std::size_t count) {
    std::vector<T> values(count);
    EXPECT_CUDA(cudaMemcpy(values.data(), memory, count * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

  cudaStream_t stream(unsigned flags = cudaStreamNonBlocking) {
    cudaStream_t made = nullptr;
    EXPECT_CUDA(cudaStreamCreateWithFlags(&made, flags));
    return made;
  }

  cudaEvent_t event(unsigned flags = cudaEventDisableTiming) {
    cudaEvent_t made = nullptr;
    EXPECT_CUDA(cudaEventCreateWithFlags(&made, flags));
    return made;
  }

  cuda::Settings settings;
};

/// A test that must pass for every time at which streams run their operations.
class CudaExecutionTest : public CudaTest, public testing::WithParamInterface<cuda::Execution> {
 protected:
  CudaExecutionTest() {
    settings.execution = GetParam();
    restart();
  }
};

inline std::string execution_name(const testing::TestParamInfo<cuda::Execution>& execution) {
  switch (execution.param) {
    case cuda::Execution::kEager:
      return "Eager";
    case cuda::Execution::kLazy:
      return "Lazy";
    case cuda::Execution::kRandom:
      return "Random";
  }
  return "";
}

inline const auto kExecutions =
    testing::Values(cuda::Execution::kEager, cuda::Execution::kLazy, cuda::Execution::kRandom);

}  // namespace simt
