#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/address_table.h"
#include "engine/collective.h"
#include "engine/device.h"
#include "engine/gradient_sum.h"
#include "engine/layout.h"
#include "engine/term_exchange.h"

namespace mtadam {

/// Consecutive values of what one tensor's moments are stored as: elements, or the exponents of blocks of them.
struct StoredRange {
  std::uint32_t tensor;
  std::uint64_t first, count;
  std::uint32_t unit;  // elements per value
  std::size_t bytes;   // per value
};

/// What the ranks exchange in a step: gradients, sums of chunks, parameters. Rank k owns the slots k·K .. (k+1)·K, K =
/// ⌈slots/R⌉. Gradients and parameters travel in pieces of at most `staging_bytes`, through host memory unless the
/// collective is on the device. They are staged for it, one after another in the order of slots, unless they lie so in
/// the caller's memory.
class Exchange {
 public:
  /// `layout`: of the whole model; changed to this rank's part if the state is shared out.
  Exchange(Sharing sharing, std::shared_ptr<Device> device, Layout& layout);

  const Sharing& sharing() const { return sharing_; }
  Collective& collective() const { return *sharing_.collective; }
  /// The slots that this rank owns.
  Slots own(const Layout& layout) const;

  /// Of all parameters, for compare_parameters(). `parameters`: one row.
  std::uint64_t hash_of(const Layout& layout, const AddressTable& parameters, Stream stream);
  /// The sums over all ranks of the gradients of the terms first .. first + count, float32 in memory of its own. Where
  /// the state is shared out, they are complete only for the elements that the rank owns.
  AddressTable& reduce(const Layout& layout, const AddressTable& gradients, std::uint32_t first, std::uint32_t count,
                       Stream stream);

  // reduce() of one term in two halves, between which the caller goes on. Nothing else of this object is used
  // meanwhile.

  /// Whether the collective has a thread for it.
  bool overlaps() const { return collective().worker() != nullptr; }
  /// Copies the gradients of a term, and begins to exchange them once the ranks agree. `parameters`: hash_of() them, if
  /// they are to be compared, too.
  void begin(const Layout& layout, const AddressTable& gradients, std::uint32_t term, const Agreement& agreement,
             std::optional<std::uint64_t> parameters, Stream stream);
  /// Waits for the exchange, and throws its error. The sums are those of reduce(); where the state is shared out,
  /// `squares` gets the sums of squares of all chunks, as gather_slots() gives them.
  AddressTable& end(const Layout& layout, std::uint32_t term, double* squares, Stream stream);

  /// Gives every rank all of `values`, of which each has those of its own slots.
  void gather_slots(const Layout& layout, double* values, Stream stream);
  /// Gives every rank all parameters. `parameters`: one row.
  void gather_parameters(const Layout& layout, const AddressTable& parameters, Stream stream);
  /// Gives every rank the values of a range; `read` copies those that this rank owns.
  void gather_range(const Layout& layout, const StoredRange& range,
                    const std::function<void(std::uint64_t first, std::uint64_t count, std::byte* to)>& read, void* to);

 private:
  std::uint64_t first_slot(const Layout& layout, std::uint32_t rank) const;
  template <class Body>
  void for_pieces(const Layout& layout, const Body& body) const;
  void make_room(const Layout& layout, const AddressTable& gradients, std::uint32_t first, std::uint32_t count);
  const float* lying_as_staged(const Layout& layout, const AddressTable& gradients, std::uint32_t term,
                               const Piece& piece) const;
  Piece present_piece(const Layout& layout, const AddressTable& gradients, std::uint32_t term,
                      const std::vector<Slots>& slots, std::size_t start) const;
  template <class Count>
  Parts parts_of(const Count& count) const;
  Parts slot_bytes(const Layout& layout) const;
  bool on_device() const { return collective().on_device(); }
  Device* place() const { return on_device() ? device_.get() : nullptr; }
  void take(void* to, const void* from, std::size_t bytes, Stream stream);
  void stage(float* to, const Tensor& tensor, const float* gradient, std::uint64_t first, std::uint64_t count,
             Stream stream);
  void stage_piece(const Layout& layout, const AddressTable& gradients, std::uint32_t term, const Piece& piece,
                   float* staged, Stream stream);
  void add_own_chunks(const Layout& layout, const AddressTable& gradients, std::uint32_t term, const Piece& piece,
                      std::vector<TermExchange::OwnChunk>& chunks) const;
  void put_piece(const Layout& layout, std::uint32_t term, const Piece& piece, const float* staged, Stream stream);
  void put(void* to, const void* from, std::size_t bytes, Stream stream);

  Sharing sharing_;
  std::shared_ptr<Device> device_;
  std::vector<std::unique_ptr<Memory>> memory_;  // of the sums: a plane per term of a call
  std::unique_ptr<AddressTable> sums_;           // of an absent gradient, null
  GradientSum sum_;
  std::shared_ptr<TermExchange> term_;  // the last one; null before the first
  Room<float> staging_;
  Room<std::uint16_t> narrow_;
  Room<double> slots_;
};

}  // namespace mtadam
