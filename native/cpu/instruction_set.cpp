#include "cpu/instruction_set.h"

#include "engine/errors.h"

namespace mtadam {

extern const Loops loops_baseline;
#if defined(MTADAM_X86_LEVELS)
extern const Loops loops_x86_64_v3;
extern const Loops loops_x86_64_v4;
#endif

std::vector<InstructionSet> instruction_sets() {
  std::vector<InstructionSet> sets{{"baseline", &loops_baseline}};
#if defined(MTADAM_X86_LEVELS)
  __builtin_cpu_init();
  // The compiler may use every extension of a level; checked are those that element loops need.
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
                  __builtin_cpu_supports("f16c");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  if (v3) sets.push_back({"x86-64-v3", &loops_x86_64_v3});
  if (v4) sets.push_back({"x86-64-v4", &loops_x86_64_v4});
#endif
  return sets;
}

InstructionSet instruction_set(const std::string& name) {
  std::string known;
  const std::vector<InstructionSet> sets = instruction_sets();
  if (name.empty()) return sets.back();
  for (const InstructionSet& set : sets) {
    if (name == set.name) return set;
    known += std::string(known.empty() ? "" : ", ") + "\"" + set.name + "\"";
  }
  throw Error("OPTION", "`instructionSet` must be one that this machine has (" + known + "); got \"" + name + "\".");
}

}  // namespace mtadam
