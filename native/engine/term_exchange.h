#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "engine/agreement.h"
#include "engine/gradient_sum.h"

namespace mtadam {

struct Slots {
  std::uint64_t first, end;
};

/// Gradients that travel at once.
struct Piece {
  std::vector<Slots> slots;  // of each rank
  Parts parts;               // of each rank, in elements
  std::size_t start;         // among the staged gradients
};

/// The exchange of one term's gradients on the thread of a collective, in host memory of its own: it needs neither the
/// device nor the optimizer, which may be gone before it ends. Until it has ended, nothing else may use this object.
class TermExchange : public std::enable_shared_from_this<TermExchange> {
 public:
  /// A chunk of a present gradient that this rank owns.
  struct OwnChunk {
    std::uint64_t slot;
    std::size_t start;  // among the staged gradients
    std::uint32_t count;
  };

  struct Content {
    Agreement agreement;
    std::optional<std::uint64_t> parameters;  // their hash, to be compared first
    std::vector<Piece> pieces;
    // Where the state is shared out, for the sums of squares:
    std::vector<OwnChunk> own_chunks;
    Parts slots;  // of each rank, in bytes
  };

  explicit TermExchange(const Sharing& sharing) : sharing_(sharing), sum_(sharing, nullptr) {}

  /// Room for so many elements, to be filled before begin().
  float* stage(std::size_t elements);
  void begin(Content content);
  /// Waits for the exchange, and throws its error.
  void end();

  // Valid after end().

  const std::vector<Piece>& pieces() const { return content_.pieces; }
  const float* sums() const { return staged_.data(); }
  /// Of all chunks, by slot.
  const std::vector<double>& squares() const { return squares_; }

 private:
  void run();
  void exchange_squares();

  const Sharing sharing_;
  GradientSum sum_;
  std::vector<float> staged_;
  Content content_;
  std::vector<double> squares_;
  std::function<void()> failure_;  // a std::exception_ptr would need the libstdc++ of GCC 11
};

}  // namespace mtadam
