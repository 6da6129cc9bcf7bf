#pragma once

#include <cstdint>

#include "cuda/kernels/narrow_io.cuh"
#include "cuda/kernels/platform.cuh"
#include "cuda/kernels/sums.cuh"
#include "math/scalars.h"
#include "math/tables.h"

// The cosines between the terms' gradients, in one launch after the norms. A block multiplies one chunk of a tile of
// terms by the same chunk of a tile: a warp per term, which reads its own gradient once and gets the others' through
// shared memory. The last block of a layer adds up its chunks.

namespace mtadam::kernels {

/// Terms of a tile. With no more of them than this, each gradient is read once.
constexpr std::uint32_t kTileTerms = 8;
constexpr std::uint32_t kCosineThreads = kTileTerms * kChunkLanes;

/// Blocks that a multiprocessor must hold: 80 registers a thread.
constexpr std::uint32_t kCosineBlocks = 3;

namespace cosines {

constexpr std::uint32_t kSteps = kSegmentElements / kChunkLanes;        // of a lane in a segment
constexpr std::uint32_t kTileElements = kTileTerms * kSegmentElements;  // a segment of each term

/// A thread's lane of a segment. Scalars, but a warp's are a whole line: no address is misaligned for them.
struct Lane {
  float e[kSteps];
};

/// A term's gradient in a chunk. Where there is none, it has no elements: it adds nothing to a layer in which others
/// are present.
struct Operand {
  const float* chunk;
  std::uint32_t count;
  ElementType type;
};

/// A lane of a chunk's segment that begins at `start`; 0 past the chunk's end.
template <class Elements>
__device__ __forceinline__ Lane load_lane(const Elements& chunk, std::uint32_t start, std::uint32_t count,
                                          std::uint32_t lane) {
  Lane values;
#pragma unroll
  for (std::uint32_t k = 0; k < kSteps; ++k) {
    const std::uint32_t at = start + k * kChunkLanes + lane;
    values.e[k] = at < count ? chunk[at] : 0.0f;
  }
  return values;
}

/// The same of a gradient. Without kNarrow, its type is float32.
template <bool kNarrow>
__device__ __forceinline__ Lane load_lane(const Operand& operand, std::uint32_t start, std::uint32_t lane) {
  if (kNarrow && operand.type != ElementType::kFloat32) {
    return load_lane(narrow(operand.chunk, operand.type), start, operand.count, lane);
  }
  return load_lane(operand.chunk, start, operand.count, lane);
}

/// Two tiles, each counted in terms: of the products, each pair's once.
struct Tiles {
  std::uint32_t rows, columns;  // their first terms, rows <= columns

  /// (0, 0), (0, 1), (1, 1), (0, 2), …
  __device__ static Tiles numbered(std::uint64_t index) {
    std::uint64_t column = 0;
    for (; index > column; ++column) index -= column + 1;
    return {static_cast<std::uint32_t>(index) * kTileTerms, static_cast<std::uint32_t>(column) * kTileTerms};
  }
  __device__ bool same() const { return rows == columns; }
};

template <bool kNarrow>
__device__ __forceinline__ Operand operand(const Tables& tables, const Call& call, std::uint32_t term,
                                           const Chunk& chunk) {
  const float* const g = term < call.count ? gradient_of(tables, call, term, chunk.tensor) : nullptr;
  if (g == nullptr) return {nullptr, 0, ElementType::kFloat32};
  const std::uint64_t first = first_of_chunk(chunk.index);
  const Tensor& tensor = tables.tensors[chunk.tensor];
  return {kNarrow ? gradient_at(tensor, g, first) : g + first, elements_of_chunk(tensor.length, chunk.index),
          kNarrow ? tensor.gradient : ElementType::kFloat32};
}

/// The dot products of a chunk, in the canonical order, for all pairs of a term of each tile.
template <bool kNarrow>
__device__ inline void multiply_chunk(const Tables& tables, const Call& call, const Tiles& tiles, const Chunk& chunk) {
  // A tile of one term has no pair.
  if (tiles.same() && tiles.rows + 1 == call.count) return;
  MTADAM_SHARED(float, segments, kTileElements);
  const std::uint32_t warp = threadIdx.x / kChunkLanes;
  const std::uint32_t lane = threadIdx.x % kChunkLanes;
  const Operand row = operand<kNarrow>(tables, call, tiles.rows + warp, chunk);
  const Operand column = tiles.same() ? row : operand<kNarrow>(tables, call, tiles.columns + warp, chunk);
  const Tensor& tensor = tables.tensors[chunk.tensor];
  const std::uint32_t count = elements_of_chunk(tensor.length, chunk.index);
  // A warp's columns are `turn` further than its own number, so that all warps have as many. With one tile as rows and
  // columns, they go half way round: that meets every pair once.
  const auto column_at = [&](std::uint32_t turn) { return (warp + turn) % kTileTerms; };
  const auto is_due = [&](std::uint32_t turn) {
    if (tiles.columns + column_at(turn) >= call.count || tiles.rows + warp >= call.count) return false;
    if (!tiles.same()) return true;
    return turn != 0 && (turn < kTileTerms / 2 || (turn == kTileTerms / 2 && warp < kTileTerms / 2));
  };
  double sums[kTileTerms] = {};
  Lane own = load_lane<kNarrow>(row, 0, lane);
  Lane others = tiles.same() ? own : load_lane<kNarrow>(column, 0, lane);
  for (std::uint32_t start = 0; start < count; start += kSegmentElements) {
    __syncthreads();  // the segment before has been read
#pragma unroll
    for (std::uint32_t k = 0; k < kSteps; ++k) {
      segments[warp * kSegmentElements + k * kChunkLanes + lane] = others.e[k];
    }
    __syncthreads();
    const Lane now = own;
    // On their way while these are multiplied.
    own = load_lane<kNarrow>(row, start + kSegmentElements, lane);
    others = tiles.same() ? own : load_lane<kNarrow>(column, start + kSegmentElements, lane);
#pragma unroll
    for (std::uint32_t turn = 0; turn < kTileTerms; ++turn) {
      if (!is_due(turn)) continue;
      const float* const segment = segments + column_at(turn) * kSegmentElements + lane;
      double sum = 0;
      // A product is exact in float64, so fusing it into the addition changes no bit.
#pragma unroll
      for (std::uint32_t k = 0; k < kSteps; ++k) {
        sum = fma(static_cast<double>(now.e[k]), static_cast<double>(segment[k * kChunkLanes]), sum);
      }
      sums[turn] += sum;
    }
  }
#pragma unroll
  for (std::uint32_t turn = 0; turn < kTileTerms; ++turn) {
    if (!is_due(turn)) continue;
    const double sum = halving_tree(sums[turn]);
    const std::uint32_t a = tiles.rows + warp, b = tiles.columns + column_at(turn);
    if (lane == 0) dots_of(tables, a < b ? a : b, a < b ? b : a)[tensor.slot + chunk.index] = sum;
  }
}

/// All cosines of a layer, by one block: a warp per pair.
__device__ inline void finish_layer(const Tables& tables, const Call& call, std::uint32_t layer_index) {
  const Layer& layer = tables.layers[layer_index];
  const std::uint32_t lane = threadIdx.x % kChunkLanes;
  for (std::uint32_t later = 0; later < call.count; ++later) {
    for (std::uint32_t earlier = threadIdx.x / kChunkLanes; earlier <= later; earlier += blockDim.x / kChunkLanes) {
      double dot = 0;
      if (earlier != later) dot = layer_sum<1>(dots_of(tables, earlier, later) + layer.slot, layer.slots, lane);
      if (lane == 0) {
        cosine_of(tables, earlier, later, layer_index) = gradient_cosine(tables, earlier, later, layer_index, dot);
      }
    }
  }
}

}  // namespace cosines

/// Pairs of tiles, a tile with itself among them.
inline std::uint64_t tile_pairs(std::uint64_t terms) {
  const std::uint64_t tiles = (terms + kTileTerms - 1) / kTileTerms;
  return tiles * (tiles + 1) / 2;
}

/// Threads of a block: a warp per term of a tile.
inline std::uint32_t cosine_threads(std::uint32_t terms) {
  return (terms < kTileTerms ? terms : kTileTerms) * kChunkLanes;
}

/// Any grid of blocks of cosine_threads(). `pairs`: tile_pairs(). `kNarrow`: whether there are narrow gradients.
template <bool kNarrow>
__global__ void __launch_bounds__(kCosineThreads, kCosineBlocks)
    cosines_kernel(Tables tables, Call call, std::uint64_t pairs) {
  for (std::uint64_t item = blockIdx.x; item < tables.chunk_count * pairs; item += gridDim.x) {
    // The tiles of a chunk one after another: gradients that they read again are still in the second-level cache.
    const Chunk chunk = tables.chunks[item / pairs];
    const Tensor& tensor = tables.tensors[chunk.tensor];
    cosines::multiply_chunk<kNarrow>(tables, call, cosines::Tiles::numbered(item % pairs), chunk);
    __syncthreads();  // all warps' products are written
    if (is_last(tables.shared.tickets + tensor.layer, tables.layers[tensor.layer].slots * pairs)) {
      cosines::finish_layer(tables, call, tensor.layer);
    }
    // The next round writes to the shared arrays that some threads may still be reading.
    __syncthreads();
  }
  // Layers without elements have no chunk that could be their last.
  for (std::uint64_t k = blockIdx.x; k < tables.empty_layer_count; k += gridDim.x) {
    cosines::finish_layer(tables, call, tables.empty_layers[k]);
  }
}

inline auto cosines_kernel_for(const Tables& tables) {
  return tables.narrow ? &cosines_kernel<true> : &cosines_kernel<false>;
}

}  // namespace mtadam::kernels
