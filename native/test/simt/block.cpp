#include "test/simt/block.h"

#include <bit>
#include <cstring>

namespace simt {

namespace {

bool same_place(const Where& one, const Where& other) {
  if (one.line() != other.line()) return false;
  return one.file_name() == other.file_name() || std::strcmp(one.file_name(), other.file_name()) == 0;
}

unsigned bit_of(const Fiber& fiber) { return 1u << fiber.lane; }

}  // namespace

Block::Block(BlockHost& host, uint3 id, dim3 block_size, dim3 grid_size)
    : host_(host),
      threads_(static_cast<std::size_t>(block_size.x) * block_size.y * block_size.z),
      warps_((threads_.size() + kWarpLanes - 1) / kWarpLanes),
      live_(static_cast<unsigned>(threads_.size())) {
  for (unsigned k = 0; k < live_; ++k) {
    Fiber& fiber = threads_[k];
    fiber.index = {k % block_size.x, k / block_size.x % block_size.y, k / block_size.x / block_size.y};
    fiber.block = id;
    fiber.block_size = block_size;
    fiber.grid_size = grid_size;
    fiber.lane = k % kWarpLanes;
    fiber.warp = k / kWarpLanes;
    fiber.home = this;
    warp(fiber).present |= bit_of(fiber);
  }
}

// ---- Barriers ----

void Block::arrive_at_barrier(Fiber& fiber, machine::Barrier kind, bool predicate) {
  fiber.operation = static_cast<int>(kind);
  fiber.predicate = predicate;
  fiber.state = Fiber::State::kAtBarrier;
  warp(fiber).at_barrier |= bit_of(fiber);
  fail_waiting(fiber, "a lane in the mask of a warp operation waits at a barrier");
  if (++at_barrier_ == live_) complete_barrier();
}

void Block::complete_barrier() {
  const Fiber* first = nullptr;
  unsigned holding = 0;
  for (const Fiber& fiber : threads_) {
    if (fiber.state != Fiber::State::kAtBarrier) continue;
    if (!first) first = &fiber;
    if (!same_place(fiber.where, first->where) || fiber.operation != first->operation) {
      return host_.fail(Fault::kBarrier, "threads of one block wait at different barriers", first, &fiber);
    }
    holding += fiber.predicate;
  }
  for (const Fiber& fiber : threads_) {
    if (fiber.state == Fiber::State::kExited) {
      return host_.fail(Fault::kBarrier, "barrier after threads of the block have exited", first, &fiber);
    }
  }

  unsigned result = 0;
  switch (static_cast<machine::Barrier>(first->operation)) {
    case machine::Barrier::kPlain:
      break;
    case machine::Barrier::kCount:
      result = holding;
      break;
    case machine::Barrier::kAnd:
      result = holding == at_barrier_;
      break;
    case machine::Barrier::kOr:
      result = holding > 0;
      break;
  }
  for (Fiber& fiber : threads_) {
    fiber.value = result;
    fiber.state = Fiber::State::kReady;
    host_.make_ready(fiber);
  }
  for (Warp& each : warps_) each.at_barrier = 0;
  at_barrier_ = 0;
}

// ---- Warp operations ----

void Block::arrive_at_warp(Fiber& fiber, WarpOperation operation) {
  Warp& own = warp(fiber);
  fiber.operation = static_cast<int>(operation);
  fiber.state = Fiber::State::kAtWarp;
  if ((fiber.mask & bit_of(fiber)) == 0) {
    return host_.fail(Fault::kWarp, "the calling lane is not in the mask of its warp operation", &fiber, nullptr);
  }
  if ((fiber.mask & ~own.present) != 0) {
    return host_.fail(Fault::kWarp, "the mask of a warp operation names lanes that the block does not have", &fiber,
                      nullptr);
  }
  const auto first = [&](unsigned lanes) { return &lane(fiber, static_cast<unsigned>(std::countr_zero(lanes))); };
  if (const unsigned exited = fiber.mask & own.exited) {
    return host_.fail(Fault::kWarp, "a lane in the mask of a warp operation has exited", &fiber, first(exited));
  }
  if (const unsigned elsewhere = fiber.mask & own.at_barrier) {
    return host_.fail(Fault::kWarp, "a lane in the mask of a warp operation waits at a barrier", &fiber,
                      first(elsewhere));
  }
  // Comparing with one that waits is enough: those have been compared with each other.
  if (const unsigned waiting = fiber.mask & own.at_operation) {
    const Fiber* other = first(waiting);
    if (other->operation != fiber.operation || other->mask != fiber.mask || !same_place(other->where, fiber.where)) {
      return host_.fail(Fault::kWarp, "lanes of one mask are at different warp operations", &fiber, other);
    }
  }
  own.at_operation |= bit_of(fiber);
  if ((own.at_operation & fiber.mask) == fiber.mask) complete_warp(fiber, operation);
}

void Block::complete_warp(Fiber& fiber, WarpOperation operation) {
  std::uint64_t results[kWarpLanes] = {};
  std::uint64_t ballot = 0;
  for (unsigned k = 0; k < kWarpLanes; ++k) {
    if (fiber.mask >> k & 1) ballot |= std::uint64_t{lane(fiber, k).predicate} << k;
  }
  for (unsigned k = 0; k < kWarpLanes; ++k) {
    if (!(fiber.mask >> k & 1)) continue;
    const Fiber& reader = lane(fiber, k);
    if (operation != WarpOperation::kShuffle) {
      results[k] = ballot;
    } else if (fiber.mask >> reader.source_lane & 1) {
      results[k] = lane(fiber, reader.source_lane).value;
    } else {
      return host_.fail(Fault::kWarp, "a shuffle reads a lane outside its mask", &reader, nullptr);
    }
  }
  warp(fiber).at_operation &= ~fiber.mask;
  const unsigned mask = fiber.mask;
  for (unsigned k = 0; k < kWarpLanes; ++k) {
    if (!(mask >> k & 1)) continue;
    Fiber& member = lane(fiber, k);
    member.value = results[k];
    member.state = Fiber::State::kReady;
    host_.make_ready(member);
  }
}

void Block::fail_waiting(const Fiber& fiber, const char* text) {
  for (unsigned waiting = warp(fiber).at_operation; waiting != 0; waiting &= waiting - 1) {
    const Fiber& other = lane(fiber, static_cast<unsigned>(std::countr_zero(waiting)));
    if (other.mask & bit_of(fiber)) return host_.fail(Fault::kWarp, text, &other, &fiber);
  }
}

// ---- The end of a thread ----

void Block::leave(Fiber& fiber) {
  fiber.state = Fiber::State::kExited;
  warp(fiber).exited |= bit_of(fiber);
  --live_;
  fail_waiting(fiber, "a lane in the mask of a warp operation has exited");
  if (live_ > 0 && at_barrier_ == live_) complete_barrier();
}

}  // namespace simt
