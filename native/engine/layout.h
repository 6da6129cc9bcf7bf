#pragma once

#include <cstdint>
#include <vector>

#include "math/tables.h"

namespace mtadam {

/// One parameter as the caller describes it.
struct ParameterShape {
  std::uint64_t length;  // elements
  std::uint32_t layer;   // 0 .. layer count, in order of first appearance
  std::uint32_t group;
  std::uint32_t phase = 0;  // elements by which θ is past a 16-byte boundary, 0 to 3
};

/// The layout of a model: parameters cut into chunks, chunks gathered into layers, and the place of each tensor in
/// a moment plane. Pure arithmetic; nothing is allocated but the tables themselves.
class Layout {
 public:
  /// Throws Error (LENGTH) where a length is too large to be addressed.
  explicit Layout(const std::vector<ParameterShape>& parameters);

  const std::vector<Tensor>& tensors() const { return tensors_; }
  const std::vector<Chunk>& chunks() const { return chunks_; }
  const std::vector<Layer>& layers() const { return layers_; }
  const std::vector<std::uint32_t>& members() const { return members_; }
  /// Layers without elements, which have no chunk.
  const std::vector<std::uint32_t>& empty_layers() const { return empty_layers_; }
  std::uint32_t tensor_count() const { return static_cast<std::uint32_t>(tensors_.size()); }
  std::uint32_t layer_count() const { return static_cast<std::uint32_t>(layers_.size()); }

  /// Elements of a moment plane: the tensors one after another, each on cache lines of its own, and as far past a
  /// 16-byte boundary as its θ, so that 16-byte accesses to both begin at the same element.
  std::uint64_t plane_elements() const { return plane_elements_; }

 private:
  void gather_layers();

  std::vector<Tensor> tensors_;
  std::vector<Chunk> chunks_;
  std::vector<Layer> layers_;
  std::vector<std::uint32_t> members_;
  std::vector<std::uint32_t> empty_layers_;
  std::uint64_t plane_elements_ = 0;
};

}  // namespace mtadam
