#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "test/simt/cuda_types.h"

// What a test says to, and learns from, the CUDA runtime on host memory. All of it concerns the whole process.

namespace simt::cuda {

/// When the operations of a stream run.
enum class Execution {
  kEager,   ///< at once
  kLazy,    ///< when something waits for them, and no more than that needs; a query runs one
  kRandom,  ///< some before and after each call, drawn at random, and whatever something waits for
};

struct Settings {
  int devices = 1;
  /// False: as on a machine without NVIDIA's driver.
  bool driver = true;
  int driver_version = CUDART_VERSION;

  int compute_major = 9;
  int compute_minor = 0;
  int multiprocessors = 4;
  int blocks_per_multiprocessor = 1;
  /// Of each device; an allocation beyond is out of memory.
  std::size_t memory = std::size_t{4} << 30;

  Execution execution = Execution::kEager;
  std::uint64_t seed = 1;

  /// Device memory is mapped for a process only while an operation runs: an access by host code ends in SIGSEGV.
  bool hide_device_memory = true;
  /// cudaFree and cudaFreeHost wait for the device, as CUDA's were measured to. Without it a queued operation meets the
  /// freed memory.
  bool free_synchronises = true;
  /// Freed device memory is handed out again once so many bytes have been freed after it. With 0 that is at once, as a
  /// driver may do it, and a pointer to freed memory may be one to what was allocated next.
  std::size_t quarantine = std::size_t{256} << 20;
  /// A kernel's or copy's failure is written to stderr when it happens: what comes back through CUDA is only a code.
  bool print_failures = true;
};

/// A machine as if the process had just started: no memory, streams, events, errors, injected faults or counts.
/// Pointers and handles of before are invalid ever after. Not while another thread uses the runtime.
void reset(const Settings& settings = {});
Settings settings();
void set_execution(Execution execution, std::uint64_t seed = 1);

/// Reads settings, the executor's too, from words such as "devices=2 execution=random order=descending seed=7": for
/// programs that only an environment variable reaches. The keys: devices, driver (0 or 1), driver_version, memory (in
/// MiB), execution (eager, lazy, random), order (ascending, descending, random), resident_blocks, seed,
/// hide_device_memory (0 or 1), free_synchronises (0 or 1), quarantine (in MiB). Others stay as they are by default.
/// Throws std::invalid_argument.
void reset_from(const std::string& words);

// ---- Contexts ----

/// Devices whose primary context has been made, by any call.
std::set<int> devices_with_context();
/// A context of device 0 that the program has made itself. No call of the runtime may be made while it is current.
void* other_context();
/// The calling thread's current context, as cuCtxGetCurrent and cuCtxSetCurrent have it; null for none.
void* current_context();
void set_current_context(void* context);

// ---- Faults to inject ----

/// The n-th launch from now (1: the next), those of graphs included, fails when it runs; the error stays, and every
/// later call on the device returns it until cudaDeviceReset. The kernel does not run.
void fail_launch(int n, cudaError_t error = cudaErrorIllegalAddress);
/// The n-th call of this function from now returns `error` and does nothing. Launches are "cudaLaunchKernel".
void fail_call(const std::string& function, int n, cudaError_t error);
/// The n-th allocation from now, of device or pinned memory, is out of memory.
void fail_allocation(int n);
void clear_faults();

/// What went wrong first since the last reset or cudaDeviceReset, in words; empty when nothing did.
std::string failure();

// ---- Counts since the last reset or reset_counters ----

struct Counters {
  std::map<std::string, std::uint64_t> calls;  ///< by function
  /// By kernel, as its symbol reads without result and parameters; counted when they are queued.
  std::map<std::string, std::uint64_t> launches;
  std::uint64_t copies = 0;
  std::uint64_t copied_bytes = 0;
  std::uint64_t pageable_copies = 0;  ///< asynchronous ones from or to pageable memory
};
Counters counters();
void reset_counters();
std::uint64_t calls(const std::string& function);
/// Of all kernels, those of graphs included.
std::uint64_t launches();
/// Of kernels with this name, whatever their namespaces and template arguments.
std::uint64_t launches(const std::string& kernel);

/// What exists now, to find leaks.
struct Live {
  std::size_t device_allocations = 0;
  std::size_t device_bytes = 0;
  std::size_t pinned_allocations = 0;
  std::size_t pinned_bytes = 0;
  std::size_t streams = 0;  ///< without the default ones
  std::size_t events = 0;
  std::size_t graphs = 0;
  std::size_t graph_executables = 0;
  std::size_t queued_operations = 0;
  std::size_t retained = 0;  ///< handles of mapped memory and primary contexts that are not released

  bool nothing() const {
    return device_allocations + pinned_allocations + streams + events + graphs + graph_executables + retained == 0;
  }
};
Live live();

/// Device memory that cudaMalloc does not give, on the current device; cudaFree frees it. Null if there is no more.
enum class Origin {
  kMapped,        ///< handles that cuMemMap put side by side, `pieces` of them
  kNeighbours,    ///< `pieces` allocations of cudaMalloc that happen to lie side by side
  kOtherContext,  ///< an allocation in a context beside the primary one
};
void* allocate(Origin origin, std::size_t piece_bytes, std::size_t pieces = 1);

/// Lets a test read and write device memory itself while it exists; see Settings::hide_device_memory.
class DeviceMemoryShown {
 public:
  DeviceMemoryShown();
  ~DeviceMemoryShown();
  DeviceMemoryShown(const DeviceMemoryShown&) = delete;
  DeviceMemoryShown& operator=(const DeviceMemoryShown&) = delete;

 private:
  unsigned shown_ = 0;  ///< one bit per device
};

/// From now on an access by host code to device memory says so on stderr before it ends the process, or before whatever
/// handled SIGSEGV until now. Not done unasked: the handler is the whole process's.
void explain_host_accesses();

}  // namespace simt::cuda
