#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>

#include "engine/narrow_values.h"
#include "math/tables.h"

namespace mtadam {

/// Memory of a device. Freed with the object, which keeps what it needs of its device alive.
class Memory {
 public:
  virtual ~Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

  /// Says that others have the address: their work may use the memory until it is freed.
  virtual void lend() { lent_ = true; }
  bool lent() const { return lent_; }

 protected:
  Memory(std::byte* data, std::size_t size) : data_(data), size_(size) {}

 private:
  std::byte* data_;
  std::size_t size_;
  bool lent_ = false;
};

/// A queue of work on a device: CUDA's stream; null is the device's default stream. The CPU has no other, since every
/// call is done when it returns.
using Stream = void*;

/// A point in a stream's work that other streams and threads can wait for.
class Event {
 public:
  Event() = default;
  virtual ~Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  /// Moves the event to the current end of the stream.
  virtual void record(Stream stream) = 0;
  /// Makes later work on the stream wait for the event.
  virtual void make_wait(Stream stream) = 0;
  /// Returns when the event is reached; throws an error of the work before it. From any thread.
  virtual void wait() = 0;
  /// From any thread. Also true where an error of the work before it has ended it.
  virtual bool is_reached() { return true; }
};

/// A copy of device memory, on its way to the host.
class HostCopy {
 public:
  HostCopy() = default;
  virtual ~HostCopy() = default;
  HostCopy(const HostCopy&) = delete;
  HostCopy& operator=(const HostCopy&) = delete;

  /// Returns when the copy is complete; throws an error of the work before it. From any thread.
  virtual void wait() = 0;
  /// Valid after wait().
  virtual const std::byte* data() const = 0;
};

/// Calls that were captured once and can be launched any number of times.
class Graph {
 public:
  Graph() = default;
  virtual ~Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  /// The stream of the launches.
  virtual Stream stream() const = 0;
  virtual void launch() = 0;
};

/// What a call in one pass is given beside its gradients.
struct OnePass {
  Stream stream;
  /// Whether every term of the call has had gradients before, so that it has a norm in most layers. The results are the
  /// same where it has none.
  bool known;
  std::uint64_t gradient_bytes;  // of all gradients of the call, where the network is one unit
  std::uint32_t largest_layer;   // its tensors
  /// Set once a part of the call is under way, where an error may come later: it leaves the state in the middle of the
  /// step.
  bool& begun;
};

/// A device as the engine uses it. Calls on one stream run in order, perhaps after they have returned. All calls come
/// from one thread, except read(), make_current(), own_stream() and those that say otherwise.
class Device {
 public:
  Device() = default;
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /// For messages and descriptions.
  virtual std::string name() const = 0;
  /// Whether every call is done when it returns.
  virtual bool immediate() const = 0;
  /// Whether its tensors lie in memory of this process.
  virtual bool in_host_memory() const { return false; }
  /// The stream for calls without one of the user's: null, or own_stream() while a capture forbids the default stream.
  virtual Stream default_stream() const { return nullptr; }
  /// A stream that the user cannot capture and that does not wait for others by itself.
  virtual Stream own_stream() const { return nullptr; }

  /// Throws Error (OPTION, STATE) unless calls can come on the stream. The message lacks its subject.
  virtual void check_stream(Stream stream) const = 0;
  /// Whether the caller is capturing the stream: launches on it become part of the caller's graph, and nothing else may
  /// come on it.
  virtual bool is_capturing(Stream) const { return false; }
  /// Throws Error (HOST_POINTER, INVALID_POINTER) unless the bytes lie within one allocation that this device's
  /// kernels may use. The message lacks its subject.
  virtual void check_range(const void* address, std::size_t bytes) const = 0;

  /// Zeroed memory that starts on a multiple of 64 bytes; ready for any stream. Throws Error
  /// (OUT_OF_MEMORY).
  virtual std::unique_ptr<Memory> allocate(std::size_t bytes) = 0;
  /// Host to device. The source may be reused when the call returns.
  virtual void write(void* to, const void* from, std::size_t bytes, Stream stream) = 0;
  /// Device to host; the target is complete when the call returns.
  virtual void read(void* to, const void* from, std::size_t bytes, Stream stream) = 0;

  /// Device to host, as it is when the stream gets there; nothing waits.
  virtual std::unique_ptr<HostCopy> read_later(const void* from, std::size_t bytes, Stream stream) = 0;

  /// Fills with the first `element` bytes of `pattern` (1, 2, 4 or 8), over and over; `bytes` is a multiple of it.
  virtual void fill(void* to, std::uint64_t pattern, std::size_t element, std::size_t bytes, Stream stream) = 0;

  virtual std::unique_ptr<Event> make_event() = 0;
  /// An event after all calls of this object so far, on any stream.
  virtual std::unique_ptr<Event> all_done() = 0;
  /// A graph of the calls that `calls` makes on the stream it gets, for launches on `stream`. Captures the calls
  /// without running them. Throws Error (OPTION) where the device has no graphs.
  virtual std::unique_ptr<Graph> capture(Stream stream, const std::function<void(Stream)>& calls) = 0;

  /// Loads the code that the calls below need for tables like these, so that no call of a step fails for want of memory
  /// after others have run.
  virtual void load(const Tables& tables) = 0;
  /// Steps 1 to 4 for the call's terms, their clocks and coefficients.
  virtual void norms(const Tables& tables, const Call& call, Stream stream) = 0;
  /// The cosines between the gradients of all terms, which are the call's, per layer; norms() has run for the same
  /// call, and nothing since.
  virtual void cosines(const Tables& tables, const Call& call, Stream stream) = 0;
  /// Steps 5 and 6 for the call's terms; norms() has run for the same call.
  virtual void moments(const Tables& tables, const Call& call, Stream stream) = 0;
  /// Step 7 from the moments, and the end of the step.
  virtual void update(const Tables& tables, Stream stream) = 0;
  /// Steps 5 to 7 in one pass over all terms' gradients, and the end of the step; the same bits as moments() and
  /// then update(). norms() has run for the same call.
  virtual void update(const Tables& tables, const Call& call, Stream stream) = 0;

  /// norms() and then update(), or moments(), with each layer's elements soon after its norms, or with lagged scales at
  /// the same time, so that its gradients are read once. False, and nothing done, where the device cannot.
  virtual bool step_in_one_pass(const Tables&, const Call&, const OnePass&) { return false; }
  virtual bool accumulate_in_one_pass(const Tables&, const Call&, const OnePass&) { return false; }

  /// Whether norms() or a call in one pass has skipped a term since the last take_skipped(). Always false on a device
  /// that runs calls after they have returned: there, the counts in the state tell.
  virtual bool take_skipped() { return false; }

  /// Sets the gradients of the call to 0.
  virtual void zero(const Tables& tables, const Call& call, Stream stream) = 0;
  /// target[k] += source[k], in float32; rounded to the nearest of the elements' type.
  virtual void add(void* target, const void* source, std::uint64_t count, ElementType type, Stream stream) = 0;

  // What the ranks of a collective with a device need; as here, in host memory.

  /// Runs calls of another library, which uses the device that is current.
  virtual void make_current(const std::function<void()>& calls) const { calls(); }
  /// Device to device.
  virtual void copy(void* to, const void* from, std::size_t bytes, Stream) { std::memcpy(to, from, bytes); }
  /// Rounds to the nearest bfloat16.
  virtual void narrow(std::uint16_t* to, const float* from, std::uint64_t count, Stream) {
    narrow_values(to, from, count);
  }
  /// From a narrow type.
  virtual void widen(float* to, const std::uint16_t* from, std::uint64_t count, ElementType type, Stream) {
    widen_values(to, from, count, type);
  }
};

}  // namespace mtadam
