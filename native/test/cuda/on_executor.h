#pragma once

#include "test/cuda/on_device.h"

namespace mtadam::test {

/// A test that sets up the machine, decides when streams run or counts what exists: no GPU lets it.
class OnExecutor : public OnDevice {
 protected:
  /// A machine as if the process had just started, which each test begins with. Hiding device memory from the host
  /// costs two system calls an operation: a test of its own has it.
  static void reset(bool hide_device_memory);
};

}  // namespace mtadam::test
