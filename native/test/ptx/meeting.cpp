#include <algorithm>

#include "test/ptx/opcodes.h"

// Barriers, shuffles and votes: a thread arrives, waits for the others, and goes on with the result. Its operands are
// read when it arrives; its registers are written when all have arrived.

namespace ptx {

namespace {

// ---- Barriers ----

template <bool kReduces>
void arrive(Thread& thread, const Instruction& self) {
  thread.reduces = kReduces;
  thread.predicate = kReduces && thread.read<bool>(self.operands[1]);
  thread.state = State::kAtBarrier;
}

bool decode_barrier(Names& names, const Statement& statement, Instruction& instruction) {
  const std::vector<std::string>& operands = statement.operands;
  if (statement.opcode == "bar.sync") {
    if (operands.size() != 1 || operands[0] != "0") names.refuse(statement, "only barrier 0 of all threads is known");
    instruction.run = &arrive<false>;
    return true;
  }
  if (statement.opcode == "bar.red.or.pred") {
    if (operands.size() != 3 || operands[1] != "0") names.refuse(statement, "only barrier 0 of all threads is known");
    instruction.operands[0] = names.destination(statement, operands[0], kind_of<bool>());
    instruction.operands[1] = names.source(statement, operands[2], kind_of<bool>());
    instruction.run = &arrive<true>;
    return true;
  }
  return false;
}

// ---- Shuffles ----

enum class Shuffle { kDown, kUp, kIndex, kButterfly };

/// The lane that a lane reads from, as in the manual, and whether it is in range.
template <Shuffle kShuffle>
std::pair<std::uint32_t, bool> source_lane(std::uint32_t lane, std::uint32_t b, std::uint32_t c) {
  const std::uint32_t segment = c >> 8 & 31, clamp = c & 31;
  const std::uint32_t last = (lane & segment) | (clamp & ~segment & 31), first = lane & segment;
  b &= 31;
  if constexpr (kShuffle == Shuffle::kDown) return {lane + b, lane + b <= last};
  if constexpr (kShuffle == Shuffle::kButterfly) return {lane ^ b, (lane ^ b) <= last};
  if constexpr (kShuffle == Shuffle::kIndex) {
    const std::uint32_t source = first | (b & ~segment);
    return {source, source <= last};
  }
  return {lane - b, static_cast<std::int32_t>(lane - b) >= static_cast<std::int32_t>(last)};
}

template <Shuffle kShuffle>
void shuffle_answer(std::span<Thread* const> lanes, Thread& self) {
  const std::uint32_t lane = self.index % kWarpLanes;
  const auto [source, in_range] = source_lane<kShuffle>(lane, self.given[1], self.given[2]);
  const Thread* const from = lanes[in_range ? source : lane];
  if (from == nullptr) self.fail(simt::Fault::kWarp, "a lane reads from a lane outside the mask");
  const Instruction& instruction = self.instruction();
  self.write(instruction.operands[0], from->given[0]);
  if (instruction.count == 2) self.write(instruction.operands[1], in_range);
}

void come(Thread& thread, Operand mask, Answer answer) {
  thread.mask = thread.read<std::uint32_t>(mask);
  if ((thread.mask >> thread.index % kWarpLanes & 1) == 0) {
    thread.fail(simt::Fault::kWarp, "the mask is without the lane itself");
  }
  thread.answer = answer;
  thread.state = State::kAtWarp;
}

template <Shuffle kShuffle>
void shuffle(Thread& thread, const Instruction& self) {
  for (std::size_t k = 0; k < 3; ++k) thread.given[k] = thread.read<std::uint32_t>(self.operands[2 + k]);
  come(thread, self.operands[5], &shuffle_answer<kShuffle>);
}

bool decode_shuffle(Names& names, const Statement& statement, Instruction& instruction) {
  const std::string& opcode = statement.opcode;
  instruction.run = opcode == "shfl.sync.down.b32"   ? &shuffle<Shuffle::kDown>
                    : opcode == "shfl.sync.up.b32"   ? &shuffle<Shuffle::kUp>
                    : opcode == "shfl.sync.idx.b32"  ? &shuffle<Shuffle::kIndex>
                    : opcode == "shfl.sync.bfly.b32" ? &shuffle<Shuffle::kButterfly>
                                                     : nullptr;
  if (instruction.run == nullptr) return false;
  if (statement.operands.size() != 5) names.refuse(statement, "five operands are due");
  const std::vector<std::string> to = split(statement.operands[0], '|');
  instruction.count = static_cast<std::uint8_t>(to.size());
  if (to.size() > 2) names.refuse(statement, "two destinations at most are known");
  instruction.operands[0] = names.destination(statement, to[0], kind_of<std::uint32_t>());
  if (to.size() == 2) instruction.operands[1] = names.destination(statement, to[1], kind_of<bool>());
  for (std::size_t k = 1; k < 5; ++k) {
    instruction.operands[k + 1] = names.source(statement, statement.operands[k], kind_of<std::uint32_t>());
  }
  return true;
}

// ---- Votes ----

template <bool kBallot>
void vote_answer(std::span<Thread* const> lanes, Thread& self) {
  std::uint32_t ballot = 0;
  for (std::uint32_t lane = 0; lane < lanes.size(); ++lane) {
    if (lanes[lane] != nullptr && lanes[lane]->predicate) ballot |= 1u << lane;
  }
  const Operand to = self.instruction().operands[0];
  if constexpr (kBallot) {
    self.write(to, ballot);
  } else {
    self.write(to, ballot != 0);
  }
}

template <bool kBallot>
void vote(Thread& thread, const Instruction& self) {
  thread.predicate = thread.read<bool>(self.operands[1]);
  come(thread, self.operands[2], &vote_answer<kBallot>);
}

bool decode_vote(Names& names, const Statement& statement, Instruction& instruction) {
  const bool ballot = statement.opcode == "vote.sync.ballot.b32";
  if (!ballot && statement.opcode != "vote.sync.any.pred") return false;
  if (statement.operands.size() != 3) names.refuse(statement, "three operands are due");
  instruction.run = ballot ? &vote<true> : &vote<false>;
  const Kind result = ballot ? kind_of<std::uint32_t>() : kind_of<bool>();
  instruction.operands[0] = names.destination(statement, statement.operands[0], result);
  instruction.operands[1] = names.source(statement, statement.operands[1], kind_of<bool>());
  instruction.operands[2] = names.source(statement, statement.operands[2], kind_of<std::uint32_t>());
  return true;
}

// ---- The barrier of a warp ----

void no_answer(std::span<Thread* const>, Thread&) {}

void arrive_in_warp(Thread& thread, const Instruction& self) { come(thread, self.operands[0], &no_answer); }

bool decode_warp_barrier(Names& names, const Statement& statement, Instruction& instruction) {
  if (statement.opcode != "bar.warp.sync") return false;
  if (statement.operands.size() != 1) names.refuse(statement, "one operand is due");
  instruction.run = &arrive_in_warp;
  instruction.operands[0] = names.source(statement, statement.operands[0], kind_of<std::uint32_t>());
  return true;
}

}  // namespace

bool decode_meeting(Names& names, const Statement& statement, Instruction& instruction) {
  return decode_barrier(names, statement, instruction) || decode_shuffle(names, statement, instruction) ||
         decode_vote(names, statement, instruction) || decode_warp_barrier(names, statement, instruction);
}

}  // namespace ptx
