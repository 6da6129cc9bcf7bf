#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "cuda/cuda_device.h"
#include "test/simt/access.h"
#include "test/simt/control.h"
#include "test/simt/executor.h"
#include "test/simt/sanitizers.h"

namespace mtadam::test {

/// Each test begins with a machine as if the process had just started.
class OnExecutor : public testing::Test {
 protected:
  void SetUp() override {
    // Races between blocks need them at once.
    simt::configure({simt::Order::kRandom, 1, simt::under_thread_sanitizer() ? 16u : 4u});
    reset(false);
  }

  /// Hiding device memory from the host costs two system calls an operation: a test of its own has it.
  static void reset(bool hide_device_memory) {
    simt::cuda::Settings settings;
    settings.hide_device_memory = hide_device_memory;
    simt::cuda::reset(settings);
  }

  static std::shared_ptr<Device> open() { return std::make_shared<cuda::CudaDevice>(0); }

  /// How many of a test's `plain` rounds take no longer where each access is watched; at least one.
  static int rounds(int plain) {
    const int slower = simt::under_thread_sanitizer() ? 48 : simt::access::active() ? 4 : 1;
    return std::max(1, plain / (simt::under_address_sanitizer() ? 2 : slower));
  }
};

}  // namespace mtadam::test
