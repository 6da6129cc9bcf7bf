#include "test/simt/control.h"

#include <signal.h>
#include <unistd.h>
#include <algorithm>

#include "test/simt/cuda/runtime.h"
#include "test/simt/symbols.h"

namespace simt::cuda {

namespace {

void inject(const std::string& call, int n, cudaError_t error) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  runtime.faults.push_back({call, n, error});
}

}  // namespace

void reset(const Settings& changed) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  runtime.reset(changed);
}

Settings settings() {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  return runtime.settings;
}

void set_execution(Execution execution, std::uint64_t seed) {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  runtime.set_execution(execution, seed);
}

void fail_launch(int n, cudaError_t error) { inject("launch", n, error); }
void fail_call(const std::string& function, int n, cudaError_t error) { inject(function, n, error); }
void fail_allocation(int n) { inject("allocation", n, cudaErrorMemoryAllocation); }

bool clear_faults() {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  const bool any = std::any_of(runtime.faults.begin(), runtime.faults.end(),
                               [](const InjectedFault& fault) { return fault.remaining > 0; });
  runtime.faults.clear();
  return any;
}

std::string failure() {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  return runtime.failure;
}

Counters counters() {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  return runtime.counters;
}

void reset_counters() {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  runtime.counters = Counters{};
}

std::uint64_t calls(const std::string& function) {
  const Counters now = counters();
  const auto found = now.calls.find(function);
  return found == now.calls.end() ? 0 : found->second;
}

std::uint64_t launches() {
  std::uint64_t sum = 0;
  for (const auto& [name, count] : counters().launches) sum += count;
  return sum;
}

std::uint64_t launches(const std::string& kernel) {
  std::uint64_t sum = 0;
  for (const auto& [name, count] : counters().launches) {
    if (unqualified(name) == kernel) sum += count;
  }
  return sum;
}

Live live() {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  Live found;
  for (const auto& device : runtime.devices) {
    if (!device) continue;
    found.device_allocations += device->memory.live_allocations().size();
    found.device_bytes += device->memory.live_bytes();
  }
  found.pinned_allocations = runtime.pinned->live_allocations().size();
  found.pinned_bytes = runtime.pinned->live_bytes();
  found.streams = runtime.streams.all().size();
  found.events = runtime.events.all().size();
  found.graphs = runtime.graphs.all().size();
  found.graph_executables = runtime.executables.all().size();
  found.retained = runtime.retained_handles + runtime.retained_contexts;
  runtime.each_stream([&](const auto& stream) { found.queued_operations += stream->queue.size(); });
  return found;
}

std::set<int> devices_with_context() {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  return runtime.with_context;
}

DeviceMemoryShown::DeviceMemoryShown() {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  for (unsigned k = 0; k < Runtime::kMaxDevices; ++k) {
    if (!runtime.devices[k]) continue;
    runtime.devices[k]->memory.show();
    shown_ |= 1u << k;
  }
}

DeviceMemoryShown::~DeviceMemoryShown() {
  Runtime& runtime = Runtime::get();
  const std::lock_guard lock(runtime.mutex);
  for (unsigned k = 0; k < Runtime::kMaxDevices; ++k) {
    if (shown_ >> k & 1) runtime.devices[k]->memory.hide();
  }
}

// ---- An access to hidden memory ----

namespace {

struct sigaction handler_before;

void explain(int, siginfo_t* information, void*) {
  const Runtime& runtime = Runtime::get();
  for (const auto& device : runtime.devices) {
    if (!device || !device->memory.contains(information->si_addr)) continue;
    constexpr char kText[] = "host code accesses device memory\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kText, sizeof kText - 1);
  }
  // The access is made again when this returns, and meets the handler that was there before.
  sigaction(SIGSEGV, &handler_before, nullptr);
}

}  // namespace

void explain_host_accesses() {
  struct sigaction action {};
  action.sa_sigaction = explain;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, &handler_before);
}

}  // namespace simt::cuda
