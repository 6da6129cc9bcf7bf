#include "engine/layout.h"

#include <algorithm>
#include <string>

#include "engine/errors.h"

namespace mtadam {
namespace {

constexpr std::uint64_t kLineElements = 16;  // 64 bytes of float32
constexpr std::uint64_t kVectorElements = 4;

// 4 TB of float32: beyond any device's memory, and small enough that no sum of offsets below can overflow and that the
// chunk table of a model which is only described stays small.
constexpr std::uint64_t kMaxLength = std::uint64_t{1} << 40;

std::uint64_t whole_lines(std::uint64_t elements) {
  return (elements + kLineElements - 1) / kLineElements * kLineElements;
}

}  // namespace

Layout::Layout(const std::vector<ParameterShape>& parameters, StateType type) : type_(type) {
  std::uint64_t chunk_count = 0;
  tensors_.reserve(parameters.size());
  for (const ParameterShape& shape : parameters) {
    if (gathered_elements_ > kMaxLength || shape.length > kMaxLength - gathered_elements_) {
      throw Error("LENGTH", "`parameters` must have at most 2**40 elements together.");
    }
    const bool lean = type != StateType::kFloat32 && shape.length >= kLeanElements;
    const std::uint64_t lines = whole_lines(shape.length + shape.phase);
    tensors_.push_back({shape.length, lean ? code_elements_ : plane_elements_ + shape.phase, 0, chunk_count,
                        shape.layer, shape.group, gathered_elements_ + shape.phase, shape.key, lean, shape.gradient,
                        shape.type, master_bytes_});
    master_bytes_ += whole_lines(shape.length) * mtadam::master_bytes(shape.type);
    narrow_ = narrow_ || shape.type != ElementType::kFloat32;
    (lean ? code_elements_ : plane_elements_) += lean ? code_blocks(shape.length) * kCodeBlock : lines;
    gathered_elements_ += lines;
    chunk_count += chunks_of(shape.length);
  }
  chunks_.reserve(chunk_count);
  for (std::uint32_t tensor = 0; tensor < tensor_count(); ++tensor) {
    const std::uint64_t count = chunks_of(tensors_[tensor].length);
    for (std::uint64_t index = 0; index < count; ++index) {
      chunks_.push_back({tensor, static_cast<std::uint32_t>(index)});
    }
  }
  gather_layers();
}

void Layout::gather_layers() {
  std::uint32_t layer_count = 0;
  for (const Tensor& tensor : tensors_) layer_count = std::max(layer_count, tensor.layer + 1);
  layers_.assign(layer_count, Layer{});
  for (const Tensor& tensor : tensors_) layers_[tensor.layer].members += 1;
  std::uint32_t member = 0;
  for (Layer& layer : layers_) {
    layer.member = member;
    member += layer.members;
  }

  members_.resize(tensors_.size());
  std::vector<std::uint32_t> filled(layer_count, 0);
  for (std::uint32_t index = 0; index < tensor_count(); ++index) {
    const Layer& layer = layers_[tensors_[index].layer];
    members_[layer.member + filled[tensors_[index].layer]++] = index;
  }

  std::uint64_t slot = 0;
  for (Layer& layer : layers_) {
    layer.slot = slot;
    for (std::uint32_t k = 0; k < layer.members; ++k) {
      Tensor& tensor = tensors_[members_[layer.member + k]];
      tensor.slot = slot;
      slot += chunks_of(tensor.length);
    }
    layer.slots = slot - layer.slot;
    if (layer.slots == 0) empty_layers_.push_back(static_cast<std::uint32_t>(&layer - layers_.data()));
  }
  slot_count_ = slot;
}

void Layout::own(std::uint64_t first, std::uint64_t end) {
  chunks_.clear();
  plane_elements_ = gathered_elements_ = code_elements_ = master_bytes_ = 0;
  std::vector<bool> begins(layers_.size(), false);
  for (Tensor& tensor : tensors_) {
    // The places in the planes of a tensor without an owned element are never used; only its phase stays.
    tensor.gathered %= kVectorElements;
    tensor.plane = tensor.lean ? 0 : tensor.gathered;
    tensor.master = 0;
    tensor.chunk = 0;
  }
  for_slots(first, end, [&](std::uint32_t index, std::uint64_t from, std::uint64_t count) {
    Tensor& tensor = tensors_[index];
    const std::uint64_t phase = tensor.gathered, lines = whole_lines(count + phase);
    tensor.chunk = chunks_.size();
    const std::uint64_t chunk = from / kChunkElements;
    for (std::uint64_t k = 0; k < chunks_of(count); ++k) {
      chunks_.push_back({index, static_cast<std::uint32_t>(chunk + k)});
    }
    if (chunk == 0) begins[tensor.layer] = true;
    // Modulo 2**64: the sum with the index of an owned element is its place. Chunks are whole blocks of codes.
    tensor.gathered = gathered_elements_ + phase - from;
    tensor.plane = tensor.lean ? code_elements_ - from : plane_elements_ + phase - from;
    tensor.master = master_bytes_ - from * mtadam::master_bytes(tensor.type);
    gathered_elements_ += lines;
    (tensor.lean ? code_elements_ : plane_elements_) += tensor.lean ? code_blocks(count) * kCodeBlock : lines;
    master_bytes_ += whole_lines(count) * mtadam::master_bytes(tensor.type);
  });
  empty_layers_.clear();
  for (std::uint32_t layer = 0; layer < layer_count(); ++layer) {
    if (!begins[layer]) empty_layers_.push_back(layer);
  }
}

}  // namespace mtadam
