#pragma once

#include "cpu/chunk_range.h"
#include "cpu/loops.h"
#include "math/tables.h"

// The loops over the elements of a range of one tensor.

namespace mtadam {

/// A term's gradient from the first element of a range on, in float32; null where it is absent. `wide` has room for the
/// range, and is used where the gradient is narrow.
const float* wide_gradient(const Loops& loops, const Tables& tables, const Call& call, std::uint32_t term,
                           const ChunkRange& range, float* wide);

/// Step 1: the sums of squares of a term's gradient, per chunk. Those of an absent gradient are 0, since other tensors
/// of the layer may be present.
void sum_range(const Loops& loops, const Tables& tables, const Call& call, std::uint32_t term, const ChunkRange& range);

/// The same for all terms of the call.
void sum_all(const Loops& loops, const Tables& tables, const Call& call, const ChunkRange& range);

/// Steps 5 and 6, term after term. The sums of step 1 tell whether an element may rest.
void moments_range(const Loops& loops, const Tables& tables, const Call& call, const ChunkRange& range);

/// Steps 5 to 7.
void update_range(const Loops& loops, const Tables& tables, const Call& call, const ChunkRange& range);

/// As moments_range() and update_range(), and as sum_all(): with lagged scales, nothing in this step needs the sums. If
/// one loop takes the range, it reads each gradient once. The range begins with a chunk.
void moments_and_sums(const Loops& loops, const Tables& tables, const Call& call, const ChunkRange& range);
void update_and_sums(const Loops& loops, const Tables& tables, const Call& call, const ChunkRange& range);

/// Step 7 alone, after moments_range() of each term.
void update_range(const Loops& loops, const Tables& tables, const ChunkRange& range);

}  // namespace mtadam
