#include <algorithm>
#include <cstdio>
#include <numeric>

#include "test/ptx/machine.h"
#include "test/simt/access.h"

namespace ptx {

namespace {

// Registers and shared memory begin as this: a large negative number as a float, nobody's as an address.
constexpr std::uint64_t kRubbish = 0xcbcbcbcbcbcbcbcb;

}  // namespace

// ---- A thread ----

const Instruction& Thread::instruction() const { return block->kernel().code[pc - 1]; }

void Thread::fail(simt::Fault fault, const std::string& why) const {
  const Kernel& kernel = block->kernel();
  const std::string place = kernel.file + ":" + std::to_string(instruction().line);
  const uint3 own_block{block->index(), 0, 0}, own{index, 0, 0};
  throw simt::Error(
      fault, why + ", " + place + ", block " + std::to_string(block->index()) + ", thread " + std::to_string(index),
      kernel.file, instruction().line, own_block, own);
}

void Thread::fail(simt::Fault fault, const char* what, std::uint64_t address, std::size_t bytes,
                  const char* why) const {
  char text[160];
  std::snprintf(text, sizeof text, "%s of %zu bytes at 0x%llx: %s", what, bytes,
                static_cast<unsigned long long>(address), why);
  fail(fault, text);
}

// ---- A block ----

void Block::begin(const Launch& launch, unsigned index, std::uint64_t seed) {
  const Kernel& kernel = launch.kernel;
  kernel_ = &kernel;
  parameters_ = launch.parameters;
  index_ = index;
  order_ = launch.config.order;
  random_ = seed;
  left_ = launch.threads;
  round_ = 0;
  const std::size_t frame = kernel.frame_bytes / sizeof(std::uint64_t);
  frames_.assign(frame * launch.threads, kRubbish);
  shared_.assign(kernel.shared_bytes / sizeof(std::uint64_t) + 1, kRubbish);
  shared_bytes_.assign(kernel.shared_bytes, SharedByte{});
  for (const SharedVariable& variable : kernel.shared) {
    for (std::size_t k = 0; k < variable.bytes; ++k) shared_bytes_[variable.begin + k].exists = true;
  }
  threads_.assign(launch.threads, Thread{});
  turns_.resize(launch.threads);
  std::iota(turns_.begin(), turns_.end(), 0u);
  if (order_ == simt::Order::kDescending) std::reverse(turns_.begin(), turns_.end());
  for (std::uint32_t k = 0; k < launch.threads; ++k) {
    Thread& thread = threads_[k];
    thread.block = this;
    thread.index = k;
    thread.frame = reinterpret_cast<std::byte*>(frames_.data() + k * frame);
    thread.constants_end = reinterpret_cast<const std::byte*>(kernel.constants.data() + kernel.constants.size());
    const auto set = [&](Special special, std::uint32_t value) {
      thread.write(Operand{static_cast<std::int32_t>(special)}, value);
    };
    set(Special::kTidX, k);
    set(Special::kCtaidX, index);
    set(Special::kNtidX, launch.threads);
    set(Special::kNctaidX, launch.grid);
  }
}

void Block::run(Thread& thread) {
  const Instruction* const code = kernel_->code.data();
  thread.state = State::kRuns;
  do {
    const Instruction& instruction = code[thread.pc++];
    if (instruction.guarded && thread.read<bool>(instruction.guard) == instruction.negated) continue;
    instruction.run(thread, instruction);
  } while (thread.state == State::kRuns);
  if (thread.state == State::kEnded) --left_;
}

bool Block::turn() {
  if (order_ == simt::Order::kRandom) {
    for (std::size_t k = turns_.size(); k > 1; --k) std::swap(turns_[k - 1], turns_[draw(random_) % k]);
  }
  bool any = false;
  for (const std::uint32_t index : turns_) {
    Thread& thread = threads_[index];
    if (thread.state != State::kRuns && thread.state != State::kGivesWay) continue;
    run(thread);
    any = true;
  }
  if (left_ == 0) return false;
  const bool warps = release_warps(), barrier = release_barrier();
  if (!any && !warps && !barrier) fail_deadlock();
  return true;
}

bool Block::switches() { return order_ == simt::Order::kRandom && draw(random_) % 8 == 0; }

bool Block::release_barrier() {
  const Thread* first = nullptr;
  bool any = false;
  for (const Thread& thread : threads_) {
    if (thread.state != State::kAtBarrier) return false;
    if (first == nullptr) first = &thread;
    if (thread.reduces != first->reduces)
      thread.fail(simt::Fault::kBarrier, "threads meet at different kinds of barrier");
    any |= thread.predicate;
  }
  ++round_;
  for (Thread& thread : threads_) {
    if (thread.reduces) thread.write(thread.instruction().operands[0], any);
    thread.state = State::kRuns;
  }
  return true;
}

bool Block::release_warps() {
  bool any = false;
  for (std::size_t begin = 0; begin < threads_.size(); begin += kWarpLanes) {
    const std::size_t count = std::min<std::size_t>(kWarpLanes, threads_.size() - begin);
    const std::span<Thread> lanes = std::span(threads_).subspan(begin, count);
    for (Thread& thread : lanes) {
      if (thread.state == State::kAtWarp) any |= meet(lanes, thread);
    }
  }
  return any;
}

/// The lanes of the mask of one that waits; false where some have yet to come.
bool Block::meet(std::span<Thread> lanes, Thread& first) {
  std::array<Thread*, kWarpLanes> met{};
  for (std::uint32_t lane = 0; lane < kWarpLanes; ++lane) {
    if ((first.mask >> lane & 1) == 0) continue;
    if (lane >= lanes.size()) first.fail(simt::Fault::kWarp, "the mask has a lane that the warp does not have");
    Thread& thread = lanes[lane];
    if (thread.state == State::kEnded || thread.state == State::kAtBarrier) {
      first.fail(simt::Fault::kWarp, "a lane in the mask of a warp operation has ended or waits at a barrier");
    }
    if (thread.state != State::kAtWarp) return false;
    if (thread.pc != first.pc || thread.mask != first.mask) {
      thread.fail(simt::Fault::kWarp, "the lanes of a mask are at different warp operations");
    }
    met[lane] = &thread;
  }
  for (Thread* const thread : met) {
    if (thread != nullptr) thread->answer(met, *thread);
  }
  for (Thread* const thread : met) {
    if (thread != nullptr) thread->state = State::kRuns;
  }
  return true;
}

void Block::fail_deadlock() const {
  const auto waits = std::find_if(threads_.begin(), threads_.end(), [](const Thread& thread) {
    return thread.state == State::kAtBarrier || thread.state == State::kAtWarp;
  });
  waits->fail(waits->state == State::kAtBarrier ? simt::Fault::kBarrier : simt::Fault::kDeadlock,
              "not all threads come to where this one waits");
}

// ---- Memory ----

std::byte* Block::shared(const Thread& thread, std::uint64_t address, std::size_t bytes, bool read, bool write) {
  const char* const what = write ? "write" : "read";
  if (address % bytes != 0) thread.fail(simt::Fault::kAlignment, what, address, bytes, "misaligned in shared memory");
  if (address > shared_bytes_.size() || bytes > shared_bytes_.size() - address) {
    thread.fail(simt::Fault::kAddress, what, address, bytes, "outside the arrays of shared memory");
  }
  const std::uint32_t warp = 1u << thread.index / kWarpLanes;
  for (std::uint64_t k = address; k < address + bytes; ++k) {
    SharedByte& byte = shared_bytes_[k];
    if (!byte.exists) thread.fail(simt::Fault::kAddress, what, address, bytes, "outside the arrays of shared memory");
    if (read && !byte.written) {
      thread.fail(simt::Fault::kUninitialised, what, address, bytes, "no thread has written to this shared memory");
    }
    if (byte.round != round_) byte = {.exists = true, .written = byte.written, .round = round_};
    // The lanes of a warp are not watched: what orders them may be a shuffle.
    const std::uint32_t others = byte.writers | (write ? byte.readers : 0);
    if ((others & ~warp) != 0) {
      thread.fail(simt::Fault::kBarrier, what, address, bytes, "no barrier since another warp's access");
    }
    (write ? byte.writers : byte.readers) |= warp;
    byte.written |= write;
  }
  return reinterpret_cast<std::byte*>(shared_.data()) + address;
}

const std::byte* Block::parameter(const Thread& thread, std::uint64_t address, std::size_t bytes) const {
  if (address % bytes != 0 || address > parameters_.size() || bytes > parameters_.size() - address) {
    thread.fail(simt::Fault::kAddress, "read", address, bytes, "misaligned or outside the parameters");
  }
  return parameters_.data() + address;
}

std::byte* Block::global(const Thread& thread, std::uint64_t address, std::size_t bytes, bool read, bool write) {
  const char* const what = write ? "write" : "read";
  if (address % bytes != 0) thread.fail(simt::Fault::kAlignment, what, address, bytes, "misaligned");
  auto* const memory = reinterpret_cast<std::byte*>(address);
  if (const char* const why = simt::access::refusal(memory, bytes, read, write)) {
    thread.fail(simt::Fault::kAddress, what, address, bytes, why);
  }
  return memory;
}

}  // namespace ptx
