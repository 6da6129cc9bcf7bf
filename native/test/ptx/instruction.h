#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "test/ptx/text.h"

// A decoded kernel: instructions whose operands are offsets in a thread's frame.

namespace ptx {

struct Thread;

/// A register in a thread's frame, or, below 0, a constant of the kernel.
struct Operand {
  std::int32_t place = 0;
};

struct Instruction {
  void (*run)(Thread& thread, const Instruction& self) = nullptr;
  std::array<Operand, 8> operands = {};
  Operand guard;
  bool guarded = false;
  bool negated = false;
  std::uint8_t count = 1;    ///< elements of a vector
  std::uint32_t target = 0;  ///< of a branch
  std::int64_t offset = 0;   ///< of an address
  std::uint32_t line = 0;
};

/// The special registers, which are the first in every frame.
enum class Special : std::int32_t { kTidX = 0, kCtaidX = 4, kNtidX = 8, kNctaidX = 12, kEnd = 16 };

/// Bytes of shared memory between variables, also before the first and after the last.
inline constexpr std::size_t kSharedGap = 16;

struct SharedVariable {
  std::size_t begin;
  std::size_t bytes;
};

struct Kernel {
  std::string file;
  std::string symbol;
  std::vector<Instruction> code;
  std::vector<std::uint64_t> constants;
  std::size_t frame_bytes = static_cast<std::size_t>(Special::kEnd);
  std::vector<SharedVariable> shared;
  std::size_t shared_bytes = kSharedGap;
  std::vector<Parameter> parameters;
  std::vector<std::size_t> parameter_places;
  std::size_t parameter_bytes = 0;
  unsigned most_threads = 0;
};

/// Throws NotUnderstood at the first opcode, modifier, operand or directive that is not known.
Kernel decode(const KernelText& text);

}  // namespace ptx
