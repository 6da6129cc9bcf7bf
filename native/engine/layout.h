#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "math/tables.h"

namespace mtadam {

/// One parameter as the caller describes it.
struct ParameterShape {
  std::uint64_t length;  // elements
  std::uint32_t layer;   // 0 .. layer count, in order of first appearance
  std::uint32_t group;
  std::uint32_t phase = 0;                       // elements by which θ is past a 16-byte boundary, 0 to 3
  std::uint64_t key = 0;                         // name_key() of its name, for the draws of a lean state
  ElementType gradient = ElementType::kFloat32;  // of the elements of its gradients
  ElementType type = ElementType::kFloat32;      // of its own elements; a narrow one has phase 0
};

/// The layout of a model: parameters cut into chunks, chunks gathered into layers, and the place of each tensor in
/// a moment plane. Pure arithmetic; nothing is allocated but the tables themselves.
class Layout {
 public:
  /// `type`: of the moments of tensors with at least kLeanElements elements. Throws Error (LENGTH) where a length is
  /// too large to be addressed.
  explicit Layout(const std::vector<ParameterShape>& parameters, StateType type = StateType::kFloat32);

  /// Restricts the chunk table and the planes to the slots first .. end. Slots, layers and members stay those of the
  /// whole model, and so does which tensors are lean.
  void own(std::uint64_t first, std::uint64_t end);

  const std::vector<Tensor>& tensors() const { return tensors_; }
  const std::vector<Chunk>& chunks() const { return chunks_; }
  const std::vector<Layer>& layers() const { return layers_; }
  const std::vector<std::uint32_t>& members() const { return members_; }
  /// Layers whose first chunk is not in the chunk table. Unless own() was called, they have no elements.
  const std::vector<std::uint32_t>& empty_layers() const { return empty_layers_; }
  /// Chunks of the whole model.
  std::uint64_t slot_count() const { return slot_count_; }
  std::uint32_t tensor_count() const { return static_cast<std::uint32_t>(tensors_.size()); }
  std::uint32_t layer_count() const { return static_cast<std::uint32_t>(layers_.size()); }

  StateType state_type() const { return type_; }

  /// Calls body(tensor, first element, elements) for every tensor that has chunks among the slots first .. end, in the
  /// order of slots.
  template <class Body>
  void for_slots(std::uint64_t first, std::uint64_t end, const Body& body) const {
    const auto ends_before = [&](std::uint32_t index) {
      return tensors_[index].slot + chunks_of(tensors_[index].length) <= first;
    };
    auto member = std::partition_point(members_.begin(), members_.end(), ends_before);
    for (; member != members_.end() && tensors_[*member].slot < end; ++member) {
      const Tensor& tensor = tensors_[*member];
      const std::uint64_t from = (std::max(first, tensor.slot) - tensor.slot) * kChunkElements;
      const std::uint64_t to = std::min(tensor.length, (end - tensor.slot) * kChunkElements);
      if (from < to) body(*member, from, to - from);
    }
  }

  /// Elements of a float32 plane of moments: the tensors that are not lean one after another, each on cache lines of
  /// its own, and as far past a 16-byte boundary as its θ, so that 16-byte accesses to both begin at the same element.
  std::uint64_t plane_elements() const { return plane_elements_; }
  /// The same for all tensors, as in the plane of G.
  std::uint64_t gathered_elements() const { return gathered_elements_; }
  /// Elements of a plane of codes: the lean tensors one after another, each on blocks of its own.
  std::uint64_t code_elements() const { return code_elements_; }
  /// Bytes of the plane of masters: the narrow parameters one after another, each on cache lines of its own.
  std::uint64_t master_bytes() const { return master_bytes_; }
  bool has_narrow_parameters() const { return narrow_; }

 private:
  void gather_layers();

  std::vector<Tensor> tensors_;
  std::vector<Chunk> chunks_;
  std::vector<Layer> layers_;
  std::vector<std::uint32_t> members_;
  std::vector<std::uint32_t> empty_layers_;
  StateType type_;
  bool narrow_ = false;
  std::uint64_t plane_elements_ = 0;
  std::uint64_t slot_count_ = 0;
  std::uint64_t gathered_elements_ = 0;
  std::uint64_t code_elements_ = 0;
  std::uint64_t master_bytes_ = 0;
};

}  // namespace mtadam
