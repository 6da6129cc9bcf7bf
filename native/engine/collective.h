#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "engine/device.h"
#include "engine/worker.h"

namespace mtadam {

/// For each rank, a range of an array.
struct Parts {
  std::vector<std::size_t> starts;
  std::vector<std::size_t> counts;

  void add(std::size_t count) {
    starts.push_back(end());
    counts.push_back(count);
  }
  std::size_t end() const { return starts.empty() ? 0 : starts.back() + counts.back(); }
};

/// Parts of the same size.
inline Parts equal_parts(std::size_t ranks, std::size_t count) {
  Parts parts;
  for (std::size_t rank = 0; rank < ranks; ++rank) parts.add(count);
  return parts;
}

/// The sentence of a rank that has waited too long. `operation`: the library's, within the call of this package.
inline std::string waited_too_long(std::uint32_t rank, double seconds, const std::string& call,
                                   const std::string& operation) {
  char number[32];
  std::snprintf(number, sizeof number, "%.10g", seconds);
  return "Rank " + std::to_string(rank) + " waited " + number + " s for the other ranks in `" + call + "` (" +
         operation + ").";
}

/// Processes that exchange data: ranks 0 .. size. Every rank makes the same calls in the same order. They throw Error
/// (DISTRIBUTED) where the library reports a failure. Counts are less than 2**30.
///
/// Arrays lie in host memory, and a call is done when it returns; or, with on_device(), arrays lie in memory of a
/// device, calls are enqueued on the stream, and all parts of one array have the same size.
///
/// Calls come from one thread, and from jobs of worker(); check() may come from any thread. Those of the thread first
/// wait until all jobs have ended, so that the library gets all calls in the order in which they were made and posted.
class Collective {
 public:
  Collective() = default;
  virtual ~Collective() = default;
  Collective(const Collective&) = delete;
  Collective& operator=(const Collective&) = delete;

  virtual std::uint32_t rank() const = 0;
  virtual std::uint32_t size() const = 0;

  /// What the library says of itself, e.g. "Open MPI v4.1.4".
  virtual std::string library() const { return ""; }
  virtual bool on_device() const { return false; }
  /// A thread that calls can be made on while their caller goes on; null: none. Only where arrays lie in host memory.
  virtual Worker* worker() { return nullptr; }

  /// Names the call of this package that the next calls belong to, for messages.
  virtual void name_call(const std::string&) {}
  /// Throws Error (DISTRIBUTED) if an earlier call has failed after it returned.
  virtual void check() {}
  /// Ends the use of the library in this process; waits for the other ranks. Later calls throw Error (DISTRIBUTED).
  virtual void close() {}

  /// Gives every rank the parts of all ranks. This rank's part is in place. Parts are in bytes.
  virtual void gather(void* all, const Parts& parts, Stream stream) = 0;
  /// The same in host memory; done when it returns. Parts may differ in size.
  virtual void gather_on_host(void* all, const Parts& parts) { gather(all, parts, nullptr); }
  /// Sums the arrays of all ranks, in an order of the library's choice. `sum` gets this rank's part; it may be that
  /// part of `all`, whose rest is not defined then.
  virtual void reduce_scatter(const float* all, const Parts& parts, float* sum, Stream stream) = 0;
  /// Sends part r of `from` to rank r, and receives the parts of `to` from the ranks. Parts are in bytes.
  virtual void all_to_all(const void* from, const Parts& sent, void* to, const Parts& received, Stream stream) = 0;
};

}  // namespace mtadam
