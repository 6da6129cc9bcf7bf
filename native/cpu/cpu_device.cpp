#include "cpu/cpu_device.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "cpu/backoff.h"
#include "cpu/blocks.h"
#include "cpu/step_plan.h"
#include "engine/errors.h"
#include "math/lagged.h"
#include "math/lane_sum.h"
#include "math/network.h"
#include "math/scalars.h"

namespace mtadam {
namespace {

constexpr std::uint64_t kTileSlots = kTileElements / kChunkElements;
static_assert(kTileElements % kChunkElements == 0);

// A step that visits fewer elements is over before a second thread has woken.
constexpr std::uint64_t kAloneElements = 32768;

/// Consecutive chunks of one tensor.
struct ChunkRange {
  std::uint32_t tensor;
  std::uint64_t first;  // element
  std::uint64_t count;  // elements
};

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

/// The sum over the chunks of a layer or a tensor.
double sum_of_chunks(const double* partial, std::uint64_t slots) {
  if (slots == 0) return 0;
  if (slots == 1) return partial[0];
  LaneSum sum;
  for (std::uint64_t q = 0; q < slots; ++q) sum.add(q, partial[q]);
  return sum.total();
}

/// The norm before the open step from the q of that time, in a layer whose clocks have not advanced; `n` where the term
/// had no q.
double former_norm(const Tables& tables, const Call& call, std::uint32_t term, const Layer& layer, double n) {
  LaneSum q;
  bool existed = false;
  for (std::uint32_t k = 0; k < layer.members; ++k) {
    const std::uint32_t index = tables.members[layer.member + k];
    const FormerSquare former = former_square(tables, term, index, gradient_of(tables, call, term, index) != nullptr);
    q.add(index, former.q);
    existed |= former.exists;
  }
  return existed ? std::sqrt(q.total()) : n;
}

/// q of all tensors of a layer in which the term is present; then n, if the layer has not joined the network's unit.
/// `first_sum`: the sum of squares of a layer of one tensor.
void record_squares(const Tables& tables, const Call& call, std::uint32_t term, std::uint32_t layer_index,
                    double first_sum, bool joined) {
  const Term& state = tables.terms[term];
  const Layer& layer = tables.layers[layer_index];
  const bool resting = !joined && rests(tables, state.norms[layer_index].r);
  LaneSum q;
  for (std::uint32_t k = 0; k < layer.members; ++k) {
    const std::uint32_t index = tables.members[layer.member + k];
    const Tensor& tensor = tables.tensors[index];
    if (gradient_of(tables, call, term, index) != nullptr) {
      const double squares =
          layer.members == 1 ? first_sum : sum_of_chunks(state.partial + tensor.slot, chunks_of(tensor.length));
      record_square(tables, term, index, squares, resting || keeps_average(tables, squares));
    }
    q.add(index, state.squares[index]);
  }
  const double n = joined ? state.norms[layer_index].n : std::sqrt(q.total());
  if (tables.lagged) state.lagged_norms[layer_index] = former_norm(tables, call, term, layer, n);
  record_norm(tables, term, layer_index, n);
}

/// Steps 1 to 4 and the clocks, for one layer and all terms of the call; n and s are left to finish_network() where the
/// layer is part of the network's unit. False where a norm that is not finite is a reason to go back on other layers.
/// `skipped` becomes true where a term is skipped.
bool begin_layer(const Tables& tables, const Call& call, std::uint32_t layer_index, std::atomic<bool>& skipped) {
  const Layer& layer = tables.layers[layer_index];
  if (tables.network) join_network(tables, layer_index);
  const bool joined = is_joined(tables, layer_index);
  bool good = true;
  // All norms before the first scale: the anchor may be any term.
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    if (!present_in_layer(tables, call, term, layer)) continue;
    const double sum = sum_of_chunks(tables.terms[term].partial + layer.slot, layer.slots);
    const bool finite = take_norm(tables, term, layer_index, sum);
    if (!finite) skipped = true;
    if (!finite && !skips_elements(tables, call, term, layer_index)) {
      good &= tables.lagged || (!joined && tables.non_finite != NonFinite::kSkipStep);
    } else if (tables.network) {
      record_squares(tables, call, term, layer_index, sum, joined);
    } else if (tables.lagged) {
      record_lagged_norm(tables, term, layer_index);
    } else {
      record_norm(tables, term, layer_index, next_norm(tables, term, layer_index));
    }
  }
  const std::uint32_t end = call.first + call.count;
  if (!joined) {
    bool withdrawn = false;
    const double anchor = tables.lagged ? lagged_anchor_of_layer(tables, layer_index)
                                        : anchor_of_layer(tables, call, layer_index, withdrawn);
    for (std::uint32_t term = call.first; term < end; ++term) {
      if (tables.lagged) {
        scale_lagged_in_layer(tables, term, layer_index, anchor);
      } else {
        withdrawn |= scale_in_layer(tables, call, term, layer_index, anchor);
      }
    }
    if (withdrawn) {
      skipped = true;
      good &= tables.non_finite != NonFinite::kSkipStep;
    }
  }
  for (std::uint32_t k = 0; k < layer.members; ++k) {
    const std::uint32_t tensor = tables.members[layer.member + k];
    for (std::uint32_t term = call.first; term < end; ++term) {
      if (reaches(tables, call, term, tensor, layer_index)) begin_term(tables, term, tensor, layer_index);
    }
    begin_shared(tables, call, tensor, layer_index);
  }
  return good;
}

/// Marks the terms that are not finite somewhere in the network's unit.
void mark_spoilers(const Tables& tables, const Call& call) {
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    bool found = false;
    for (std::uint32_t layer = 0; layer < tables.layer_count && !found; ++layer) {
      found = spoils_network(tables, call, term, layer);
    }
    if (found) mark_withdrawn(tables, term);
  }
}

/// The norm of one term in the network's unit before the open step, once clocks have advanced.
void record_former_norm(const Tables& tables, std::uint32_t term) {
  LaneSum q;
  bool existed = false;
  for (std::uint32_t tensor = 0; tensor < tables.tensor_count; ++tensor) {
    if (!is_joined(tables, tables.tensors[tensor].layer)) continue;
    const bool moved = takes_part(tables.terms[term].clocks[tensor], *tables.shared.step);
    const FormerSquare former = former_square(tables, term, tensor, moved);
    q.add(tensor, former.q);
    existed |= former.exists;
  }
  record_lagged_network(tables, term, existed, q.total());
}

/// n of one term in the network's unit.
void finish_term(const Tables& tables, const Call& call, std::uint32_t term) {
  LaneSum q, squares;
  bool anywhere = false, here = false;
  for (std::uint32_t tensor = 0; tensor < tables.tensor_count; ++tensor) {
    const NetworkPart part = network_part(tables, term, tensor);
    q.add(tensor, part.q);
    squares.add(tensor, part.square);
    anywhere |= part.takes_part;
    here |= part.takes_part && part.joined;
  }
  double sum_of_q = q.total();
  const double sum = squares.total();
  const bool called = term - call.first < call.count;
  if (called && here && rests(tables, sum)) {
    LaneSum rested;
    for (std::uint32_t tensor = 0; tensor < tables.tensor_count; ++tensor) {
      rest_square(tables, term, tensor);
      rested.add(tensor, network_part(tables, term, tensor).q);
    }
    sum_of_q = rested.total();
  }
  record_network(tables, term, sum_of_q);
  if (tables.lagged) record_former_norm(tables, term);
  if (called && anywhere) reach_network(tables, term);
  if (called && here) take_network(tables, term, sum);
}

/// n and s of the network's unit, once all layers have begun. `good`: all norms in the unit are finite. Returns whether
/// no term left float32.
bool finish_network(const Tables& tables, const Call& call, bool good) {
  if (!good) mark_spoilers(tables, call);
  bool scaled = false;
  for (bool left = false;; left = true) {
    if (left || !good) {
      for (std::uint32_t layer = 0; layer < tables.layer_count; ++layer) withdraw_from(tables, call, layer, left);
    }
    for (std::uint32_t term = 0; term < tables.term_count; ++term) finish_term(tables, call, term);
    if (scaled) return false;
    bool leaves = false;
    const double anchor = tables.lagged ? lagged_network_anchor(tables) : network_anchor(tables, call, leaves);
    if (leaves) continue;
    for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
      if (tables.lagged) {
        scale_lagged_network(tables, term, anchor);
      } else {
        leaves |= scale_network(tables, term, anchor);
      }
    }
    if (!leaves) return !left;
    scaled = true;
  }
}

/// Rolls the step back everywhere.
void roll_back(const Tables& tables) {
  for (std::uint32_t layer = 0; layer < tables.layer_count; ++layer) roll_back_layer(tables, layer);
  for (std::uint32_t tensor = 0; tensor < tables.tensor_count; ++tensor) roll_back_tensor(tables, tensor);
  if (!tables.network) return;
  for (std::uint32_t term = 0; term < tables.term_count; ++term) leave_network(tables, term);
}

/// Shows what the call's terms have in the network's unit in each of its layers.
void show_network(const Tables& tables, const Call& call) {
  if (!tables.network) return;
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    for (std::uint32_t layer = 0; layer < tables.layer_count; ++layer) mtadam::show_network(tables, term, layer);
  }
}

/// How a tensor's terms take part in a step.
struct Presence {
  std::uint32_t count = 0;                // terms in D
  std::uint32_t present = 0;              // terms that take part
  std::uint32_t first[kFusedTerms] = {};  // of the terms in D, as many as one loop processes
  float b = 0;                            // of the first term in D
  bool one_b = true;                      // all terms in D have this b
};

/// Every call is done when it returns, so that there is nothing to wait for.
class PastEvent final : public Event {
 public:
  void record(Stream) override {}
  void make_wait(Stream) override {}
  void wait() override {}
};

class FinishedCopy final : public HostCopy {
 public:
  FinishedCopy(const std::byte* from, std::size_t bytes) : bytes_(from, from + bytes) {}
  void wait() override {}
  const std::byte* data() const override { return bytes_.data(); }

 private:
  std::vector<std::byte> bytes_;
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
    if (presence.count < kFusedTerms) presence.first[presence.count] = term;
    presence.count += 1;
    if (takes_part(clock, step)) presence.present += 1;
  }
  return presence;
}

float* offset(float* plane, std::uint64_t elements) { return plane == nullptr ? nullptr : plane + elements; }

/// `call` is null where the moments include the gradient already.
TermRun term_run(const Tables& tables, const Call* call, std::uint32_t term, const ChunkRange& range) {
  const Term& state = tables.terms[term];
  const std::uint64_t at = tables.tensors[range.tensor].plane + range.first;
  const float* const g = call == nullptr ? nullptr : gradient_of(tables, *call, term, range.tensor);
  Coefficients coefficients = state.coefficients[range.tensor];
  coefficients.f = factor_of(tables, state, coefficients, tables.tensors[range.tensor].layer);
  return {g == nullptr ? nullptr : g + range.first, offset(state.m, at), offset(state.v, at), offset(state.x, at),
          coefficients};
}

TensorRun tensor_run(const Tables& tables, const ChunkRange& range) {
  const Tensor& tensor = tables.tensors[range.tensor];
  const std::uint64_t at = tensor.plane + range.first;
  TensorRun run{};
  run.count = range.count;
  run.theta = tables.parameters[range.tensor] + range.first;
  run.sum = offset(tables.shared.m, at);
  run.sum_x = offset(tables.shared.x, at);
  if (tables.summed) run.shared = tables.shared.coefficients[range.tensor];
  run.group = tables.group_elements[tensor.group];
  run.w = tables.shared.divisors == nullptr ? 1 : tables.shared.divisors[range.tensor].w;
  run.v = offset(tables.shared.v, at);
  run.gathered = offset(tables.shared.gathered, at);
  return run;
}

LoopForm loop_form(const Tables& tables, const TensorRun& run, bool one_b) {
  return {tables.summed, tables.amsgrad, run.group.coupled != 0, run.group.decoupled != 0,
          run.w != 1,    one_b,          tables.one_v,           tables.non_finite == NonFinite::kSkipElement};
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

  void add(const TermRun& term) {
    if (count_ > 0 && (terms_[0].g == nullptr) != (term.g == nullptr)) flush();
    terms_[count_++] = term;
    if (count_ == together_) flush();
  }

  void flush() {
    for (std::uint32_t done = 0; done < count_;) {
      const bool with_gradients = terms_[0].g != nullptr;
      const TileChoice choice = loops_.tile(count_ - done, with_gradients, form_);
      choice.loop(run_, terms_ + done, pass_);
      done += choice.terms;
      if (with_gradients) pass_.opens = false;
      pass_.first = false;
    }
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
void update_tile(const Loops& loops, const Tables& tables, const Call* call, const ChunkRange& tile,
                 const Presence& presence, std::uint64_t step) {
  alignas(64) float d[kTileElements];
  alignas(64) float u[kTileElements];
  const TensorRun run = tensor_run(tables, tile);
  const LoopForm form = loop_form(tables, run, presence.one_b);
  TilePasses passes(loops, run, form, presence.count, d, u);
  for (std::uint32_t term = 0; term < tables.term_count; ++term) {
    const Clock& clock = tables.terms[term].clocks[tile.tensor];
    if (counts(tables, clock, step)) passes.add(term_run(tables, takes_part(clock, step) ? call : nullptr, term, tile));
  }
  passes.flush();
  loops.move(form)(run, presence.b, d, u);
}

/// The sums of squares of a term's gradient in a range of one tensor, per chunk.
void sum_range(const Loops& loops, const Tables& tables, const Call& call, std::uint32_t term,
               const ChunkRange& range) {
  const float* const g = gradient_of(tables, call, term, range.tensor);
  double* partial = tables.terms[term].partial + tables.tensors[range.tensor].slot + range.first / kChunkElements;
  for (std::uint64_t done = 0; done < range.count; done += kChunkElements) {
    const std::uint64_t count = std::min<std::uint64_t>(kChunkElements, range.count - done);
    // An absent tensor's chunks add nothing to a layer in which others are present.
    *partial++ = g == nullptr ? 0 : loops.sum_of_squares(g + range.first + done, static_cast<std::uint32_t>(count));
  }
}

/// Calls visit(sum) for each term of the call; sum(range) is sum_range() for the term. Term after term, so that each
/// gradient is read in long runs.
template <class Visit>
void for_sums(const Loops& loops, const Tables& tables, const Call& call, const Visit& visit) {
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    visit([&](const ChunkRange& range) { sum_range(loops, tables, call, term, range); });
  }
}

/// Steps 5 and 6 for a range of one tensor, term after term.
void moments_range(const Loops& loops, const Tables& tables, const Call& call, const ChunkRange& range) {
  const TensorRun run = tensor_run(tables, range);
  const MomentsLoop loop = loops.moments(loop_form(tables, run, false));
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    if (!takes_part(tables.terms[term].clocks[range.tensor], *tables.shared.step)) continue;
    const bool opens = tables.summed && tables.shared.opener[range.tensor] == term;
    loop(run, term_run(tables, &call, term, range), opens);
  }
}

/// Calls visit(term) for each term that takes part in a tensor's step.
template <class Visit>
void for_present(const Tables& tables, std::uint32_t tensor, const Visit& visit) {
  for (std::uint32_t term = 0; term < tables.term_count; ++term) {
    if (takes_part(tables.terms[term].clocks[tensor], *tables.shared.step)) visit(term);
  }
}

/// Steps 5 to 7 from the gradients of all terms, for a range of one tensor, where both moments are summed.
void adam_range(const Loops& loops, const Tables& tables, const Call& call, const ChunkRange& range, LoopForm form) {
  TermRun terms[kPassTerms];
  std::uint32_t count = 0;
  for_present(tables, range.tensor, [&](std::uint32_t term) {
    if (count < kPassTerms) terms[count] = term_run(tables, &call, term, range);
    count += 1;
  });
  if (count <= kPassTerms && !form.shortened && !form.skips) {
    loops.adam(count, form)(tensor_run(tables, range), terms);
    return;
  }
  alignas(64) float gathered[kTileElements];
  for (std::uint64_t done = 0; done < range.count; done += kTileElements) {
    const std::uint64_t elements = std::min<std::uint64_t>(kTileElements, range.count - done);
    const ChunkRange tile{range.tensor, range.first + done, elements};
    TensorRun run = tensor_run(tables, tile);
    run.gathered = gathered;
    bool opens = true;
    for_present(tables, range.tensor, [&](std::uint32_t term) {
      loops.moments(form)(run, term_run(tables, &call, term, tile), opens);
      opens = false;
    });
    loops.adam(0, form)(run, nullptr);
  }
}

/// Steps 5 to 7 (with a call) or step 7 alone (without) for a range of one tensor.
void update_range(const Loops& loops, const Tables& tables, const Call* call, const ChunkRange& range) {
  const std::uint64_t step = *tables.shared.step;
  if (tables.one_v) {
    if (!takes_part(tables.shared.clocks[range.tensor], step)) return;
    const TensorRun run = tensor_run(tables, range);
    const LoopForm form = loop_form(tables, run, true);
    call == nullptr ? loops.adam(0, form)(run, nullptr) : adam_range(loops, tables, *call, range, form);
    return;
  }
  const Presence presence = presence_of(tables, range.tensor, step);
  if (presence.present == 0) return;
  const TensorRun run = tensor_run(tables, range);
  const LoopForm form = loop_form(tables, run, presence.one_b);
  const bool skips = form.skips && call != nullptr;
  if (presence.count == presence.present && presence.count <= kFusedTerms && !form.shortened && !skips) {
    TermRun terms[kFusedTerms];
    for (std::uint32_t k = 0; k < presence.count; ++k) terms[k] = term_run(tables, call, presence.first[k], range);
    loops.fused(presence.count, call != nullptr, form)(run, terms);
    return;
  }
  for (std::uint64_t done = 0; done < range.count; done += kTileElements) {
    const std::uint64_t count = std::min<std::uint64_t>(kTileElements, range.count - done);
    update_tile(loops, tables, call, {range.tensor, range.first + done, count}, presence, step);
  }
}

}  // namespace

CpuDevice::CpuDevice(unsigned threads, const std::string& instruction_set)
    : set_(mtadam::instruction_set(instruction_set)), pool_(threads) {}

std::unique_ptr<Memory> CpuDevice::allocate(std::size_t bytes) { return heap_.allocate(bytes); }

void CpuDevice::write(void* to, const void* from, std::size_t bytes, Stream) {
  if (bytes != 0) std::memcpy(to, from, bytes);
}

void CpuDevice::read(void* to, const void* from, std::size_t bytes, Stream) {
  if (bytes != 0) std::memcpy(to, from, bytes);
}

void CpuDevice::fill(void* to, std::uint64_t pattern, std::size_t element, std::size_t bytes, Stream) {
  std::byte* const target = static_cast<std::byte*>(to);
  // Doubles the filled part: few, long copies for any element size.
  std::size_t filled = std::min(element, bytes);
  std::memcpy(target, &pattern, filled);
  while (filled < bytes) {
    const std::size_t more = std::min(filled, bytes - filled);
    std::memcpy(target + filled, target, more);
    filled += more;
  }
}

void CpuDevice::check_stream(Stream stream) const {
  if (stream != nullptr) throw Error("OPTION", "must be left out on the CPU, which has no streams.");
}

void CpuDevice::check_range(const void*, std::size_t) const {
  throw Error(
      "INVALID_POINTER",
      "must be a Float32Array or a buffer of the device; got an address, which nothing can vouch for on the CPU.");
}

std::unique_ptr<HostCopy> CpuDevice::read_later(const void* from, std::size_t bytes, Stream) {
  return std::make_unique<FinishedCopy>(static_cast<const std::byte*>(from), bytes);
}

std::unique_ptr<Event> CpuDevice::make_event() { return std::make_unique<PastEvent>(); }

std::unique_ptr<Graph> CpuDevice::capture(Stream, const std::function<void(Stream)>&) {
  throw Error("OPTION", "`captureStep` must be called on a CUDA device; got the CPU, which has no graphs.");
}

/// Runs body(first, last) noexcept over ranges that cover 0 .. count, in parallel if there are enough `elements`.
template <class Body>
void CpuDevice::for_blocks(std::uint64_t count, std::uint64_t elements, const Body& body) {
  if (elements <= kAloneElements) {
    pool_.run(1, [&](std::size_t) noexcept { body(0, count); });
    return;
  }
  const std::uint64_t block = block_of(count, pool_.threads());
  pool_.run((count + block - 1) / block, [&](std::size_t k) noexcept {
    const std::uint64_t first = k * block;
    body(first, std::min(count, first + block));
  });
}

void CpuDevice::norms(const Tables& tables, const Call& call, Stream) {
  for_blocks(tables.chunk_count, tables.element_count * call.count, [&](std::uint64_t first, std::uint64_t last) {
    for_sums(*set_.loops, tables, call, [&](const auto& sum) { for_tensors(tables, first, last, sum); });
  });
  // A layer's scalars cost about as much as the norm of a thousand elements.
  std::atomic<bool> good = true;
  for_blocks(tables.layer_count, std::uint64_t{1024} * tables.layer_count * call.count,
             [&](std::uint64_t first, std::uint64_t last) {
               for (std::uint64_t layer = first; layer < last; ++layer) {
                 if (!begin_layer(tables, call, static_cast<std::uint32_t>(layer), skipped_)) good = false;
               }
             });
  if (good && !tables.network) return;
  pool_.run(1, [&](std::size_t) noexcept {
    const bool skips_step = tables.non_finite == NonFinite::kSkipStep;
    if (good || !skips_step) {
      if (finish_network(tables, call, good)) return;
      skipped_ = true;
      if (!skips_step) return;
    }
    roll_back(tables);
  });
}

void CpuDevice::cosines(const Tables& tables, const Call& call, Stream) {
  const Loops& loops = *set_.loops;
  const auto multiply = [&](const ChunkRange& range) {
    // All pairs of a chunk while its gradients are in the cache.
    for (std::uint64_t done = 0; done < range.count; done += kChunkElements) {
      const std::uint64_t first = range.first + done;
      const std::uint64_t slot = tables.tensors[range.tensor].slot + first / kChunkElements;
      const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(kChunkElements, range.count - done));
      for (std::uint32_t later = 1; later < call.count; ++later) {
        const float* const b = gradient_of(tables, call, later, range.tensor);
        for (std::uint32_t earlier = 0; earlier < later; ++earlier) {
          const float* const a = gradient_of(tables, call, earlier, range.tensor);
          const bool both = a != nullptr && b != nullptr;
          dots_of(tables, earlier, later)[slot] = both ? loops.dot_product(a + first, b + first, count) : 0;
        }
      }
    }
  };
  for_blocks(tables.chunk_count, tables.element_count * call.count * call.count,
             [&](std::uint64_t first, std::uint64_t last) { for_tensors(tables, first, last, multiply); });
  const auto finish_layer = [&](std::uint32_t index) {
    const Layer& layer = tables.layers[index];
    for (std::uint32_t later = 0; later < call.count; ++later) {
      for (std::uint32_t earlier = 0; earlier <= later; ++earlier) {
        const double dot =
            earlier == later ? 0 : sum_of_chunks(dots_of(tables, earlier, later) + layer.slot, layer.slots);
        cosine_of(tables, earlier, later, index) = gradient_cosine(tables, earlier, later, index, dot);
      }
    }
  };
  for_blocks(tables.layer_count, std::uint64_t{1024} * tables.layer_count * call.count * call.count,
             [&](std::uint64_t first, std::uint64_t last) {
               for (std::uint64_t layer = first; layer < last; ++layer) finish_layer(static_cast<std::uint32_t>(layer));
             });
}

void CpuDevice::moments(const Tables& tables, const Call& call, Stream) {
  show_network(tables, call);
  const auto add = [&](const ChunkRange& range) { moments_range(*set_.loops, tables, call, range); };
  for_blocks(tables.chunk_count, tables.element_count * call.count,
             [&](std::uint64_t first, std::uint64_t last) { for_tensors(tables, first, last, add); });
}

void CpuDevice::update(const Tables& tables, Stream) { update_from(tables, nullptr); }

void CpuDevice::update(const Tables& tables, const Call& call, Stream) { update_from(tables, &call); }

void CpuDevice::update_from(const Tables& tables, const Call* call) {
  if (call != nullptr) show_network(tables, *call);
  const Loops& loops = *set_.loops;
  const auto update_of_range = [&](const ChunkRange& range) { update_range(loops, tables, call, range); };
  for_blocks(tables.chunk_count, tables.element_count * tables.term_count,
             [&](std::uint64_t first, std::uint64_t last) { for_tensors(tables, first, last, update_of_range); });
  *tables.shared.step += 1;
}

/// Computes the norms, and calls rest(range) for each range once its norms are known.
template <class Rest>
bool CpuDevice::in_one_pass(const Tables& tables, const Call& call, const Rest& rest) {
  // These need the norms of all layers, or another read of all gradients, before anything moves.
  if (tables.non_finite == NonFinite::kSkipStep || tables.cosines || tables.network) return false;
  const Loops& loops = *set_.loops;
  const std::uint64_t piece = (own_slots(call.count) + kTileSlots - 1) / kTileSlots * kTileSlots;
  const auto whole_layers = [&](std::uint32_t first, std::uint32_t count) {
    // All layers' norms, then all layers' elements, so that reading does not pause for each layer's scalars.
    const std::uint32_t end = first + count;
    for_sums(loops, tables, call, [&](const auto& sum) {
      for (std::uint32_t k = first; k < end; ++k) for_slots(tables, tables.layers[k], 0, tables.layers[k].slots, sum);
    });
    for (std::uint32_t k = first; k < end; ++k) begin_layer(tables, call, k, skipped_);
    // Layers forwards, as the prefetchers expect. In a layer that does not fit in a cache, tiles backwards: the tile
    // read last is the most likely to be cached.
    for (std::uint32_t k = first; k < end; ++k) {
      const Layer& layer = tables.layers[k];
      for (std::uint64_t last = layer.slots; last > 0;) {
        const std::uint64_t from = last - std::min(last, piece);
        for_slots(tables, layer, from, last, rest);
        last = from;
      }
    }
  };
  if (tables.element_count * call.count <= kAloneElements) {
    pool_.run(1, [&](std::size_t) noexcept { whole_layers(0, tables.layer_count); });
    return true;
  }
  const StepPlan plan = plan_step(tables, call.count, pool_.threads());
  // For each cut layer a stage of norms, then a stage of elements, also backwards. Whole layers come last: small tasks
  // let threads end at about the same time.
  std::vector<Stage> stages;
  for (const CutLayer& cut : plan.cut) {
    stages.push_back({cut.blocks});
    stages.push_back({cut.blocks, true});
  }
  stages.push_back({plan.whole.size()});
  // Per cut layer: how many blocks have their norms, and one more after begin_layer().
  std::vector<std::atomic<std::uint64_t>> done(plan.cut.size());
  pool_.run(stages, [&](std::size_t stage, std::size_t k) noexcept {
    if (stage / 2 == plan.cut.size()) {
      whole_layers(plan.whole[k].first, plan.whole[k].count);
      return;
    }
    const CutLayer& cut = plan.cut[stage / 2];
    const Layer& layer = tables.layers[cut.layer];
    const std::uint64_t first = k * cut.block;
    const std::uint64_t last = std::min(layer.slots, first + cut.block);
    std::atomic<std::uint64_t>& gate = done[stage / 2];
    if (stage % 2 == 0) {
      for_sums(loops, tables, call, [&](const auto& sum) { for_slots(tables, layer, first, last, sum); });
      if (gate.fetch_add(1) + 1 < cut.blocks) return;
      begin_layer(tables, call, cut.layer, skipped_);
      gate.store(cut.blocks + 1);
    } else {
      wait_until([&] { return gate.load() > cut.blocks; });
      for_slots(tables, layer, first, last, rest);
    }
  });
  return true;
}

bool CpuDevice::step_in_one_pass(const Tables& tables, const Call& call) {
  const auto rest = [&](const ChunkRange& range) { update_range(*set_.loops, tables, &call, range); };
  if (!in_one_pass(tables, call, rest)) return false;
  *tables.shared.step += 1;
  return true;
}

bool CpuDevice::accumulate_in_one_pass(const Tables& tables, const Call& call) {
  return in_one_pass(tables, call, [&](const ChunkRange& range) { moments_range(*set_.loops, tables, call, range); });
}

void CpuDevice::zero(const Tables& tables, const Call& call, Stream) {
  const auto zero_range = [&](const ChunkRange& range) {
    for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
      // The call's gradients are const, since all other calls only read them.
      float* const g = const_cast<float*>(gradient_of(tables, call, term, range.tensor));
      if (g != nullptr) std::memset(g + range.first, 0, range.count * sizeof(float));
    }
  };
  for_blocks(tables.chunk_count, tables.element_count * call.count,
             [&](std::uint64_t first, std::uint64_t last) { for_tensors(tables, first, last, zero_range); });
}

void CpuDevice::add(float* target, const float* source, std::uint64_t count, Stream) {
  const Loops& loops = *set_.loops;
  const std::uint64_t chunks = chunks_of(count);
  for_blocks(chunks, count, [&](std::uint64_t first, std::uint64_t last) {
    const std::uint64_t begin = first * kChunkElements;
    const std::uint64_t end = std::min(count, last * kChunkElements);
    loops.add(target + begin, source + begin, end - begin);
  });
}

}  // namespace mtadam
