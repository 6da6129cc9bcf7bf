#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/address_table.h"
#include "engine/collective.h"
#include "engine/device.h"
#include "engine/layout.h"
#include "math/state_codes.h"

namespace mtadam {

/// Who adds up the gradients of the ranks.
enum class Reduction {
  kLibrary,  // the library, in an order of its choice
  kOrdered,  // the owner of an element, as a balanced binary tree over the ranks
};

/// How gradients travel.
enum class Wire {
  kFloat32,
  kBfloat16,  // rounded to the nearest, and added in float32 as Reduction::kOrdered does
};

/// The part of an optimizer in a group of processes. Without a collective, the optimizer is on its own.
struct Sharing {
  std::shared_ptr<Collective> collective;
  bool state = false;  // whether each rank has only its part of the moments
  Reduction reduction = Reduction::kLibrary;
  Wire wire = Wire::kFloat32;
  std::size_t staging_bytes = std::size_t{64} << 20;  // for one exchange
};

/// 64-bit FNV-1a of the bytes of values.
class Hash {
 public:
  template <class T>
  Hash& add(const T& value) {
    return add(&value, sizeof value);
  }
  Hash& add(const void* bytes, std::size_t count) {
    value_ = fnv1a(bytes, count, value_);
    return *this;
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = kFnvStart;
};

/// To be called before anything else is exchanged. `version`: of the package, of which 63 bytes are compared. Throws
/// Error (DISTRIBUTED) on every rank unless all ranks have the same one.
void agree_on_version(Collective& collective, const std::string& version);

/// Throws Error (DISTRIBUTED) on every rank unless all ranks make this call with equal values. `call`: its name, at
/// most 31 bytes; `optimizer`: a hash of what the optimizer is; `values`: a hash of what the call is given.
void agree(Collective& collective, const std::string& call, std::uint64_t optimizer, std::uint64_t values);

struct Slots {
  std::uint64_t first, end;
};

/// Consecutive values of what one tensor's moments are stored as: elements, or the exponents of blocks of them.
struct StoredRange {
  std::uint32_t tensor;
  std::uint64_t first, count;
  std::uint32_t unit;  // elements per value
  std::size_t bytes;   // per value
};

/// What the ranks exchange in a step: gradients, sums of chunks, parameters. Rank k owns the slots k·K .. (k+1)·K, K =
/// ⌈slots/R⌉. Gradients and parameters travel in pieces of at most `staging_bytes`, through host memory unless the
/// collective is on the device.
class Exchange {
 public:
  /// `layout`: of the whole model; changed to this rank's part if the state is shared out.
  Exchange(Sharing sharing, std::shared_ptr<Device> device, Layout& layout);

  const Sharing& sharing() const { return sharing_; }
  Collective& collective() const { return *sharing_.collective; }
  /// The slots that this rank owns.
  Slots own(const Layout& layout) const;

  /// Throws Error (DISTRIBUTED) on every rank unless all ranks have the same parameters. `parameters`: one row.
  void compare_parameters(const Layout& layout, const AddressTable& parameters, Stream stream);
  /// The sums over all ranks of the gradients of the terms first .. first + count, float32 in memory of its own. Where
  /// the state is shared out, they are complete only for the elements that the rank owns.
  AddressTable& reduce(const Layout& layout, const AddressTable& gradients, std::uint32_t first, std::uint32_t count,
                       Stream stream);
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
  void make_room(const Layout& layout, std::uint32_t rows, std::uint32_t columns, std::uint32_t first,
                 std::uint32_t count);
  template <class Count>
  Parts parts_of(const Count& count) const;
  bool on_device() const { return collective().on_device(); }
  Device* place() const { return on_device() ? device_.get() : nullptr; }
  void take(void* to, const void* from, std::size_t bytes, Stream stream);
  void stage(float* to, const Tensor& tensor, const float* gradient, std::uint64_t first, std::uint64_t count,
             Stream stream);
  void put(void* to, const void* from, std::size_t bytes, Stream stream);
  void sum_piece(float* staged, const Parts& parts, Stream stream);
  void add_as_tree(float* values, std::size_t ranks, std::size_t count, Stream stream);

  Sharing sharing_;
  std::shared_ptr<Device> device_;
  std::vector<std::unique_ptr<Memory>> memory_;  // of the sums: a plane per term of a call
  std::unique_ptr<AddressTable> sums_;

  /// Memory of the host or of the device, which grows and is used again.
  template <class T>
  struct Room {
    T* of(std::size_t count, Device* device);
    std::vector<T> host;
    std::unique_ptr<Memory> memory;
  };
  Room<float> staging_, received_;
  Room<std::uint16_t> sent_, codes_;
  Room<double> slots_;
};

}  // namespace mtadam
