#include "test/cuda/on_executor.h"

#include <algorithm>

#include "test/simt/access.h"
#include "test/simt/control.h"
#include "test/simt/executor.h"
#include "test/simt/sanitizers.h"

namespace mtadam::test {
namespace {

void reset_machine(bool hide_device_memory) {
  simt::cuda::Settings settings;
  settings.hide_device_memory = hide_device_memory;
  simt::cuda::reset(settings);
}

}  // namespace

void OnExecutor::reset(bool hide_device_memory) { reset_machine(hide_device_memory); }

void OnDevice::SetUp() {
  // Races between blocks need several resident blocks.
  simt::configure({simt::Order::kRandom, 1, simt::under_thread_sanitizer() ? 16u : 4u});
  reset_machine(false);
}

int OnDevice::rounds(int plain) {
  const int slower = simt::under_thread_sanitizer() ? 48 : simt::access::active() ? 4 : 1;
  return std::max(1, plain / (simt::under_address_sanitizer() ? 2 : slower));
}

std::uint64_t OnDevice::busy_elements() { return static_cast<std::uint64_t>(rounds(4800)); }

std::uint64_t OnDevice::launches_of(const std::function<void()>& calls) {
  const std::uint64_t before = simt::cuda::calls("cudaLaunchKernel");
  calls();
  return simt::cuda::calls("cudaLaunchKernel") - before;
}

}  // namespace mtadam::test
