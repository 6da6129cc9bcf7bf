#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "test/simt/control.h"
#include "test/simt/cuda/arena.h"
#include "test/simt/cuda/stream.h"

namespace simt::cuda {

/// Objects behind opaque handles. Handles are not reused unless asked for, so the use of a destroyed object is found.
template <class Handle, class Object>
class Handles {
 public:
  explicit Handles(std::uintptr_t first) : next_(first) {}

  /// @param reuse whether to use the handle that was removed last again, if there is one
  Handle add(std::shared_ptr<Object> object, bool reuse = false) {
    const bool again = reuse && removed_.has_value();
    if (!again) next_ += 16;
    const Handle handle = again ? *removed_ : reinterpret_cast<Handle>(next_);
    if (again) removed_.reset();
    objects_.emplace(handle, std::move(object));
    return handle;
  }
  std::shared_ptr<Object> find(Handle handle) const {
    const auto found = objects_.find(handle);
    return found == objects_.end() ? nullptr : found->second;
  }
  void remove(Handle handle) {
    objects_.erase(handle);
    removed_ = handle;
  }
  void clear() {
    objects_.clear();
    removed_.reset();
  }
  const std::map<Handle, std::shared_ptr<Object>>& all() const { return objects_; }

 private:
  std::uintptr_t next_;
  std::optional<Handle> removed_;
  std::map<Handle, std::shared_ptr<Object>> objects_;
};

struct Device {
  Arena memory;
  std::shared_ptr<Stream> legacy;
  std::map<std::thread::id, std::shared_ptr<Stream>> per_thread;
  cudaError_t sticky = cudaSuccess;
  bool always_shown = false;
};

/// An operation failed in a way that CUDA reports as `error`.
struct OperationFailed : std::runtime_error {
  OperationFailed(cudaError_t code, const std::string& text) : std::runtime_error(text), error(code) {}
  cudaError_t error;
};

struct InjectedFault {
  std::string call;
  int remaining;
  cudaError_t error;
};

struct ThreadState {
  std::uint64_t generation = 0;
  int device = 0;           ///< that of the context, where there is one
  void* context = nullptr;  ///< the thread's current one; null for none
  cudaError_t last_error = cudaSuccess;
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
};

/// This host thread runs a function that a stream calls.
extern constinit thread_local bool in_host_function;

/// The device whose kernel runs on this host thread; -1 when none does.
extern constinit thread_local int launching_device;

/// The state of the simulated machine. One lock guards it all; only host functions that a stream calls run without it.
class Runtime {
 public:
  static constexpr int kMaxDevices = 8;

  static Runtime& get();

  std::mutex mutex;
  std::condition_variable host_function_ended;
  std::unique_lock<std::mutex>* lock = nullptr;  ///< of the call that is being made

  Settings settings;
  Counters counters;
  std::string failure;
  std::vector<InjectedFault> faults;

  std::array<std::unique_ptr<Device>, kMaxDevices> devices;
  std::unique_ptr<Arena> pinned;
  std::size_t retained_handles = 0;   ///< by cuMemRetainAllocationHandle
  std::size_t retained_contexts = 0;  ///< by cuDevicePrimaryCtxRetain
  std::set<int> with_context;         ///< devices whose primary context has been made
  Handles<cudaStream_t, Stream> streams{0x5100'0000};
  Handles<cudaEvent_t, Event> events{0x5200'0000};
  Handles<cudaGraph_t, Graph> graphs{0x5300'0000};
  Handles<cudaGraphExec_t, GraphExecutable> executables{0x5400'0000};
  Handles<cudaMemPool_t, int> pools{0x5500'0000};  ///< each with its device
  std::vector<std::shared_ptr<Stream>> closing;    ///< destroyed streams that are not settled

  void reset(const Settings& changed);
  void set_execution(Execution execution, std::uint64_t seed);
  ThreadState& thread();
  std::uint64_t random();
  void fail(cudaError_t error, int device, const std::string& text);

  // ---- Devices ----

  bool valid_device(int device) const { return device >= 0 && device < settings.devices; }
  Device& device(int index);
  Device& current() { return device(thread().device); }
  /// Makes the device's primary context, if there is none, and makes it the thread's current one.
  void enter_primary_context(int device);
  void reset_device(int index);
  void apply_settings(Device& device);
  /// Until the call that is being made ends.
  void show_memory();
  void hide_memory();

  // ---- Streams ----

  /// Null for an invalid handle.
  std::shared_ptr<Stream> stream(cudaStream_t handle);
  std::vector<std::shared_ptr<Stream>> all_streams();
  /// Calls visit(stream) for all of them, which must make and destroy none.
  template <class Visit>
  void each_stream(const Visit& visit) {
    for (const auto& each : devices) {
      if (!each) continue;
      visit(each->legacy);
      for (const auto& [thread, stream] : each->per_thread) visit(stream);
    }
    for (const auto& [handle, stream] : streams.all()) visit(stream);
    for (const auto& stream : closing) visit(stream);
  }
  /// Adds to the stream's queue, or to the graph that it captures.
  cudaError_t enqueue(const std::shared_ptr<Stream>& stream, const Recipe& recipe);
  cudaError_t enqueue_after(const std::shared_ptr<Stream>& stream, const Recipe& recipe, std::vector<Point> after);
  /// Runs the operations that must run before the point is reached.
  void reach(const Point& point);
  /// Runs one operation that the point needs, if it is not reached yet.
  void approach(const Point& point);
  /// The program knows that the point is reached: copies to the host up to there arrive.
  void observe(const Point& point);
  void synchronise(const std::shared_ptr<Stream>& stream);
  void synchronise_device(int device);
  /// Runs some operations, as the execution mode has it.
  void run_some();
  /// Whether a copy to this host memory is queued, or done without the program knowing.
  bool awaits_delivery(const HostRange& range);
  /// The host memory is about to be read by an operation: what copies have brought for it arrives.
  void deliver_into(const HostRange& range);

  // ---- Capture ----

  /// A call that is not allowed while the calling thread may not do unsafe things; invalidates the captures it is
  /// refused for.
  bool refuses_unsafe_calls();
  /// Whether a stream that the legacy one orders with is capturing.
  bool captures_with(const Stream& legacy);
  /// The use of the legacy stream while there is such a stream; invalidates its capture.
  bool refuses_legacy(const Stream& legacy);

  // ---- Injected faults ----

  std::optional<cudaError_t> injected(const std::string& call);

 private:
  Runtime() = default;

  bool ready(const Operation& operation) const;
  bool step(const std::shared_ptr<Stream>& stream);
  void run_operation(const std::shared_ptr<Stream>& stream, Operation& operation);
  void call_host(const std::shared_ptr<Stream>& stream, Operation& operation);
  void push(const std::shared_ptr<Stream>& stream, Operation operation, std::vector<Point> after);
  bool reads_later(const HostRange& range);
  void conceal(Delivery& delivery);
  void deliver(Delivery& delivery);

  bool memory_shown_ = false;
  std::uint64_t generation_ = 1;
  std::uint64_t random_state_ = 1;
};

/// Every function of the runtime begins with one: it takes the lock, counts the call, and says whether it is refused
/// for a reason that has nothing to do with its arguments.
class RuntimeCall {
 public:
  enum class Needs {
    kNothing,  ///< always answers
    kDevice,   ///< a driver and a device
    kContext,  ///< and that the current device has not failed
    kSafe,     ///< and that no capture forbids it
  };

  RuntimeCall(const char* name, Needs needs);
  ~RuntimeCall();
  RuntimeCall(const RuntimeCall&) = delete;
  RuntimeCall& operator=(const RuntimeCall&) = delete;

  bool refused() const { return refusal_ != cudaSuccess; }
  cudaError_t refusal() const { return refusal_; }
  /// Remembers an error for cudaGetLastError.
  cudaError_t done(cudaError_t error);
  /// The state of a device after waiting.
  cudaError_t outcome(int device);

 private:
  cudaError_t find_refusal(const char* name, Needs needs);

  std::unique_lock<std::mutex> lock_;
  const Needs needs_;
  cudaError_t refusal_ = cudaSuccess;
};

}  // namespace simt::cuda

#define SIMT_CUDA_CALL(needs)                                                    \
  [[maybe_unused]] simt::cuda::Runtime& runtime = simt::cuda::Runtime::get();    \
  simt::cuda::RuntimeCall call(__func__, simt::cuda::RuntimeCall::Needs::needs); \
  if (call.refused()) return call.refusal()
