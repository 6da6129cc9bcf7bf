#pragma once

#include "test/cuda/on_device.h"

namespace mtadam::test {

/// A test that sets up the machine, decides when streams run or counts live objects, which no GPU allows.
class OnExecutor : public OnDevice {
 protected:
  /// Each test begins with a fresh machine. Hiding device memory from the host costs two system calls per operation, so
  /// only one test does it.
  static void reset(bool hide_device_memory);
};

}  // namespace mtadam::test
