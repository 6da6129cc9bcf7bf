#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "test/simt/cuda_types.h"

// How a test controls and observes the CUDA runtime on host memory. All settings are the process's.

namespace simt::cuda {

/// When the operations of a stream run.
enum class Execution {
  kEager,   ///< at once
  kLazy,    ///< when something waits for them, and only as many as it needs; a query runs one
  kRandom,  ///< some at random before and after each call, and those that something waits for
};

struct Settings {
  int devices = 1;
  /// False for a machine without NVIDIA's driver.
  bool driver = true;
  int driver_version = CUDART_VERSION;

  int compute_major = 9;
  int compute_minor = 0;
  int multiprocessors = 4;
  int blocks_per_multiprocessor = 1;
  /// Bytes of each device; larger allocations fail.
  std::size_t memory = std::size_t{4} << 30;

  Execution execution = Execution::kEager;
  std::uint64_t seed = 1;

  /// Device memory is mapped for a process only while an operation runs: an access by host code ends in SIGSEGV.
  bool hide_device_memory = true;
  /// cudaFree and cudaFreeHost wait for the device, as CUDA's do by measurement. Otherwise queued operations find the
  /// memory freed.
  bool free_synchronises = true;
  /// Whether devices have memory pools. cudaMallocAsync returns memory at once; cudaFreeAsync frees it in its stream's
  /// order.
  bool pools = true;
  /// Freed device memory is reused once so many bytes have been freed after it. With 0 it is reused at once, as by a
  /// driver, and a pointer to freed memory may point to a new allocation.
  std::size_t quarantine = std::size_t{256} << 20;
  /// Whether a new stream gets the handle of the stream that was destroyed last, as by a driver.
  bool reuse_streams = false;
  /// Writes the failure of a kernel or copy to stderr when it happens, since CUDA returns only a code.
  bool print_failures = true;
};

/// A machine as if the process had just started: no memory, streams, events, errors, injected faults or counts.
/// All earlier pointers and handles become invalid. No other thread may use the runtime meanwhile.
void reset(const Settings& settings = {});
Settings settings();
void set_execution(Execution execution, std::uint64_t seed = 1);

/// Reads settings, also the executor's, from words such as "devices=2 execution=random order=descending seed=7": for
/// programs that only an environment variable can configure. The keys: devices, driver (0 or 1), driver_version, memory
/// (in MiB), execution (eager, lazy, random), order (ascending, descending, random), resident_blocks, seed,
/// hide_device_memory (0 or 1), free_synchronises (0 or 1), pools (0 or 1), quarantine (in MiB). Others have their
/// defaults.
/// Throws std::invalid_argument.
void reset_from(const std::string& words);

// ---- Contexts ----

/// Devices whose primary context has been made, by any call.
std::set<int> devices_with_context();
/// A context of device 0 made by the program. No call of the runtime may be made while it is current.
void* other_context();
/// The calling thread's current context, as cuCtxGetCurrent and cuCtxSetCurrent see it; null for none.
void* current_context();
void set_current_context(void* context);

// ---- Faults to inject ----

/// The n-th launch from now (1: the next), counting those of graphs, fails when it would run. Every later call on the
/// device returns the error until cudaDeviceReset.
void fail_launch(int n, cudaError_t error = cudaErrorIllegalAddress);
/// The n-th call of this function from now, or of any function if it is empty, returns `error` and does nothing.
/// Launches are "cudaLaunchKernel".
void fail_call(const std::string& function, int n, cudaError_t error);
/// The n-th allocation from now, of device or pinned memory, fails.
void fail_allocation(int n);
/// Removes all faults. Returns whether one of them had not happened yet.
bool clear_faults();

/// The first failure since the last reset or cudaDeviceReset, in words; empty if there was none.
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
/// Launches of all kernels, including those of graphs.
std::uint64_t launches();
/// Of kernels with this name, whatever their namespaces and template arguments.
std::uint64_t launches(const std::string& kernel);

/// The objects that exist, to find leaks.
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

/// Device memory of a kind that cudaMalloc does not return, on the current device. cudaFree frees it. Null if there is
/// no more.
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

/// From now on, an access of host code to device memory is reported on stderr before the previous handler of SIGSEGV
/// runs, which by default ends the process. Not the default, since the handler is the process's.
void explain_host_accesses();

}  // namespace simt::cuda
