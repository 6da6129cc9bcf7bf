#pragma once

#include "test/ptx/machine.h"
#include "test/ptx/names.h"

// The opcodes that are known. Each function decodes the statements of one family and returns false for all others. It
// rejects unknown modifiers and operands.

namespace ptx {

bool decode_arithmetic(Names& names, const Statement& statement, Instruction& instruction);
/// Loads, stores, atomics and fences.
bool decode_memory(Names& names, const Statement& statement, Instruction& instruction);
/// Barriers, shuffles and votes.
bool decode_meeting(Names& names, const Statement& statement, Instruction& instruction);

}  // namespace ptx
