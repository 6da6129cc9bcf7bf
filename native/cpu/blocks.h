#pragma once

#include <algorithm>
#include <cstdint>

namespace mtadam {

// Blocks of work: enough of them that threads finish together, none so small that taking it costs more than it is.
constexpr std::uint64_t kBlocksPerThread = 8;
constexpr std::uint64_t kMaxBlockChunks = 64;

/// How many of `count` chunks, or layers, make a block.
inline std::uint64_t block_of(std::uint64_t count, unsigned threads) {
  return std::clamp<std::uint64_t>(count / (threads * kBlocksPerThread), 1, kMaxBlockChunks);
}

}  // namespace mtadam
