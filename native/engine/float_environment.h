#pragma once

#if defined(__x86_64__) || defined(_M_X64)
#  include <xmmintrin.h>
#else
#  include <cfenv>
#endif

namespace mtadam {

/// Sets the default floating-point environment during its lifetime. Libraries loaded into the same process may have
/// switched on flush-to-zero or another rounding, and threads inherit it from the one that starts them.
class DefaultFloatEnvironment {
 public:
#if defined(__x86_64__) || defined(_M_X64)
  // All arithmetic is SSE's. `fesetenv` also sets the x87 unit, and its two calls took a fifth of a tiny step.
  DefaultFloatEnvironment() : saved_(_mm_getcsr()) { _mm_setcsr(kDefault); }
  ~DefaultFloatEnvironment() { _mm_setcsr(saved_); }
#else
  DefaultFloatEnvironment() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatEnvironment() { std::fesetenv(&saved_); }
#endif
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

 private:
#if defined(__x86_64__) || defined(_M_X64)
  // Rounds to nearest, keeps subnormal numbers, masks every exception, and clears the flags.
  static constexpr unsigned int kDefault = 0x1f80;
  unsigned int saved_;
#else
  std::fenv_t saved_;
#endif
};

}  // namespace mtadam
