#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/collective.h"
#include "engine/device.h"

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

/// Memory of the host or, where a device is given, of the device, which grows and is used again.
template <class T>
class Room {
 public:
  /// For work on `stream`. What is there may be lost.
  T* of(std::size_t count, Device* device, Stream stream) {
    if (device == nullptr) {
      if (host_.size() < count) host_.resize(count);
      return host_.data();
    }
    if (memory_ == nullptr || memory_->size() < count * sizeof(T)) grow(count * sizeof(T), *device, stream);
    return reinterpret_cast<T*>(memory_->data());
  }

 private:
  // The call that is under way may have left work in the memory that goes: it is freed after the event.
  void grow(std::size_t bytes, Device& device, Stream stream) {
    const std::unique_ptr<Event> used = device.make_event();
    used->record(stream);
    memory_ = device.allocate(bytes);
  }

  std::vector<T> host_;
  std::unique_ptr<Memory> memory_;
};

/// Adds up gradients of all ranks.
class GradientSum {
 public:
  /// `sharing`: with a collective. `device`: where arrays lie, which outlives this object; null: in host memory.
  GradientSum(const Sharing& sharing, Device* device) : sharing_(sharing), device_(device) {}

  /// Sums the gradients of all ranks. `sums` gets this rank's part in its place and, unless the state is shared out,
  /// the other parts; it may be `gradients`.
  void add_up(const float* gradients, const Parts& parts, float* sums, Stream stream);

 private:
  void reduce(const float* gradients, const Parts& parts, float* sum, Stream stream);
  void add_as_tree(float* values, std::size_t ranks, std::size_t count, Stream stream);

  const Sharing sharing_;
  Device* const device_;
  Room<float> received_;
  Room<std::uint16_t> sent_, codes_;
};

}  // namespace mtadam
