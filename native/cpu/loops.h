#pragma once

#include <cstdint>

#include "math/tables.h"

namespace mtadam {

/// The most terms that one loop processes. With more, a loop has more streams than the hardware prefetchers follow, and
/// it is faster to process tiles in several passes of a few terms.
constexpr std::uint32_t kFusedTerms = 3;

/// Elements of a tile: enough for prefetching to pay off, and few enough that D and U stay in the nearest caches.
constexpr std::uint32_t kTileElements = 8192;

/// Selects a loop, together with the number of terms. Chosen per run of elements, compiled per combination.
struct LoopForm {
  bool summed;  // M in place of m
  bool amsgrad;
  bool coupled;    // λ·θ in ĝ
  bool decoupled;  // d·θ in the step
  bool shortened;  // W other than 1
  bool one_b;      // all terms in D have the same b, so the largest v has the largest root
  bool one_v;      // V in place of v; with `summed`
  bool skips;      // the moments of an element that is not finite or too large stay as they are
};

/// The most terms in one pass over a tile. A term has two arrays where first moments are summed, otherwise three. Rare
/// forms have loops for fewer terms only.
constexpr std::uint32_t kPassTerms = 5;
constexpr std::uint32_t most_terms_of_pass(bool summed, bool amsgrad, bool skips) {
  return skips ? 2 : amsgrad ? 3 : summed ? kPassTerms : 4;
}

/// One term's part of a run of elements of one tensor.
struct TermRun {
  const float* g;  // null: the moments include this step's gradient, or the term is absent
  float* m;        // null where summed
  float* v;
  float* x;  // null without amsgrad, and where summed
  Coefficients k;
};

/// A run of elements of one tensor, and the values that all terms share in it.
struct TensorRun {
  std::uint64_t count;
  float* theta;
  float* sum;           // M; null where not summed
  float* sum_x;         // the shared x; null unless summed with amsgrad
  Coefficients shared;  // c and b of T
  GroupElements group;
  float w;          // W
  float* v;         // V; null unless both moments are summed
  float* gathered;  // G in memory; null before the first accumulate, and unless both moments are summed
};

/// Steps 5 and 6 for one term, for accumulate. `opens`: the term is the first of the step, so M decays first. The
/// shared x is updated in step 7, once instead of once per term. Where both moments are summed, the term is added to G,
/// which it starts if it opens the step.
using MomentsLoop = void (*)(const TensorRun& run, const TermRun& term, bool opens);

/// Steps 5 to 7 for up to `kFusedTerms` terms, all of which take part. W is 1, and with gradients no element is
/// skipped: the other forms use tiles, which saves copies of these loops.
using FusedLoop = void (*)(const TensorRun& run, const TermRun* terms);

/// A pass of a few terms over a tile: steps 5 and 6 if the terms have gradients (all of them or none), then their parts
/// of D and U. Absent terms are among them only if they count in D.
struct TilePass {
  float* d;  // with one_b, the largest v
  float* u;
  bool opens;  // no earlier pass over the tile had gradients
  bool first;  // the tile's first pass
};
using TileLoop = void (*)(const TensorRun& run, const TermRun* terms, const TilePass& pass);

/// Steps 5 to 7 where both moments are summed: for up to kPassTerms terms with gradients, W being 1, or from G.
using AdamLoop = void (*)(const TensorRun& run, const TermRun* terms);

struct TileChoice {
  TileLoop loop;
  std::uint32_t terms;  // that the loop processes
};

/// Step 7 for a tile, from its D and U. `b` is used with one_b only.
using MoveLoop = void (*)(const TensorRun& run, float b, const float* d, const float* u);

/// Codes of consecutive elements of one lean tensor, from the first of a block on.
struct CodeRun {
  CodePlane plane;
  StateType type;
  bool second;  // of v or x
  std::uint64_t count;
};

/// One term's part of a run of elements of one lean tensor.
struct LeanTerm {
  const float* g;
  Coefficients k;
  CodePlane m;  // null where summed
  CodePlane v;  // null where both moments are summed
  std::uint32_t stream;
};

/// A run of elements of one lean tensor, from the first of a block on and all in one chunk.
struct LeanRun {
  std::uint32_t first;  // in the chunk
  std::uint64_t count;
  float* theta;
  StateType type;
  CodePlane sum;  // M; null where not summed
  CodePlane v;    // V; null unless both moments are summed
  ChunkKey key;
  Coefficients shared;
  GroupElements group;
};

/// A run of elements of one narrow parameter, all in one chunk.
struct NarrowRun {
  ElementType type;
  Rounding rounding;
  std::uint16_t* codes;
  std::byte* master;    // null without masters
  std::uint32_t first;  // in the chunk
  std::uint64_t count;
  ChunkKey key;  // with Rounding::kStochastic
};

/// The sums of squares of a chunk's lanes while they grow; zeros before its first element.
struct LaneSquares {
  double chunk[kChunkLanes];    // of the segments that are complete
  double segment[kChunkLanes];  // of the one that has begun
};

/// The element loops of one instruction set. All sets give the same bits.
struct Loops {
  /// The sum of squares of one chunk, count <= kChunkElements, in the canonical order.
  double (*sum_of_squares)(const float* g, std::uint32_t count);
  /// The same, a few elements at a time. The first of `count` elements is number `first` of the chunk. They are whole
  /// rows of kChunkLanes up to the end of a segment at most, unless the chunk ends. Returns whether the sum of a lane
  /// exceeds `bound` or is NaN: in the segment while that is incomplete, else in the chunk.
  bool (*add_squares)(LaneSquares& lanes, const float* g, std::uint32_t first, std::uint32_t count, double bound);
  /// The sum of squares of a chunk of which all elements have been added.
  double (*total_of_lanes)(const LaneSquares& lanes);
  /// The dot product of two terms' gradients, in the same order.
  double (*dot_product)(const float* a, const float* b, std::uint32_t count);
  MomentsLoop (*moments)(LoopForm form);
  FusedLoop (*fused)(std::uint32_t terms, bool with_gradients, LoopForm form);
  /// A loop for the first of `terms` terms: for all of them, if they fit in one pass (`most_terms_of_pass`).
  TileChoice (*tile)(std::uint32_t terms, bool with_gradients, LoopForm form);
  MoveLoop (*move)(LoopForm form);
  /// `terms` is 0 for the loop that starts from G.
  AdamLoop (*adam)(std::uint32_t terms, LoopForm form);
  /// The draws of elements of a chunk: element_word() from `first` on.
  void (*draw)(ChunkKey key, std::uint32_t first, std::uint64_t count, std::uint32_t* words);
  void (*decode)(const CodeRun& run, float* to);
  /// Values to codes, and each value to what its code stands for. `words`: of the elements; `stream`: as stream_word().
  void (*round)(const CodeRun& run, float* values, const std::uint32_t* words, std::uint32_t stream);
  /// Steps 5 to 7 for `terms` terms, all of which take part: up to kFusedTerms, or kPassTerms where both moments are
  /// summed. W is 1, no element is skipped, and there is no amsgrad.
  void (*lean)(const LeanRun& run, const LeanTerm* parts, std::uint32_t terms, LoopForm form);
  /// target[k] = the larger of both, as x after a step.
  void (*raise)(float* target, const float* source, std::uint64_t count);
  /// target[k] += source[k].
  void (*add)(float* target, const float* source, std::uint64_t count);
  /// The same for a narrow type, rounded to nearest.
  void (*add_narrow)(std::uint16_t* target, const std::uint16_t* source, std::uint64_t count, ElementType type);
  /// Values of a narrow type in float32.
  void (*widen)(const std::uint16_t* from, std::uint64_t count, ElementType type, float* to);
  /// A narrow θ, with its master, to float32; and back, rounded.
  void (*load_parameters)(const NarrowRun& run, float* to);
  void (*store_parameters)(const NarrowRun& run, const float* from);
};

}  // namespace mtadam
