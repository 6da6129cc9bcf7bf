#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "cuda/cuda_device.h"

namespace mtadam::test {

/// A test that needs nothing but a CUDA device: it runs on the host executor in programs with on_executor.cpp, and on a
/// GPU in those with on_gpu.cpp.
class OnDevice : public testing::Test {
 public:
  /// As if it had no second-level cache, so that small tensors are treated like large ones.
  static std::shared_ptr<Device> open(std::uint64_t cache_bytes = 0) {
    return std::make_shared<cuda::CudaDevice>(0, cache_bytes);
  }

 protected:
  void SetUp() override;

  /// How many of a test's `plain` rounds to run, fewer where each access is checked; at least one.
  static int rounds(int plain);

  /// Elements of a tensor large enough that calls return while the device is busy.
  static std::uint64_t busy_elements();

  /// How many kernels the calls launch outside of graphs.
  static std::uint64_t launches_of(const std::function<void()>& calls);
};

}  // namespace mtadam::test
