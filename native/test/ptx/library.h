#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "test/ptx/instruction.h"

// Launches of a program's C++ kernels run the PTX kernels of the same names.

namespace ptx {

class Library {
 public:
  /// A file's kernels. They are decoded when they are first launched: most programs launch few.
  void add(const std::string& file, std::string_view text);
  void add_file(const std::string& path);
  /// Changes the text of every kernel, to plant faults.
  void edit(const std::function<void(KernelText&)>& change);

  /// By the executor's name of a function; null if there is none.
  const Kernel* find(const std::string& name);
  std::vector<std::string> names() const;
  /// How often a kernel was found.
  std::uint64_t launches(const std::string& name) const;

 private:
  struct Entry {
    KernelText text;
    bool decoded = false;
    Kernel kernel = {};
    std::uint64_t launches = 0;
  };
  std::map<std::string, Entry> entries_;
};

/// For every launch that begins later; a launch of a kernel that the library lacks fails.
void launch_from(Library& library);

}  // namespace ptx
