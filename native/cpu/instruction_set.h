#pragma once

#include <string>
#include <vector>

#include "cpu/loops.h"

namespace mtadam {

/// One compiled copy of the element loops, and the name of the instruction set that it needs.
struct InstructionSet {
  const char* name;  // "baseline", "x86-64-v3", "x86-64-v4"
  const Loops* loops;
};

/// The instruction sets of this build that this machine has, narrowest first.
std::vector<InstructionSet> instruction_sets();

/// The instruction set of that name; the widest for "". Throws Error (OPTION) where this machine or this build lacks
/// it.
InstructionSet instruction_set(const std::string& name);

}  // namespace mtadam
