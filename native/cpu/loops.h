#pragma once

#include <cstdint>

#include "math/tables.h"

namespace mtadam {

/// How many terms one loop walks at once. With more, a loop has more streams than the hardware prefetchers follow,
/// and tiles, over which a few terms pass after others, are faster.
constexpr std::uint32_t kFusedTerms = 3;

/// Elements of a tile: long enough for the streams of a pass to come up to speed, while D and U stay in the nearest
/// caches.
constexpr std::uint32_t kTileElements = 8192;

/// Which loop, beside the number of terms. Chosen per run of elements, compiled per combination.
struct LoopForm {
  bool summed;  // M in place of m
  bool amsgrad;
  bool coupled;    // λ·θ in ĝ
  bool decoupled;  // d·θ in the step
  bool shortened;  // W other than 1
  bool one_b;      // b is the same in all terms that D is taken over (no v is negative)
};

/// How many terms pass over a tile at once, at most: two arrays each where summed, three where not. For what is rare,
/// loops are compiled for fewer.
constexpr std::uint32_t kPassTerms = 5;
constexpr std::uint32_t most_terms_of_pass(bool summed, bool amsgrad) { return amsgrad ? 3 : summed ? kPassTerms : 4; }

/// One term's part of a run of elements of one tensor.
struct TermRun {
  const float* g;  // null: the moments have had this step's gradient already, or the term is absent
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
  float w;  // W
};

/// The moments of one term alone, for accumulate. `opens`: no other term took part before, so M decays first. The
/// shared x waits for step 7: then it is read and written once, not once per term.
using MomentsLoop = void (*)(const TensorRun& run, const TermRun& term, bool opens);

/// All of steps 5 to 7 for `kFusedTerms` terms or fewer, all of which take part. W is 1: for another, tiles save a copy
/// of each of these loops.
using FusedLoop = void (*)(const TensorRun& run, const TermRun* terms);

/// A pass of a few terms over a tile: their moments where they bring gradients (all of them or none), then their parts
/// of D and U. Terms that are absent now come by only where D is taken over them.
struct TilePass {
  float* d;  // with one_b, the radicand of the largest root
  float* u;
  bool opens;  // the first to take part in this step
  bool first;  // the first to be part of D and U
};
using TileLoop = void (*)(const TensorRun& run, const TermRun* terms, const TilePass& pass);

struct TileChoice {
  TileLoop loop;
  std::uint32_t terms;  // that it takes
};

/// Step 7 for a tile from its D and U. `b` is that of all terms, where they share it.
using MoveLoop = void (*)(const TensorRun& run, float b, const float* d, const float* u);

/// The element loops of one instruction set. The same bits from each.
struct Loops {
  /// The sum of squares of one chunk, count <= kChunkElements, in the canonical order.
  double (*sum_of_squares)(const float* g, std::uint32_t count);
  /// The dot product of two terms' gradients, in the same order.
  double (*dot_product)(const float* a, const float* b, std::uint32_t count);
  MomentsLoop (*moments)(LoopForm form);
  FusedLoop (*fused)(std::uint32_t terms, bool with_gradients, LoopForm form);
  /// A loop for the first of `terms` terms, all of them where they are not more than `most_terms_of_pass`.
  TileChoice (*tile)(std::uint32_t terms, bool with_gradients, LoopForm form);
  MoveLoop (*move)(LoopForm form);
  /// target[k] += source[k].
  void (*add)(float* target, const float* source, std::uint64_t count);
};

}  // namespace mtadam
