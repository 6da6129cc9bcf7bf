#include "cpu/elements.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/code_plane.h"
#include "math/network.h"
#include "math/scalars.h"

namespace mtadam {
namespace {

/// How a tensor's terms take part in a step.
struct Presence {
  std::uint32_t count = 0;    // terms in D
  std::uint32_t present = 0;  // terms that take part
  float b = 0;                // of the first term in D
  bool one_b = true;          // all terms in D have this b
};

/// Whether the term is part of D: it takes part, or first moments are summed and it did before.
bool counts(const Tables& tables, const Clock& clock, std::uint64_t step) {
  return takes_part(clock, step) || (tables.summed && !tables.amsgrad && clock.t > 0);
}

Presence presence_of(const Tables& tables, std::uint32_t tensor, std::uint64_t step) {
  Presence presence;
  for (std::uint32_t term = 0; term < tables.term_count; ++term) {
    const Clock& clock = tables.terms[term].clocks[tensor];
    if (!counts(tables, clock, step)) continue;
    const float b = tables.terms[term].coefficients[tensor].b;
    if (presence.count == 0) presence.b = b;
    presence.one_b &= b == presence.b;
    presence.count += 1;
    if (takes_part(clock, step)) presence.present += 1;
  }
  return presence;
}

float* offset(float* plane, std::uint64_t elements) { return plane == nullptr ? nullptr : plane + elements; }

/// Elements whose narrow gradients are in float32 at a time: they stay in the nearest cache.
constexpr std::uint32_t kWideTile = 1024;

/// Room for the gradients of a pass in float32.
class WideGradients {
 public:
  float* at(std::uint32_t place) { return values_[place]; }

 private:
  alignas(64) float values_[kPassTerms][kWideTile];
};

/// Calls take(part) for the whole range, or where its gradients have to be widened, for parts of at most kWideTile.
template <class Take>
void for_wide_parts(const Tables& tables, const ChunkRange& range, const Take& take) {
  const bool narrow = tables.tensors[range.tensor].gradient != ElementType::kFloat32;
  for_parts(range, narrow ? kWideTile : range.count, take);
}

/// What the draws of a part of a chunk start from.
ChunkKey key_of(const Tables& tables, const ChunkRange& part) {
  const std::uint64_t step = *tables.shared.step - *tables.shared.first_step;
  return chunk_key(tables.seed, step, tables.tensors[part.tensor].key, part.first / kChunkElements);
}

/// A part of a chunk of a narrow parameter.
NarrowRun narrow_run(const Tables& tables, const ChunkRange& part) {
  const Tensor& tensor = tables.tensors[part.tensor];
  std::byte* const masters = tables.shared.masters;
  NarrowRun run{};
  run.type = tensor.type;
  run.rounding = tables.rounding;
  run.codes = reinterpret_cast<std::uint16_t*>(parameter_at(tables, part.tensor, part.first));
  if (masters != nullptr) run.master = masters + (tensor.master + part.first * master_bytes(tensor.type));
  run.first = static_cast<std::uint32_t>(part.first % kChunkElements);
  run.count = part.count;
  run.key = key_of(tables, part);
  return run;
}

/// Calls take(part) for the whole range, or where θ is narrow, for parts of at most kWideTile, with θ in float32.
/// `moves`: whether θ changes.
template <class Take>
void for_wide_parameters(const Loops& loops, const Tables& tables, const ChunkRange& range, bool moves,
                         const Take& take) {
  if (tables.tensors[range.tensor].type == ElementType::kFloat32) return take(range);
  alignas(64) float theta[kWideTile];
  for_parts(range, kWideTile, [&](ChunkRange part) {
    const NarrowRun run = narrow_run(tables, part);
    loops.load_parameters(run, theta);
    part.theta = theta;
    take(part);
    if (moves) loops.store_parameters(run, theta);
  });
}

/// `call` is null where the moments include the gradient already. `wide`: as wide_gradient().
TermRun term_run(const Loops& loops, const Tables& tables, const Call* call, std::uint32_t term,
                 const ChunkRange& range, float* wide) {
  const Term& state = tables.terms[term];
  const std::uint64_t at = tables.tensors[range.tensor].plane + range.first;
  const float* const g = call == nullptr ? nullptr : wide_gradient(loops, tables, *call, term, range, wide);
  Coefficients coefficients = state.coefficients[range.tensor];
  coefficients.f = factor_of(tables, state, coefficients, tables.tensors[range.tensor].layer);
  return {g, offset(state.m, at), offset(state.v, at), offset(state.x, at), coefficients};
}

TensorRun tensor_run(const Tables& tables, const ChunkRange& range) {
  const Tensor& tensor = tables.tensors[range.tensor];
  const std::uint64_t at = tensor.plane + range.first;
  TensorRun run{};
  run.count = range.count;
  run.theta = range.theta != nullptr ? range.theta : parameter_at(tables, range.tensor, range.first);
  run.sum = offset(tables.shared.m, at);
  run.sum_x = offset(tables.shared.x, at);
  if (tables.summed) run.shared = tables.shared.coefficients[range.tensor];
  run.group = tables.group_elements[tensor.group];
  run.w = tables.shared.divisors == nullptr ? 1 : tables.shared.divisors[range.tensor].w;
  run.v = offset(tables.shared.v, at);
  run.gathered = offset(tables.shared.gathered, tensor.gathered + range.first);
  return run;
}

/// Calls visit(term) for each term that takes part in a tensor's step.
template <class Visit>
void for_present(const Tables& tables, std::uint32_t tensor, const Visit& visit) {
  for (std::uint32_t term = 0; term < tables.term_count; ++term) {
    if (takes_part(tables.terms[term].clocks[tensor], *tables.shared.step)) visit(term);
  }
}

/// Calls visit(term) for each term of a call.
template <class Visit>
void for_called(const Call& call, const Visit& visit) {
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) visit(term);
}

/// Whether one loop takes the step of a range: few terms, none of which is absent, W is 1, and no element rests.
bool is_one_loop(LoopForm form, const Presence& presence) {
  if (form.shortened || form.skips) return false;
  return form.one_v ? presence.present <= kPassTerms
                    : presence.count <= kFusedTerms && presence.count == presence.present;
}

/// An element of a gradient rests only if its square is not at most this.
double resting_square(float f) {
  // Not even 0, since f·0 is NaN.
  if (std::isinf(f)) return -1;
  // f·g then stays below the limit even after rounding. Finite for f = 0, too: the element may be infinite.
  const double largest = 0.9 * double{kLargestElement} / std::abs(double{f});
  return std::min(largest * largest, std::numeric_limits<double>::max());
}

/// Whether an element of a term's gradient may rest, by the sums of squares of its chunks: they bound every element,
/// and are known before any element moves.
bool may_rest(const Tables& tables, std::uint32_t term, const ChunkRange& range) {
  const Tensor& tensor = tables.tensors[range.tensor];
  const Term& state = tables.terms[term];
  const double bound = resting_square(factor_of(tables, state, state.coefficients[range.tensor], tensor.layer));
  const double* const sums = state.partial + tensor.slot + range.first / kChunkElements;
  return !std::all_of(sums, sums + chunks_of(range.count), [&](double sum) { return sum <= bound; });
}

/// The same for all terms that take part in a tensor's step.
bool may_rest(const Tables& tables, const ChunkRange& range) {
  bool found = false;
  for_present(tables, range.tensor, [&](std::uint32_t term) { found |= may_rest(tables, term, range); });
  return found;
}

/// The terms of a loop, kPassTerms at most.
struct LoopTerms {
  TermRun runs[kPassTerms];
  std::uint32_t index[kPassTerms];  // of the term
  std::uint32_t count = 0;

  void add(std::uint32_t term, const TermRun& run) {
    runs[count] = run;
    index[count] = term;
    count += 1;
  }
};

// Moves the pointers of a run on.
void advance(TensorRun& run, std::uint64_t count) {
  for (float** const plane : {&run.theta, &run.sum, &run.sum_x, &run.v, &run.gathered}) *plane = offset(*plane, count);
}
void advance(TermRun& term, std::uint64_t count) {
  for (float** const plane : {&term.m, &term.v, &term.x}) *plane = offset(*plane, count);
  term.g += count;
}

/// How many arrays a loop of a whole step goes through at once; the loops of step 6 alone, one or two fewer.
std::uint32_t arrays_of(const TensorRun& run, const LoopTerms& terms) {
  std::uint32_t count = 1;  // θ
  for (const float* const plane : {run.sum, run.sum_x, run.v}) count += plane == nullptr ? 0 : 1;
  for (std::uint32_t i = 0; i < terms.count; ++i) {
    const TermRun& term = terms.runs[i];
    count += 1;  // the gradient
    for (const float* const plane : {term.m, term.v, term.x}) count += plane == nullptr ? 0 : 1;
  }
  return count;
}

/// Sums of squares that are added up while a loop passes the gradients, a few elements at a time: memory gives each
/// gradient once, and the processor adds up squares while the loop waits for memory. Where whole tiles were added up
/// first, a step of one pair of moments took a fifth longer.
class PassedSums {
 public:
  PassedSums(const Loops& loops, const Tables& tables) : loops_(loops), tables_(tables) {}

  /// Calls take(run, term_runs, rests) for a few elements of a range after the other; `rests`: whether one of them may
  /// rest. Ranges come in order, and the first one begins with a chunk. The terms' pointers move on.
  template <class Take>
  void each(const ChunkRange& range, TensorRun run, LoopTerms& terms, const Take& take) {
    // So few that what is fetched ahead is not pushed out again: with more arrays, whole segments took a tenth to a
    // quarter more time, and with fewer, half segments took as much more.
    constexpr std::uint32_t kFewArrays = 6;
    const std::uint32_t together = arrays_of(run, terms) > kFewArrays ? kSegmentElements / 2 : kSegmentElements;
    double bounds[kPassTerms];
    for (std::uint32_t i = 0; i < terms.count; ++i) bounds[i] = resting_square(terms.runs[i].k.f);
    for_parts(range, together, [&](const ChunkRange& part) {
      run.count = part.count;
      take(run, terms.runs, add(part, terms, bounds));
      for (std::uint32_t i = 0; i < terms.count; ++i) advance(terms.runs[i], part.count);
      advance(run, part.count);
    });
  }

 private:
  /// Returns whether an element may rest.
  bool add(const ChunkRange& part, const LoopTerms& terms, const double* bounds) {
    const Tensor& tensor = tables_.tensors[part.tensor];
    const std::uint64_t end = part.first + part.count;
    const auto first = static_cast<std::uint32_t>(part.first % kChunkElements);
    bool found = false;
    for (std::uint32_t i = 0; i < terms.count; ++i) {
      if (first == 0) lanes_[i] = {};
      found |= loops_.add_squares(lanes_[i], terms.runs[i].g, first, static_cast<std::uint32_t>(part.count), bounds[i]);
      if (end % kChunkElements != 0 && end != tensor.length) continue;
      const std::uint64_t slot = tensor.slot + part.first / kChunkElements;
      tables_.terms[terms.index[i]].partial[slot] = loops_.total_of_lanes(lanes_[i]);
    }
    return found && skips_elements(tables_.non_finite);
  }

  const Loops& loops_;
  const Tables& tables_;
  alignas(64) LaneSquares lanes_[kPassTerms];
};
static_assert(kWideTile % kSegmentElements == 0);

/// `skips`: whether elements may rest. Loops that skip elements are slow, so they run only where one may.
LoopForm loop_form(const Tables& tables, const TensorRun& run, bool one_b, bool skips) {
  return {tables.summed, tables.amsgrad, run.group.coupled != 0, run.group.decoupled != 0,
          run.w != 1,    one_b,          tables.one_v,           skips};
}

/// Steps 5 and 6 of one term in a range. `sums`: null, or those of the term.
void take_moments(const Loops& loops, const TensorRun& run, const TermRun& own, std::uint32_t term,
                  const ChunkRange& range, LoopForm form, bool opens, PassedSums* sums) {
  const MomentsLoop usual = loops.moments(form);
  if (sums == nullptr) return usual(run, own, opens);
  form.skips = true;
  const MomentsLoop careful = loops.moments(form);
  LoopTerms terms;
  terms.add(term, own);
  sums->each(range, run, terms, [&](const TensorRun& few, const TermRun* moved, bool rests) {
    (rests ? careful : usual)(few, *moved, opens);
  });
}

/// Takes terms over a tile, all with gradients or none, in as few passes as loops allow. `pass`: the next one.
void take_passes(const Loops& loops, const TensorRun& run, const TermRun* terms, std::uint32_t count, LoopForm form,
                 TilePass& pass) {
  while (count > 0) {
    const bool with_gradients = terms[0].g != nullptr;
    const TileChoice choice = loops.tile(count, with_gradients, form);
    choice.loop(run, terms, pass);
    if (with_gradients) pass.opens = false;
    pass.first = false;
    terms += choice.terms;
    count -= choice.terms;
  }
}

/// Steps 5 to 7 of a few elements, of which some may rest. `b`: of all terms, with one_b.
void step_carefully(const Loops& loops, TensorRun run, const TermRun* terms, std::uint32_t count, LoopForm form,
                    float b) {
  alignas(64) float d[kSegmentElements];
  alignas(64) float u[kSegmentElements];
  form.skips = true;
  if (form.one_v) {
    run.gathered = d;
    for (std::uint32_t i = 0; i < count; ++i) loops.moments(form)(run, terms[i], i == 0);
    loops.adam(0, form)(run, nullptr);
  } else {
    TilePass pass{d, u, true, true};
    take_passes(loops, run, terms, count, form, pass);
    loops.move(form)(run, b, d, u);
  }
}

/// Runs a tile's loops over its terms, a few terms per pass.
class TilePasses {
 public:
  /// `terms`: how many will be added, at least one. The passes share them evenly.
  TilePasses(const Loops& loops, const TensorRun& run, LoopForm form, std::uint32_t terms, float* d, float* u)
      : loops_(loops), run_(run), form_(form), pass_{d, u, true, true} {
    // A pass of one term costs about as much as a pass of two.
    const std::uint32_t most = most_terms_of_pass(form.summed, form.amsgrad, form.skips);
    const std::uint32_t passes = (terms + most - 1) / most;
    together_ = (terms + passes - 1) / passes;
  }

  /// `run(place)`: of the term, as the one with this number in its pass. `with_gradient`: whether it has a gradient.
  template <class Run>
  void add(bool with_gradient, const Run& run) {
    if (count_ > 0 && (terms_[0].g != nullptr) != with_gradient) flush();
    terms_[count_] = run(count_);
    count_ += 1;
    if (count_ == together_) flush();
  }

  void flush() {
    take_passes(loops_, run_, terms_, count_, form_, pass_);
    count_ = 0;
  }

 private:
  const Loops& loops_;
  const TensorRun& run_;
  LoopForm form_;
  TilePass pass_;
  std::uint32_t together_;
  TermRun terms_[kPassTerms];
  std::uint32_t count_ = 0;
};

/// The same as update_range() for one tile and any number of terms, with those that are absent but count in D.
void update_tile(const Loops& loops, const Tables& tables, const Call* call, const ChunkRange& tile, LoopForm form,
                 const Presence& presence, std::uint64_t step, WideGradients& wide) {
  alignas(64) float d[kTileElements];
  alignas(64) float u[kTileElements];
  const TensorRun run = tensor_run(tables, tile);
  TilePasses passes(loops, run, form, presence.count, d, u);
  for (std::uint32_t term = 0; term < tables.term_count; ++term) {
    const Clock& clock = tables.terms[term].clocks[tile.tensor];
    if (!counts(tables, clock, step)) continue;
    const Call* const own = takes_part(clock, step) ? call : nullptr;
    passes.add(own != nullptr,
               [&](std::uint32_t place) { return term_run(loops, tables, own, term, tile, wide.at(place)); });
  }
  passes.flush();
  loops.move(form)(run, presence.b, d, u);
}

/// Steps 5 to 7 of a range where both moments are summed, a tile at a time.
void adam_tiles(const Loops& loops, const Tables& tables, const Call& call, const ChunkRange& range, LoopForm form,
                WideGradients& wide) {
  alignas(64) float gathered[kTileElements];
  for_parts(range, kTileElements, [&](const ChunkRange& tile) {
    TensorRun run = tensor_run(tables, tile);
    run.gathered = gathered;
    bool opens = true;
    for_present(tables, range.tensor, [&](std::uint32_t term) {
      loops.moments(form)(run, term_run(loops, tables, &call, term, tile, wide.at(0)), opens);
      opens = false;
    });
    loops.adam(0, form)(run, nullptr);
  });
}

// ---- Lean tensors ----

/// Elements of a lean tensor whose moments are float32 at a time: all arrays stay in the nearest cache.
constexpr std::uint32_t kLeanTile = 1024;
static_assert(kChunkElements % kLeanTile == 0 && kLeanTile % kCodeBlock == 0 && kWideTile % kLeanTile == 0);

/// A tile of a lean tensor. Its moments are decoded, processed by the loops for float32, and rounded before step 7,
/// which so gives the same bits whether or not it comes with steps 5 and 6.
class LeanTile {
 public:
  /// `rounds`: whether moments will change.
  LeanTile(const Loops& loops, const Tables& tables, const ChunkRange& tile, bool rounds)
      : loops_(loops), tables_(tables), tile_(tile), run_(tensor_run(tables, tile)) {
    run_.sum = sum_;
    run_.sum_x = sum_x_;
    if (!rounds) return;
    loops.draw(key_of(tables, tile), static_cast<std::uint32_t>(tile.first % kChunkElements), tile.count, words_);
  }

  /// Step 6 of one term, which takes part.
  void moments(const Call& call, std::uint32_t term, LoopForm form, bool opens) {
    load_sum();
    take(call, term, form, opens);
    store_sum();
  }

  /// Steps 5 to 7 (with a call) or step 7 alone (without) for terms that keep moments of their own.
  void update(const Call* call, LoopForm form, const Presence& presence, std::uint64_t step) {
    load_sum();
    if (form.summed && form.amsgrad) load(tables_.shared.codes.x, true, sum_x_);
    bool opens = true;
    TilePass pass{d_, u_, false, true};
    for (std::uint32_t term = 0; term < tables_.term_count; ++term) {
      const Clock& clock = tables_.terms[term].clocks[tile_.tensor];
      if (!counts(tables_, clock, step)) continue;
      if (call != nullptr && takes_part(clock, step)) {
        take(*call, term, form, opens);
        opens = false;
      } else {
        load_term(term, form);
      }
      const TermRun part = part_of(term);
      loops_.tile(1, false, form).loop(run_, &part, pass);
      pass.first = false;
    }
    if (call != nullptr) store_sum();
    // The largest of rounded values: none of them changes.
    if (form.summed && form.amsgrad) round(tables_.shared.codes.x, true, sum_x_, 0);
    loops_.move(form)(run_, presence.b, d_, u_);
  }

  /// The same where both moments are summed.
  void adam(const Call* call, LoopForm form) {
    if (call != nullptr) gather(*call, form);
    const CodePlanes& codes = tables_.shared.codes;
    const std::uint32_t stream = shared_stream();
    load(codes.m, false, m_);
    load(codes.v, true, v_);
    TermRun pair{run_.gathered, m_, v_, x_, {1, run_.shared.c, run_.shared.b}};
    LoopForm own = form;
    own.summed = own.one_v = own.skips = own.amsgrad = false;
    loops_.moments(own)(run_, pair, true);
    round(codes.m, false, m_, stream);
    round(codes.v, true, v_, stream);
    own.amsgrad = form.amsgrad;
    own.one_b = true;
    if (form.amsgrad) {
      load(codes.x, true, x_);
      loops_.raise(x_, v_, tile_.count);
      round(codes.x, true, x_, stream);
    }
    pair.g = nullptr;
    loops_.tile(1, false, own).loop(run_, &pair, {d_, u_, false, true});
    loops_.move(own)(run_, run_.shared.b, d_, u_);
  }

 private:
  CodeRun codes(CodePlane plane, bool second) const {
    const std::uint64_t at = tables_.tensors[tile_.tensor].plane + tile_.first;
    return {code_plane_at(plane, tables_.state_type, at), tables_.state_type, second, tile_.count};
  }
  void load(CodePlane plane, bool second, float* to) { loops_.decode(codes(plane, second), to); }
  void round(CodePlane plane, bool second, float* values, std::uint32_t stream) {
    loops_.round(codes(plane, second), values, words_, stream);
  }

  void load_sum() {
    if (tables_.summed) load(tables_.shared.codes.m, false, sum_);
  }
  void store_sum() {
    if (tables_.summed) round(tables_.shared.codes.m, false, sum_, shared_stream());
  }

  void load_term(std::uint32_t term, LoopForm form) {
    const CodePlanes& own = tables_.terms[term].codes;
    load(own.v, true, v_);
    if (form.summed) return;
    load(own.m, false, m_);
    if (form.amsgrad) load(own.x, true, x_);
  }

  TermRun part_of(std::uint32_t term) { return {nullptr, m_, v_, x_, tables_.terms[term].coefficients[tile_.tensor]}; }

  /// Step 6 of a term, whose moments are then rounded and here.
  void take(const Call& call, std::uint32_t term, LoopForm form, bool opens) {
    const Term& state = tables_.terms[term];
    load_term(term, form);
    TermRun part = term_run(loops_, tables_, &call, term, tile_, g_);
    part.m = m_;
    part.v = v_;
    LoopForm own = form;
    own.amsgrad = false;  // x is the largest of the rounded v
    loops_.moments(own)(run_, part, opens);
    round(state.codes.v, true, v_, state.stream);
    if (form.summed) return;
    round(state.codes.m, false, m_, state.stream);
    if (!form.amsgrad) return;
    loops_.raise(x_, v_, tile_.count);
    round(state.codes.x, true, x_, state.stream);
  }

  /// G of all terms.
  void gather(const Call& call, LoopForm form) {
    run_.gathered = d_;
    bool opens = true;
    for_present(tables_, tile_.tensor, [&](std::uint32_t term) {
      loops_.moments(form)(run_, term_run(loops_, tables_, &call, term, tile_, g_), opens);
      opens = false;
    });
  }

  const Loops& loops_;
  const Tables& tables_;
  const ChunkRange tile_;
  TensorRun run_;
  alignas(64) std::uint32_t words_[kLeanTile];
  alignas(64) float sum_[kLeanTile];
  alignas(64) float sum_x_[kLeanTile];
  alignas(64) float m_[kLeanTile];
  alignas(64) float v_[kLeanTile];
  alignas(64) float x_[kLeanTile];
  alignas(64) float g_[kLeanTile];
  alignas(64) float d_[kLeanTile];
  alignas(64) float u_[kLeanTile];
};

/// Steps 5 to 7 from the gradients of all terms, where one loop takes them.
void fused_lean(const Loops& loops, const Tables& tables, const Call& call, const ChunkRange& range, LoopForm form,
                WideGradients& wide) {
  const Tensor& tensor = tables.tensors[range.tensor];
  const auto take = [&](const ChunkRange& part) {
    const auto codes = [&](CodePlane plane) {
      return code_plane_at(plane, tables.state_type, tensor.plane + part.first);
    };
    LeanTerm terms[kPassTerms];
    std::uint32_t count = 0;
    for_present(tables, part.tensor, [&](std::uint32_t term) {
      const Term& state = tables.terms[term];
      const TermRun run = term_run(loops, tables, &call, term, part, wide.at(count));
      terms[count++] = {run.g, run.k, codes(state.codes.m), codes(state.codes.v), state.stream};
    });
    const TensorRun run = tensor_run(tables, part);
    const CodePlanes& shared = tables.shared.codes;
    const auto first = static_cast<std::uint32_t>(part.first % kChunkElements);
    loops.lean({first, run.count, run.theta, tables.state_type, codes(shared.m), codes(shared.v), key_of(tables, part),
                run.shared, run.group},
               terms, count, form);
  };
  for_parts(range, kChunkElements, [&](const ChunkRange& chunk) { for_wide_parts(tables, chunk, take); });
}

/// Steps 5 to 7 (with a call) or step 7 alone (without), a tile at a time, in any form.
void lean_tiles(const Loops& loops, const Tables& tables, const Call* call, const ChunkRange& range, LoopForm form,
                const Presence& presence, std::uint64_t step) {
  const bool rounds = call != nullptr || form.one_v || form.amsgrad;
  for_parts(range, kLeanTile, [&](const ChunkRange& part) {
    LeanTile tile(loops, tables, part, rounds);
    form.one_v ? tile.adam(call, form) : tile.update(call, form, presence, step);
  });
}

// ---- The steps of a tensor ----

/// Steps 5 to 7 (with a call) or step 7 alone (without) for ranges of one tensor.
class Update {
 public:
  Update(const Loops& loops, const Tables& tables, const Call* call, std::uint32_t tensor)
      : loops_(loops),
        tables_(tables),
        call_(call),
        tensor_(tables.tensors[tensor]),
        step_(*tables.shared.step),
        presence_(presence_of(tables, tensor, step_)),
        passed_(loops, tables) {}

  /// The sums of squares of the range that will be taken: now, or on the way if one loop takes all terms of float32
  /// moments, unless elements may rest. Lean moments are bound by arithmetic, and tiles pass through the caches more
  /// than once: they are faster with sums that are there before.
  void add_up(const ChunkRange& range) {
    sums_ = !tensor_.lean && is_one_loop(form_of(range, false), presence_);
    for_called(*call_, [&](std::uint32_t term) {
      const bool passed = sums_ && takes_part(tables_.terms[term].clocks[range.tensor], step_);
      if (!passed) sum_range(loops_, tables_, *call_, term, range);
    });
  }

  void take(const ChunkRange& range) {
    if (presence_.present == 0) return;
    for_wide_parameters(loops_, tables_, range, true, [&](const ChunkRange& part) {
      const bool known = call_ != nullptr && !sums_;  // the sums of the range
      const bool skips = known && skips_elements(tables_.non_finite) && may_rest(tables_, part);
      take(part, form_of(part, skips));
    });
  }

 private:
  LoopForm form_of(const ChunkRange& range, bool skips) const {
    return loop_form(tables_, tensor_run(tables_, range), presence_.one_b, skips);
  }

  void take(const ChunkRange& range, LoopForm form) {
    const bool one_loop = is_one_loop(form, presence_);
    if (tensor_.lean) {
      if (call_ != nullptr && !form.amsgrad && one_loop) return fused_lean(loops_, tables_, *call_, range, form, wide_);
      return lean_tiles(loops_, tables_, call_, range, form, presence_, step_);
    }
    const auto take_part = [&](const ChunkRange& part) {
      if (one_loop) return loop(part, form);
      if (form.one_v) return adam_tiles(loops_, tables_, *call_, part, form, wide_);
      for_parts(part, kTileElements, [&](const ChunkRange& tile) {
        update_tile(loops_, tables_, call_, tile, form, presence_, step_, wide_);
      });
    };
    if (call_ == nullptr) {
      form.one_v ? loops_.adam(0, form)(tensor_run(tables_, range), nullptr) : take_part(range);
    } else {
      for_wide_parts(tables_, range, take_part);
    }
  }

  void loop(const ChunkRange& part, LoopForm form) {
    LoopTerms terms;
    for_present(tables_, part.tensor, [&](std::uint32_t term) {
      terms.add(term, term_run(loops_, tables_, call_, term, part, wide_.at(terms.count)));
    });
    const auto chosen = form.one_v ? loops_.adam(terms.count, form) : loops_.fused(terms.count, call_ != nullptr, form);
    const TensorRun run = tensor_run(tables_, part);
    if (!sums_) return chosen(run, terms.runs);
    passed_.each(part, run, terms, [&](const TensorRun& few, const TermRun* moved, bool rests) {
      rests ? step_carefully(loops_, few, moved, terms.count, form, presence_.b) : chosen(few, moved);
    });
  }

  const Loops& loops_;
  const Tables& tables_;
  const Call* const call_;
  const Tensor& tensor_;
  const std::uint64_t step_;
  const Presence presence_;
  bool sums_ = false;  // are added up on the way
  PassedSums passed_;
  WideGradients wide_;
};

/// Steps 5 and 6 of one term, if it takes part. `sums`: as moments_and_sums().
void moments_of(const Loops& loops, const Tables& tables, const Call& call, std::uint32_t term, const ChunkRange& range,
                bool sums) {
  const Tensor& tensor = tables.tensors[range.tensor];
  const bool takes = takes_part(tables.terms[term].clocks[range.tensor], *tables.shared.step);
  const bool in_tiles = tensor.lean && !tables.one_v;
  // Only coupled decay reads θ, and where both moments are summed, it waits for the update.
  const bool decays = tables.group_elements[tensor.group].coupled != 0 && !tables.one_v;
  if (sums && (!takes || in_tiles || (decays && tensor.type != ElementType::kFloat32))) {
    sum_range(loops, tables, call, term, range);
    sums = false;
  }
  if (!takes) return;
  const bool opens = tables.summed && tables.shared.opener[range.tensor] == term;
  const auto take = [&](const ChunkRange& given) {
    const bool skips = !sums && skips_elements(tables.non_finite) && may_rest(tables, term, given);
    const LoopForm form = loop_form(tables, tensor_run(tables, given), false, skips);
    if (in_tiles) {
      return for_parts(given, kLeanTile, [&](const ChunkRange& part) {
        LeanTile(loops, tables, part, true).moments(call, term, form, opens);
      });
    }
    alignas(64) float wide[kWideTile];
    PassedSums passed(loops, tables);
    for_wide_parts(tables, given, [&](const ChunkRange& part) {
      const TermRun own = term_run(loops, tables, &call, term, part, wide);
      take_moments(loops, tensor_run(tables, part), own, term, part, form, opens, sums ? &passed : nullptr);
    });
  };
  decays ? for_wide_parameters(loops, tables, range, false, take) : take(range);
}

}  // namespace

const float* wide_gradient(const Loops& loops, const Tables& tables, const Call& call, std::uint32_t term,
                           const ChunkRange& range, float* wide) {
  const Tensor& tensor = tables.tensors[range.tensor];
  const float* const gradient = gradient_of(tables, call, term, range.tensor);
  if (gradient == nullptr) return nullptr;
  const float* const first = gradient_at(tensor, gradient, range.first);
  if (tensor.gradient == ElementType::kFloat32) return first;
  loops.widen(reinterpret_cast<const std::uint16_t*>(first), range.count, tensor.gradient, wide);
  return wide;
}

void sum_range(const Loops& loops, const Tables& tables, const Call& call, std::uint32_t term,
               const ChunkRange& range) {
  alignas(64) float wide[kChunkElements];
  double* partial = tables.terms[term].partial + tables.tensors[range.tensor].slot + range.first / kChunkElements;
  for_parts(range, kChunkElements, [&](const ChunkRange& chunk) {
    const float* const g = wide_gradient(loops, tables, call, term, chunk, wide);
    // An absent tensor's chunks add nothing to a layer in which others are present.
    *partial++ = g == nullptr ? 0 : loops.sum_of_squares(g, static_cast<std::uint32_t>(chunk.count));
  });
}

void sum_all(const Loops& loops, const Tables& tables, const Call& call, const ChunkRange& range) {
  for_called(call, [&](std::uint32_t term) { sum_range(loops, tables, call, term, range); });
}

void moments_range(const Loops& loops, const Tables& tables, const Call& call, const ChunkRange& range) {
  for_called(call, [&](std::uint32_t term) { moments_of(loops, tables, call, term, range, false); });
}

void moments_and_sums(const Loops& loops, const Tables& tables, const Call& call, const ChunkRange& range) {
  for_called(call, [&](std::uint32_t term) { moments_of(loops, tables, call, term, range, true); });
}

void update_range(const Loops& loops, const Tables& tables, const Call& call, const ChunkRange& range) {
  Update(loops, tables, &call, range.tensor).take(range);
}

void update_range(const Loops& loops, const Tables& tables, const ChunkRange& range) {
  Update(loops, tables, nullptr, range.tensor).take(range);
}

void update_and_sums(const Loops& loops, const Tables& tables, const Call& call, const ChunkRange& range) {
  Update update(loops, tables, &call, range.tensor);
  update.add_up(range);
  update.take(range);
}

}  // namespace mtadam
