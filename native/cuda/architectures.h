#pragma once

#include <string>
#include <vector>

namespace mtadam::cuda {

/// Code for one compute capability: machine code for it and its minor successors, or PTX, which the driver compiles for
/// it and anything newer.
struct Architecture {
  int major;
  int minor;
  bool ptx;
};

/// From CMake's spelling, separated by spaces: "80-real" machine code, "120-virtual" PTX, "90" both.
std::vector<Architecture> parse_architectures(const std::string& text);

/// Whether any of them runs on a device of this compute capability.
bool runs_on(const std::vector<Architecture>& architectures, int major, int minor);

/// The architectures that this build has code for.
std::vector<Architecture> built_architectures();

}  // namespace mtadam::cuda
