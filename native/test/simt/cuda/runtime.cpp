#include "test/simt/cuda/runtime.h"

#include <cstdio>
#include <cstring>

namespace simt::cuda {

constinit thread_local bool in_host_function = false;
constinit thread_local int launching_device = -1;

Runtime& Runtime::get() {
  // Never destroyed: other threads and static objects may use the runtime until the process ends.
  static Runtime* const runtime = [] {
    auto* created = new Runtime;
    created->reset({});
    return created;
  }();
  return *runtime;
}

void Runtime::reset(const Settings& changed) {
  for (int k = 0; k < kMaxDevices; ++k) {
    if (devices[static_cast<std::size_t>(k)]) reset_device(k);
  }
  if (!pinned) {
    pinned = std::make_unique<Arena>();
    pinned->show();
  }
  graphs.clear();
  pools.clear();
  executables.clear();
  closing.clear();
  faults.clear();
  counters = Counters{};
  retained_handles = retained_contexts = 0;
  with_context.clear();
  settings = changed;
  if (settings.devices > kMaxDevices) settings.devices = kMaxDevices;
  set_execution(settings.execution, settings.seed);
  ++generation_;
  for (const auto& each : devices) {
    if (each) apply_settings(*each);
  }
}

void Runtime::set_execution(Execution execution, std::uint64_t seed) {
  settings.execution = execution;
  settings.seed = seed;
  random_state_ = seed * 0x9e3779b97f4a7c15u | 1;
}

ThreadState& Runtime::thread() {
  thread_local ThreadState state;
  if (state.generation != generation_) {
    state = ThreadState{};
    state.generation = generation_;
  }
  return state;
}

std::uint64_t Runtime::random() {
  random_state_ ^= random_state_ << 13;
  random_state_ ^= random_state_ >> 7;
  random_state_ ^= random_state_ << 17;
  return random_state_;
}

void Runtime::fail(cudaError_t error, int index, const std::string& text) {
  Device& failed = device(index);
  if (failed.sticky != cudaSuccess) return;
  failed.sticky = error;
  if (failure.empty()) failure = text;
  if (settings.print_failures) std::fprintf(stderr, "CUDA on the executor: %s\n", text.c_str());
}

std::optional<cudaError_t> Runtime::injected(const std::string& call) {
  std::optional<cudaError_t> error;
  for (InjectedFault& fault : faults) {
    const bool any = fault.call.empty() && call != "allocation" && call != "launch";
    if ((fault.call != call && !any) || fault.remaining <= 0) continue;
    if (--fault.remaining == 0) error = fault.error;
  }
  return error;
}

// ---- Devices ----

Device& Runtime::device(int index) {
  std::unique_ptr<Device>& slot = devices[static_cast<std::size_t>(index)];
  if (!slot) {
    slot = std::make_unique<Device>();
    slot->legacy = std::make_shared<Stream>();
    slot->legacy->device = index;
    slot->legacy->legacy = true;
    apply_settings(*slot);
    if (memory_shown_) slot->memory.show();
  }
  return *slot;
}

void Runtime::apply_settings(Device& changed) {
  changed.memory.keep_freed(settings.quarantine);
  if (changed.always_shown == !settings.hide_device_memory) return;
  changed.always_shown = !changed.always_shown;
  changed.always_shown ? changed.memory.show() : changed.memory.hide();
}

void Runtime::reset_device(int index) {
  Device& fresh = device(index);
  for (const auto& stream : all_streams()) {
    if (stream->device == index) stream->drop();
  }
  for (const auto& [handle, stream] : std::map(streams.all())) {
    if (stream->device == index) streams.remove(handle);
  }
  for (const auto& [handle, event] : std::map(events.all())) {
    if (event->device == index) events.remove(handle);
  }
  std::erase_if(closing, [&](const auto& stream) { return stream->device == index; });
  fresh.memory.show();
  while (!fresh.memory.live_allocations().empty()) fresh.memory.retire(*fresh.memory.live_allocations().back());
  fresh.memory.hide();
  if (pinned) {
    for (Allocation* allocation : std::vector(pinned->live_allocations())) {
      if (allocation->device == index) pinned->retire(*allocation);
    }
  }
  fresh.legacy = std::make_shared<Stream>();
  fresh.legacy->device = index;
  fresh.legacy->legacy = true;
  fresh.per_thread.clear();
  fresh.sticky = cudaSuccess;
  failure.clear();
}

void Runtime::show_memory() {
  if (memory_shown_) return;
  memory_shown_ = true;
  for (const auto& each : devices) {
    if (each) each->memory.show();
  }
}

void Runtime::hide_memory() {
  if (!memory_shown_) return;
  memory_shown_ = false;
  for (const auto& each : devices) {
    if (each) each->memory.hide();
  }
}

// ---- Calls ----

RuntimeCall::RuntimeCall(const char* name, Needs needs) : lock_(Runtime::get().mutex), needs_(needs) {
  Runtime& runtime = Runtime::get();
  runtime.lock = &lock_;
  runtime.counters.calls[name] += 1;
  refusal_ = find_refusal(name, needs);
  if (refused()) {
    runtime.thread().last_error = refusal_;
  } else if (needs != Needs::kNothing) {
    runtime.run_some();
  }
}

RuntimeCall::~RuntimeCall() {
  Runtime& runtime = Runtime::get();
  if (!refused() && needs_ != Needs::kNothing) runtime.run_some();
  runtime.hide_memory();
}

cudaError_t RuntimeCall::find_refusal(const char* name, Needs needs) {
  Runtime& runtime = Runtime::get();
  if (const auto error = runtime.injected(name)) return *error;
  if (needs == Needs::kNothing) return cudaSuccess;
  if (in_host_function) return cudaErrorNotPermitted;

  const Settings& settings = runtime.settings;
  const bool driver_fits = settings.driver_version / 1000 >= CUDART_VERSION / 1000;
  if (!settings.driver || !driver_fits) return cudaErrorInsufficientDriver;
  if (settings.devices == 0) return cudaErrorNoDevice;
  if (needs == Needs::kDevice) return cudaSuccess;
  if (runtime.thread().context == nullptr) runtime.enter_primary_context(runtime.thread().device);
  if (runtime.thread().context == other_context()) {
    runtime.fail(cudaErrorInvalidResourceHandle, runtime.thread().device,
                 std::string(name) + " was called in a context of the program's own");
  }
  if (runtime.current().sticky != cudaSuccess) return runtime.current().sticky;
  if (needs == Needs::kSafe && runtime.refuses_unsafe_calls()) return cudaErrorStreamCaptureUnsupported;
  return cudaSuccess;
}

cudaError_t RuntimeCall::done(cudaError_t error) {
  if (error != cudaSuccess) Runtime::get().thread().last_error = error;
  return error;
}

cudaError_t RuntimeCall::outcome(int device) { return done(Runtime::get().device(device).sticky); }

}  // namespace simt::cuda

using simt::cuda::Runtime;

// ---- Errors ----

extern "C" {

cudaError_t cudaGetLastError() {
  SIMT_CUDA_CALL(kNothing);
  simt::cuda::ThreadState& thread = runtime.thread();
  const cudaError_t last = thread.last_error;
  thread.last_error = cudaSuccess;
  const bool usable = runtime.settings.driver && runtime.valid_device(thread.device);
  const cudaError_t sticky = usable ? runtime.current().sticky : cudaSuccess;
  return sticky != cudaSuccess ? sticky : last;
}

cudaError_t cudaPeekAtLastError() {
  SIMT_CUDA_CALL(kNothing);
  const bool usable = runtime.settings.driver && runtime.valid_device(runtime.thread().device);
  const cudaError_t sticky = usable ? runtime.current().sticky : cudaSuccess;
  return sticky != cudaSuccess ? sticky : runtime.thread().last_error;
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define SIMT_NAME(name, value, text) \
  case name:                         \
    return #name;
    SIMT_CUDA_ERRORS(SIMT_NAME)
#undef SIMT_NAME
  }
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
#define SIMT_TEXT(name, value, text) \
  case name:                         \
    return text;
    SIMT_CUDA_ERRORS(SIMT_TEXT)
#undef SIMT_TEXT
  }
  return "unrecognized error code";
}

}  // extern "C"
