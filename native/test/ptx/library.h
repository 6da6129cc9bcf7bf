#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "test/ptx/instruction.h"

// Launches of the kernels that a program has as C++ run the PTX of the same names.

namespace ptx {

class Library {
 public:
  /// A file's kernels. They are decoded when they are first launched: most programs launch few.
  void add(const std::string& file, std::string_view text);
  void add_file(const std::string& path);
  /// Changes the text of every kernel, as tests do that plant faults.
  void edit(const std::function<void(KernelText&)>& change);

  /// By the name that the executor has for a function; null where there is none.
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

/// For every launch that begins later; a kernel that the library lacks fails.
void launch_from(Library& library);

}  // namespace ptx
