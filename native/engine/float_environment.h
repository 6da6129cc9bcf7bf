#pragma once

#include <cfenv>

namespace mtadam {

/// The default floating-point environment for as long as this lives. Libraries loaded into the same process may have
/// switched on flush-to-zero or another rounding, and threads inherit it from the one that starts them.
class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatEnvironment() { std::fesetenv(&saved_); }
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

 private:
  std::fenv_t saved_;
};

}  // namespace mtadam
