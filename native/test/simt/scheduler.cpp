#include "test/simt/scheduler.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>

#include "test/simt/context.h"
#include "test/simt/sanitizers.h"
#include "test/simt/symbols.h"

namespace simt {

namespace {

constinit thread_local Scheduler* active_scheduler = nullptr;

StackPool& stack_pool() {
  thread_local StackPool pool;
  return pool;
}

std::string place(const Fiber& fiber, const std::string& file, unsigned line) {
  char text[512];
  const char* last = fiber.state == Fiber::State::kExited ? "exited, last " : "";
  std::snprintf(text, sizeof text, "; block (%u,%u,%u) thread (%u,%u,%u) %sat %s:%u", fiber.block.x, fiber.block.y,
                fiber.block.z, fiber.index.x, fiber.index.y, fiber.index.z, last, file.c_str(), line);
  return text;
}

}  // namespace

Scheduler* Scheduler::active() { return active_scheduler; }

Scheduler::Scheduler(dim3 grid, dim3 block, const BoundKernel& kernel, const Config& config, std::uint64_t seed)
    : grid_(grid), block_(block), kernel_(kernel), config_(config), random_state_(seed * 0x9e3779b97f4a7c15u | 1) {}

Scheduler::~Scheduler() = default;

std::uint64_t Scheduler::random() {
  random_state_ ^= random_state_ << 13;
  random_state_ ^= random_state_ >> 7;
  random_state_ ^= random_state_ << 17;
  return random_state_;
}

// ---- A launch, on the host thread's stack ----

void Scheduler::run() {
  if (current_thread) throw Error(Fault::kLaunch, "a kernel launches a kernel");
  // The host's earlier accesses are visible to the kernel; those of the scheduler are ignored.
  release_order(&launch_order_);
  if (__tsan_get_current_fiber) host_tsan_fiber_ = __tsan_get_current_fiber();
  {
    const Unwatched unwatched;
    Scheduler* const outer = active_scheduler;
    active_scheduler = this;
    schedule();
    active_scheduler = outer;
    if (failure_.happened) {
      const Error thrown = error();
      abandon();
      acquire_order(&end_order_);
      throw thrown;
    }
  }
  acquire_order(&end_order_);
}

void Scheduler::schedule() {
  order_blocks();
  const std::size_t threads = std::size_t{block_.x} * block_.y * block_.z;
  ready_.reserve(threads * std::min<std::size_t>(block_order_.size(), config_.resident_blocks));
  while (!failure_.happened) {
    start_blocks();
    if (resident_.empty()) return;
    if (ready_.size() == 0) return report_deadlock();

    Fiber& fiber = choose();
    const std::uint64_t spins = spins_;
    const std::uint64_t changes = changes_;
    resume(fiber);
    if (failure_.happened) return;
    if (fiber.state == Fiber::State::kExited) {
      finish(fiber);
      idle_turns_ = 0;
    } else {
      const bool spun = fiber.state == Fiber::State::kReady && spins_ != spins;
      watch_for_livelock(fiber, spun && changes_ == changes);
    }
  }
}

void Scheduler::order_blocks() {
  block_order_.resize(std::size_t{grid_.x} * grid_.y * grid_.z);
  for (std::size_t k = 0; k < block_order_.size(); ++k) block_order_[k] = k;
  if (config_.order == Order::kDescending) std::reverse(block_order_.begin(), block_order_.end());
  if (config_.order == Order::kRandom) {
    for (std::size_t k = block_order_.size(); k > 1; --k) std::swap(block_order_[k - 1], block_order_[random() % k]);
  }
}

void Scheduler::start_blocks() {
  while (next_block_ < block_order_.size() && resident_.size() < config_.resident_blocks) {
    start_block(block_order_[next_block_++]);
  }
}

void Scheduler::start_block(std::size_t number) {
  const uint3 id{static_cast<unsigned>(number % grid_.x), static_cast<unsigned>(number / grid_.x % grid_.y),
                 static_cast<unsigned>(number / grid_.x / grid_.y)};
  resident_.push_back(std::make_unique<Block>(*this, id, block_, grid_));
  std::vector<Fiber>& threads = resident_.back()->threads();
  stats_.threads += threads.size();
  for (Fiber& fiber : threads) {
    fiber.stack = stack_pool().take(random());
    fiber.stack_pointer = prepare_context(fiber.stack->top(), fiber_main);
  }
  if (config_.order == Order::kDescending) {
    for (std::size_t k = threads.size(); k-- > 0;) make_ready(threads[k]);
  } else {
    for (Fiber& fiber : threads) make_ready(fiber);
  }
}

Fiber& Scheduler::choose() {
  // Of the high half of a draw, the share that the queue is of all numbers: cheaper than a remainder.
  if (config_.order == Order::kRandom) ready_.bring_forward((random() >> 32) * ready_.size() >> 32);
  return *ready_.pop();
}

void Scheduler::resume(Fiber& fiber) {
  ++stats_.switches;
  current_thread = &fiber;
  if (__sanitizer_start_switch_fiber) {
    __sanitizer_start_switch_fiber(&host_fake_stack_, fiber.stack->bottom(), kStackBytes);
  }
  switch_tsan_fiber(fiber.stack->tsan_fiber());
  simt_switch_context(&host_stack_pointer_, fiber.stack_pointer);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(host_fake_stack_, nullptr, nullptr);
  current_thread = nullptr;
}

void Scheduler::watch_for_livelock(const Fiber& fiber, bool idle) {
  if (!idle) {
    idle_turns_ = 0;
    return;
  }
  // Long enough for each to have seen every change by the others many times.
  constexpr std::uint64_t kTurnsPerThread = 64;
  constexpr std::uint64_t kTurns = 4096;
  if (++idle_turns_ > kTurns + kTurnsPerThread * ready_.size()) {
    fail(Fault::kLivelock, "livelock: every thread that can run spins, and nothing changes", &fiber, nullptr);
  }
}

void Scheduler::finish(Fiber& fiber) {
  stack_pool().give_back(fiber.stack);
  fiber.stack = nullptr;
  Block& block = *fiber.home;
  block.leave(fiber);
  if (block.live() == 0) retire(block);
}

void Scheduler::retire(Block& block) {
  if (const SharedMemory::Array* array = block.shared().overrun()) {
    char text[400];
    std::snprintf(text, sizeof text, "a shared array of %zu bytes, declared at %s:%u, was written outside its bounds",
                  array->bytes, array->where.file_name(), static_cast<unsigned>(array->where.line()));
    fail(Fault::kSharedMemory, text, &block.threads().front(), nullptr);
    return;
  }
  const auto found = std::find_if(resident_.begin(), resident_.end(), [&](auto& each) { return each.get() == &block; });
  std::swap(*found, resident_.back());
  resident_.pop_back();
}

void Scheduler::report_deadlock() {
  const Fiber* one = nullptr;
  const Fiber* other = nullptr;
  for (const auto& block : resident_) {
    for (const Fiber& fiber : block->threads()) {
      if (fiber.state == Fiber::State::kExited) continue;
      if (!one) {
        one = &fiber;
      } else if (fiber.state != one->state || fiber.where.line() != one->where.line()) {
        other = &fiber;
      }
    }
  }
  fail(Fault::kDeadlock, "deadlock: every thread waits", one, other);
}

void Scheduler::abandon() {
  for (const auto& block : resident_) {
    for (const Fiber& fiber : block->threads()) {
      if (!fiber.stack) continue;
      // It will never end, but its accesses come before the host's next ones.
      switch_tsan_fiber(fiber.stack->tsan_fiber());
      release_order(&end_order_);
      switch_tsan_fiber(host_tsan_fiber_);
      delete fiber.stack;
    }
  }
  resident_.clear();
}

Error Scheduler::error() const {
  std::string text = failure_.text;
  const Fiber* one = failure_.one;
  if (!one) return Error(failure_.fault, text);
  std::string file = one->where.file_name();
  unsigned line = static_cast<unsigned>(one->where.line());
  if (failure_.code) {
    const SourcePlace known = source_place(failure_.code);
    text += " in " + function_name(failure_.code);
    if (!known.file.empty()) {
      file = known.file;
      line = known.line;
    }
  }
  text += place(*one, file, line);
  if (const Fiber* other = failure_.other) {
    text += place(*other, other->where.file_name(), static_cast<unsigned>(other->where.line()));
  }
  return Error(failure_.fault, text, file, line, one->block, one->index);
}

void Scheduler::fail(Fault fault, const char* text, const Fiber* one, const Fiber* other) {
  if (failure_.happened) return;
  const Unwatched unwatched;
  failure_.happened = true;
  failure_.fault = fault;
  std::snprintf(failure_.text, sizeof failure_.text, "%s", text);
  failure_.one = one;
  failure_.other = other;
}

// ---- On fibers ----

void Scheduler::fiber_main() {
  active_scheduler->run_thread();
  __builtin_unreachable();
}

void Scheduler::run_thread() {
  if (__sanitizer_finish_switch_fiber) {
    __sanitizer_finish_switch_fiber(nullptr, &host_stack_bottom_, &host_stack_bytes_);
  }
  acquire_order(&launch_order_);
  Fiber& fiber = self();
  try {
    kernel_.call(kernel_.closure);
  } catch (const std::exception& exception) {
    fail(Fault::kException, exception.what(), &fiber, nullptr);
  } catch (...) {
    fail(Fault::kException, "an exception left the kernel", &fiber, nullptr);
  }
  release_order(&end_order_);
  fiber.state = Fiber::State::kExited;
  // No fake stack to come back to.
  if (__sanitizer_start_switch_fiber) {
    __sanitizer_start_switch_fiber(nullptr, host_stack_bottom_, host_stack_bytes_);
  }
  switch_tsan_fiber(host_tsan_fiber_);
  simt_switch_context(&fiber.stack_pointer, host_stack_pointer_);
}

void Scheduler::wait() {
  Fiber& fiber = self();
  if (__sanitizer_start_switch_fiber) {
    __sanitizer_start_switch_fiber(&fiber.asan_fake_stack, host_stack_bottom_, host_stack_bytes_);
  }
  switch_tsan_fiber(host_tsan_fiber_);
  simt_switch_context(&fiber.stack_pointer, host_stack_pointer_);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(fiber.asan_fake_stack, nullptr, nullptr);
}

void Scheduler::give_way(Fiber& fiber) {
  make_ready(fiber);
  wait();
}

void Scheduler::preempt(Fiber& fiber) {
  constexpr std::uint64_t kOneIn = 4;
  if (config_.order == Order::kRandom && random() % kOneIn == 0) give_way(fiber);
}

void Scheduler::fail_here(Fault fault, const char* text, const void* code) {
  fail(fault, text, &self(), nullptr);
  failure_.code = code;
  wait();
  __builtin_unreachable();  // the launch is over once the scheduler sees the failure
}

}  // namespace simt
