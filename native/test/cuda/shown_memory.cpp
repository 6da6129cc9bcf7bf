#include "test/simt/control.h"

// Linked into a program whose host code other tests watch: device memory is not hidden from it, which costs two calls
// of mprotect for each operation, half of the time of short ones.

namespace {

struct ShownMemory {
  ShownMemory() { simt::cuda::reset_from("hide_device_memory=0"); }
};

const ShownMemory shown_memory;

}  // namespace
