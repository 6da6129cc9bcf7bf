#pragma once

#include <thread>

#if defined(__x86_64__) || defined(_M_X64)
#  include <immintrin.h>
#endif

namespace mtadam {

/// How often a waiting thread checks before it gives up its core.
constexpr int kSpins = 2000;

/// Tells the core that this is a spin loop.
inline void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && !defined(_MSC_VER)
  asm volatile("yield");
#endif
}

/// Returns when `done()` is true. The threads that make it true are running, so the wait is long only if they lose
/// their cores.
template <class Done>
void wait_until(const Done& done) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (done()) return;
    relax();
  }
  while (!done()) std::this_thread::yield();
}

}  // namespace mtadam
