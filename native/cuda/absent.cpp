#include "cuda/cuda.h"
#include "engine/errors.h"

// In place of everything else in this folder, where the build has no CUDA.

namespace mtadam::cuda {
namespace {

constexpr const char* kReason = "This build of mtadam has no CUDA.";

}  // namespace

Description describe() {
  Description description;
  description.reason = kReason;
  return description;
}

std::shared_ptr<Device> open(int) { throw Error("NO_DEVICE", kReason); }

std::unique_ptr<Memory> open_memory(Device&, const std::byte*, std::size_t) { throw Error("NO_DEVICE", kReason); }

int owner_of(const void*) { return -1; }

}  // namespace mtadam::cuda
