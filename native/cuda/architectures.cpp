#include "cuda/architectures.h"

#include <algorithm>
#include <sstream>

#ifndef MTADAM_CUDA_ARCHITECTURES
#  error "MTADAM_CUDA_ARCHITECTURES must name what the kernels are compiled for"
#endif

namespace mtadam::cuda {

std::vector<Architecture> parse_architectures(const std::string& text) {
  std::vector<Architecture> architectures;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const int number = std::stoi(word);
    const std::string suffix = word.substr(std::min(word.find('-'), word.size()));
    if (suffix != "-virtual") architectures.push_back({number / 10, number % 10, false});
    if (suffix != "-real") architectures.push_back({number / 10, number % 10, true});
  }
  return architectures;
}

bool runs_on(const std::vector<Architecture>& architectures, int major, int minor) {
  return std::any_of(architectures.begin(), architectures.end(), [&](const Architecture& built) {
    if (built.ptx) return built.major < major || (built.major == major && built.minor <= minor);
    return built.major == major && built.minor <= minor;
  });
}

std::vector<Architecture> built_architectures() { return parse_architectures(MTADAM_CUDA_ARCHITECTURES); }

}  // namespace mtadam::cuda
