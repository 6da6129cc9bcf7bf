#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

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

/// Processes that exchange data: ranks 0 .. size. Every rank makes the same calls in the same order. A call is done
/// when it returns. It throws Error (DISTRIBUTED) where the library reports a failure. Counts are less than 2**30.
class Collective {
 public:
  Collective() = default;
  virtual ~Collective() = default;
  Collective(const Collective&) = delete;
  Collective& operator=(const Collective&) = delete;

  virtual std::uint32_t rank() const = 0;
  virtual std::uint32_t size() const = 0;

  /// Names the call of this package that the next calls belong to, for messages.
  virtual void name_call(const std::string&) {}

  /// Gives every rank the parts of all ranks. This rank's part is in place. Parts are in bytes.
  virtual void gather(void* all, const Parts& parts) = 0;
  /// Sums the arrays `from` of all ranks, in an order of the library's choice, and gives each rank its part of the sum:
  /// `to` has as many elements as that part.
  virtual void reduce_scatter(const float* from, float* to, const Parts& parts) = 0;
  /// Sends part r of `from` to rank r, and receives the parts of `to` from the ranks. Parts are in bytes.
  virtual void all_to_all(const void* from, const Parts& sent, void* to, const Parts& received) = 0;
};

}  // namespace mtadam
