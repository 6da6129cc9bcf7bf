#pragma once

#include <algorithm>
#include <cstdint>

namespace mtadam {

// Enough blocks that threads finish at about the same time, none so small that taking it costs more than its work.
constexpr std::uint64_t kBlocksPerThread = 8;
constexpr std::uint64_t kMaxBlockChunks = 64;

/// The size of a block where there are `count` chunks, or layers, in all.
inline std::uint64_t block_of(std::uint64_t count, unsigned threads) {
  return std::clamp<std::uint64_t>(count / (threads * kBlocksPerThread), 1, kMaxBlockChunks);
}

}  // namespace mtadam
