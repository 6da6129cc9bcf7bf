#pragma once

#ifndef _WIN32

#  include <dlfcn.h>

#  include <cstring>
#  include <string>
#  include <vector>

namespace mtadam {

/// A library that is loaded at run time. It is never unloaded: it may have threads and handlers of its own.
class SharedLibrary {
 public:
  /// Loads the first file that is there. `flags`: of dlopen().
  SharedLibrary(const std::vector<std::string>& names, int flags) {
    for (const std::string& name : names) {
      handle_ = dlopen(name.c_str(), flags);
      if (handle_ != nullptr) return;
      reasons_ += std::string(reasons_.empty() ? "" : "; ") + dlerror();
    }
  }

  bool is_open() const { return handle_ != nullptr; }
  /// Why no file could be loaded.
  const std::string& reasons() const { return reasons_; }

  void* find(const char* name) const { return dlsym(handle_, name); }

  /// Sets a pointer to a function or an object of the library. False where the library has none of that name.
  template <class Pointer>
  bool set(Pointer& pointer, const char* name) const {
    void* const symbol = find(name);
    if (symbol == nullptr) return false;
    std::memcpy(&pointer, &symbol, sizeof symbol);
    return true;
  }

 private:
  void* handle_ = nullptr;
  std::string reasons_;
};

}  // namespace mtadam

#endif
