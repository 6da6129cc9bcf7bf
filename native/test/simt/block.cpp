#include "test/simt/block.h"

#include <cstring>

namespace simt {

namespace {

bool same_place(const Where& one, const Where& other) {
  return one.line() == other.line() && std::strcmp(one.file_name(), other.file_name()) == 0;
}

}  // namespace

Block::Block(BlockHost& host, uint3 id, dim3 block_size, dim3 grid_size)
    : host_(host),
      threads_(static_cast<std::size_t>(block_size.x) * block_size.y * block_size.z),
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
  }
}

Fiber* Block::lane(const Fiber& of_warp, unsigned lane) {
  const std::size_t index = std::size_t{of_warp.warp} * kWarpLanes + lane;
  return index < threads_.size() ? &threads_[index] : nullptr;
}

// ---- Barriers ----

void Block::arrive_at_barrier(Fiber& fiber, machine::Barrier kind, bool predicate) {
  fiber.operation = static_cast<int>(kind);
  fiber.predicate = predicate;
  fiber.state = Fiber::State::kAtBarrier;
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
  at_barrier_ = 0;
}

// ---- Warp operations ----

void Block::arrive_at_warp(Fiber& fiber, WarpOperation operation) {
  fiber.operation = static_cast<int>(operation);
  fiber.state = Fiber::State::kAtWarp;
  if (!(fiber.mask >> fiber.lane & 1)) {
    return host_.fail(Fault::kWarp, "the calling lane is not in the mask of its warp operation", &fiber, nullptr);
  }
  bool all = true;
  for (unsigned k = 0; k < kWarpLanes; ++k) {
    if (!(fiber.mask >> k & 1)) continue;
    const Fiber* other = lane(fiber, k);
    if (!other) {
      return host_.fail(Fault::kWarp, "the mask of a warp operation names lanes that the block does not have", &fiber,
                        nullptr);
    }
    switch (other->state) {
      case Fiber::State::kReady:
        all = false;
        break;
      case Fiber::State::kExited:
        return host_.fail(Fault::kWarp, "a lane in the mask of a warp operation has exited", &fiber, other);
      case Fiber::State::kAtBarrier:
        return host_.fail(Fault::kWarp, "a lane in the mask of a warp operation waits at a barrier", &fiber, other);
      case Fiber::State::kAtWarp:
        if (other->operation != fiber.operation || other->mask != fiber.mask ||
            !same_place(other->where, fiber.where)) {
          return host_.fail(Fault::kWarp, "lanes of one mask are at different warp operations", &fiber, other);
        }
        break;
    }
  }
  if (all) complete_warp(fiber, operation);
}

void Block::complete_warp(Fiber& fiber, WarpOperation operation) {
  std::uint64_t results[kWarpLanes] = {};
  std::uint64_t ballot = 0;
  for (unsigned k = 0; k < kWarpLanes; ++k) {
    if (fiber.mask >> k & 1) ballot |= std::uint64_t{lane(fiber, k)->predicate} << k;
  }
  for (unsigned k = 0; k < kWarpLanes; ++k) {
    if (!(fiber.mask >> k & 1)) continue;
    const Fiber& reader = *lane(fiber, k);
    if (operation != WarpOperation::kShuffle) {
      results[k] = ballot;
    } else if (fiber.mask >> reader.source_lane & 1) {
      results[k] = lane(fiber, reader.source_lane)->value;
    } else {
      return host_.fail(Fault::kWarp, "a shuffle reads a lane outside its mask", &reader, nullptr);
    }
  }
  for (unsigned k = 0; k < kWarpLanes; ++k) {
    if (!(fiber.mask >> k & 1)) continue;
    Fiber& member = *lane(fiber, k);
    member.value = results[k];
    member.state = Fiber::State::kReady;
    host_.make_ready(member);
  }
}

// ---- The end of a thread ----

void Block::leave(Fiber& fiber) {
  fiber.state = Fiber::State::kExited;
  --live_;
  if (live_ > 0 && at_barrier_ == live_) complete_barrier();
  for (unsigned k = 0; k < kWarpLanes; ++k) {
    const Fiber* other = lane(fiber, k);
    if (other && other->state == Fiber::State::kAtWarp && (other->mask >> fiber.lane & 1)) {
      return host_.fail(Fault::kWarp, "a lane in the mask of a warp operation has exited", other, &fiber);
    }
  }
}

}  // namespace simt
