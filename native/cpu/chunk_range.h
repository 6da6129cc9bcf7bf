#pragma once

#include <algorithm>
#include <cstdint>

#include "math/tables.h"

namespace mtadam {

/// Consecutive elements of one tensor, from the first of a chunk or tile on.
struct ChunkRange {
  std::uint32_t tensor;
  std::uint64_t first;     // element
  std::uint64_t count;     // elements
  float* theta = nullptr;  // θ of these elements in float32, where it is narrow and has been decoded
};

/// Calls body(part) for consecutive parts of a range, of so many elements but the last.
template <class Body>
void for_parts(const ChunkRange& range, std::uint64_t elements, const Body& body) {
  for (std::uint64_t done = 0; done < range.count; done += elements) {
    body(ChunkRange{range.tensor, range.first + done, std::min(elements, range.count - done),
                    range.theta == nullptr ? nullptr : range.theta + done});
  }
}

/// Calls body(range) for every tensor that has chunks among first .. last of the chunk table.
template <class Body>
void for_tensors(const Tables& tables, std::uint64_t first, std::uint64_t last, const Body& body) {
  while (first < last) {
    const Chunk& chunk = tables.chunks[first];
    const Tensor& tensor = tables.tensors[chunk.tensor];
    const std::uint64_t begin = first_of_chunk(chunk.index);
    const std::uint64_t end = std::min(tensor.length, begin + (last - first) * kChunkElements);
    body(ChunkRange{chunk.tensor, begin, end - begin});
    first += chunks_of(end - begin);
  }
}

/// Calls body(range) for every tensor that has chunks among the slots first .. last of a layer.
template <class Body>
void for_slots(const Tables& tables, const Layer& layer, std::uint64_t first, std::uint64_t last, const Body& body) {
  const std::uint32_t* const begin = tables.members + layer.member;
  const std::uint32_t* const end = begin + layer.members;
  first += layer.slot;
  last += layer.slot;
  const std::uint32_t* member = std::partition_point(begin, end, [&](std::uint32_t index) {
    const Tensor& tensor = tables.tensors[index];
    return tensor.slot + chunks_of(tensor.length) <= first;
  });
  for (; member != end && tables.tensors[*member].slot < last; ++member) {
    const Tensor& tensor = tables.tensors[*member];
    const std::uint64_t from = (std::max(first, tensor.slot) - tensor.slot) * kChunkElements;
    const std::uint64_t to = std::min(tensor.length, (last - tensor.slot) * kChunkElements);
    if (from < to) body(ChunkRange{*member, from, to - from});
  }
}

}  // namespace mtadam
