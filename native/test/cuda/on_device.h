#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "cuda/cuda.h"

namespace mtadam::test {

/// A test of the CUDA device that asks nothing of the machine but to be one: it runs on the host executor and on a GPU.
/// The program says which: it is linked with on_executor.cpp or with on_gpu.cpp.
class OnDevice : public testing::Test {
 protected:
  void SetUp() override;

  static std::shared_ptr<Device> open() { return cuda::open(0); }

  /// How many of a test's `plain` rounds take no longer where each access is watched; at least one.
  static int rounds(int plain);

  /// Elements of a tensor that keep the device busy while calls return.
  static std::uint64_t busy_elements();

  /// Kernels that the calls launch, one by one and not as a graph.
  static std::uint64_t launches_of(const std::function<void()>& calls);
};

}  // namespace mtadam::test
