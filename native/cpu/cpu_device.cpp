#include "cpu/cpu_device.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "cpu/backoff.h"
#include "cpu/blocks.h"
#include "cpu/chunk_range.h"
#include "cpu/elements.h"
#include "cpu/layers.h"
#include "cpu/step_plan.h"
#include "engine/errors.h"
#include "math/scalars.h"

namespace mtadam {
namespace {

constexpr std::uint64_t kTileSlots = kTileElements / kChunkElements;
static_assert(kTileElements % kChunkElements == 0);

// A layer's scalars cost about as much as the norm of so many elements.
constexpr std::uint64_t kLayerCost = 1024;

/// Slots of which a thread reads `terms` gradients twice from its caches, in whole tiles.
std::uint64_t piece_of(std::uint32_t terms) { return (own_slots(terms) + kTileSlots - 1) / kTileSlots * kTileSlots; }

// A step that visits fewer elements is over before a second thread has woken.
constexpr std::uint64_t kAloneElements = 32768;

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

/// Calls visit(sum) for each term of the call; sum(range) is sum_range() for the term. Term after term, so that each
/// gradient is read in long runs.
template <class Visit>
void for_sums(const Loops& loops, const Tables& tables, const Call& call, const Visit& visit) {
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    visit([&](const ChunkRange& range) { sum_range(loops, tables, call, term, range); });
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

/// Runs body(range) noexcept for ranges of the tensors that cover all elements; `terms`: how often each is visited.
template <class Body>
void CpuDevice::for_ranges(const Tables& tables, std::uint64_t terms, const Body& body) {
  for_blocks(tables.chunk_count, tables.element_count * terms,
             [&](std::uint64_t first, std::uint64_t last) { for_tensors(tables, first, last, body); });
}

/// Runs body(layer) noexcept for all layers; `cost` is that of one, in kLayerCost.
template <class Body>
void CpuDevice::for_layers(const Tables& tables, std::uint64_t cost, const Body& body) {
  for_blocks(tables.layer_count, kLayerCost * tables.layer_count * cost, [&](std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t layer = first; layer < last; ++layer) body(static_cast<std::uint32_t>(layer));
  });
}

void CpuDevice::norms(const Tables& tables, const Call& call, Stream) {
  for_blocks(tables.chunk_count, tables.element_count * call.count, [&](std::uint64_t first, std::uint64_t last) {
    for_sums(*set_.loops, tables, call, [&](const auto& sum) { for_tensors(tables, first, last, sum); });
  });
  std::atomic<bool> good = true;
  for_layers(tables, call.count, [&](std::uint32_t layer) {
    if (!begin_layer(tables, call, layer, skipped_)) good = false;
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
  const auto multiply = [&](const ChunkRange& chunk) {
    alignas(64) float wide_a[kChunkElements];
    alignas(64) float wide_b[kChunkElements];
    const std::uint64_t slot = tables.tensors[chunk.tensor].slot + chunk.first / kChunkElements;
    const auto count = static_cast<std::uint32_t>(chunk.count);
    for (std::uint32_t later = 1; later < call.count; ++later) {
      const float* const b = wide_gradient(loops, tables, call, later, chunk, wide_b);
      for (std::uint32_t earlier = 0; earlier < later; ++earlier) {
        const float* const a = wide_gradient(loops, tables, call, earlier, chunk, wide_a);
        dots_of(tables, earlier, later)[slot] = a != nullptr && b != nullptr ? loops.dot_product(a, b, count) : 0;
      }
    }
  };
  // All pairs of a chunk while its gradients are in the cache.
  for_ranges(tables, std::uint64_t{call.count} * call.count,
             [&](const ChunkRange& range) { for_parts(range, kChunkElements, multiply); });
  for_layers(tables, std::uint64_t{call.count} * call.count,
             [&](std::uint32_t layer) { finish_cosines(tables, call, layer); });
}

void CpuDevice::moments(const Tables& tables, const Call& call, Stream) {
  show_network(tables, call);
  for_ranges(tables, call.count, [&](const ChunkRange& range) { moments_range(*set_.loops, tables, call, range); });
}

void CpuDevice::update(const Tables& tables, Stream) {
  for_ranges(tables, tables.term_count, [&](const ChunkRange& range) { update_range(*set_.loops, tables, range); });
  *tables.shared.step += 1;
}

void CpuDevice::update(const Tables& tables, const Call& call, Stream) {
  show_network(tables, call);
  for_ranges(tables, tables.term_count,
             [&](const ChunkRange& range) { update_range(*set_.loops, tables, call, range); });
  *tables.shared.step += 1;
}

/// Lagged scales, with one read of each gradient but for the first of a term for a tensor: the norms are for the next
/// step. `step` takes steps 5 and 6 of a range, or steps 5 to 7; `step_and_sums` also adds up its squares.
void CpuDevice::in_one_read(const Tables& tables, const Call& call, RangeStep step, RangeStep step_and_sums) {
  const Loops& loops = *set_.loops;
  std::vector<char> waits(tables.layer_count);  // for its norms
  std::atomic<bool> any = false;
  for_layers(tables, call.count, [&](std::uint32_t layer) {
    if (begin_layer_ahead(tables, call, layer)) return;
    waits[layer] = 1;
    any = true;
  });
  const auto waits_at = [&](const ChunkRange& range) { return waits[tables.tensors[range.tensor].layer] != 0; };
  if (any) {
    for_ranges(tables, call.count, [&](const ChunkRange& range) {
      if (waits_at(range)) sum_all(loops, tables, call, range);
    });
    for_layers(tables, call.count, [&](std::uint32_t layer) {
      if (waits[layer] != 0) begin_layer(tables, call, layer, skipped_);
    });
  }
  const auto alone = [&](const auto& body) { pool_.run(1, [&](std::size_t) noexcept { body(); }); };
  if (tables.network) alone([&] { begin_network_ahead(tables, call); });
  const std::uint64_t piece = piece_of(call.count) * kChunkElements;
  for_ranges(tables, call.count, [&](const ChunkRange& range) {
    const RangeStep take = waits_at(range) ? step : step_and_sums;
    for_parts(range, piece, [&](const ChunkRange& part) { take(loops, tables, call, part); });
  });
  for_layers(tables, call.count, [&](std::uint32_t layer) {
    if (waits[layer] == 0) end_layer(tables, call, layer, skipped_);
  });
  if (tables.network) alone([&] { end_network(tables, call); });
  show_network(tables, call);
}

/// Computes the norms, and takes the rest of a range once its norms are known.
bool CpuDevice::in_one_pass(const Tables& tables, const Call& call, RangeStep step) {
  // These need the norms of all layers, or another read of all gradients, before anything moves.
  if (tables.non_finite == NonFinite::kSkipStep || tables.cosines || tables.network) return false;
  const Loops& loops = *set_.loops;
  const auto rest = [&](const ChunkRange& range) { step(loops, tables, call, range); };
  const std::uint64_t piece = piece_of(call.count);
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

bool CpuDevice::step_in_one_pass(const Tables& tables, const Call& call, const OnePass&) {
  if (tables.lagged && !tables.cosines) {
    in_one_read(tables, call, update_range, update_and_sums);
  } else if (!in_one_pass(tables, call, update_range)) {
    return false;
  }
  *tables.shared.step += 1;
  return true;
}

bool CpuDevice::accumulate_in_one_pass(const Tables& tables, const Call& call, const OnePass&) {
  if (!tables.lagged) return in_one_pass(tables, call, moments_range);
  in_one_read(tables, call, moments_range, moments_and_sums);
  return true;
}

void CpuDevice::zero(const Tables& tables, const Call& call, Stream) {
  const auto zero_range = [&](const ChunkRange& range) {
    for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
      // The call's gradients are const, since all other calls only read them.
      float* const g = const_cast<float*>(gradient_of(tables, call, term, range.tensor));
      if (g == nullptr) continue;
      const Tensor& tensor = tables.tensors[range.tensor];
      std::memset(const_cast<float*>(gradient_at(tensor, g, range.first)), 0,
                  range.count * element_bytes(tensor.gradient));
    }
  };
  for_ranges(tables, call.count, zero_range);
}

void CpuDevice::add(void* target, const void* source, std::uint64_t count, ElementType type, Stream) {
  const Loops& loops = *set_.loops;
  const std::uint64_t chunks = chunks_of(count);
  for_blocks(chunks, count, [&](std::uint64_t first, std::uint64_t last) {
    const std::uint64_t begin = first * kChunkElements;
    const std::uint64_t end = std::min(count, last * kChunkElements);
    if (type == ElementType::kFloat32) {
      loops.add(static_cast<float*>(target) + begin, static_cast<const float*>(source) + begin, end - begin);
    } else {
      loops.add_narrow(static_cast<std::uint16_t*>(target) + begin, static_cast<const std::uint16_t*>(source) + begin,
                       end - begin, type);
    }
  });
}

}  // namespace mtadam
