#include "test/ptx/on_ptx.h"

#include <algorithm>
#include <cstdlib>

#include "test/cuda/on_executor.h"
#include "test/simt/control.h"
#include "test/simt/executor.h"

// In place of on_executor.cpp: the same machine, whose launches run PTX.

extern "C" int simt_access_hooks;
int simt_access_hooks = 1;  // each access of PTX is seen

namespace mtadam::test {
namespace {

void reset_machine(bool hide_device_memory) {
  simt::cuda::Settings settings;
  settings.hide_device_memory = hide_device_memory;
  simt::cuda::reset(settings);
}

}  // namespace

std::string ptx_path(const std::string& name) { return MTADAM_PTX_FOLDER "/" + name + ".ptx"; }

ptx::Library& kernels_as_ptx() {
  static ptx::Library library = [] {
    ptx::Library all;
    for (const char* const name : {"cosines", "elementwise", "lagged", "lean", "lean_lagged", "norms", "update"})
      all.add_file(ptx_path(name));
    return all;
  }();
  return library;
}

void OnExecutor::reset(bool hide_device_memory) { reset_machine(hide_device_memory); }

void OnDevice::SetUp() {
  simt::configure({simt::Order::kRandom, 1, 4});
  reset_machine(false);
  ptx::launch_from(kernels_as_ptx());
}

int OnDevice::rounds(int plain) {
  // An eighth takes a minute, all of them several.
  static const bool all = std::getenv("MTADAM_PTX_ALL_ROUNDS") != nullptr;
  return all ? plain : std::max(1, plain / 8);
}

std::uint64_t OnDevice::busy_elements() { return static_cast<std::uint64_t>(rounds(4800)); }

std::uint64_t OnDevice::launches_of(const std::function<void()>& calls) {
  const std::uint64_t before = simt::cuda::calls("cudaLaunchKernel");
  calls();
  return simt::cuda::calls("cudaLaunchKernel") - before;
}

}  // namespace mtadam::test
