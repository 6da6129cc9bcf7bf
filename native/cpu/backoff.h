#pragma once

#include <thread>

#if defined(__x86_64__) || defined(_M_X64)
#  include <immintrin.h>
#endif

namespace mtadam {

/// How often a thread looks again at once before it gives up its core.
constexpr int kSpins = 2000;

/// Tells the core that this is a loop of waiting.
inline void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && !defined(_MSC_VER)
  asm volatile("yield");
#endif
}

/// Returns when `done()` is true. Other threads are working towards it: it takes long only if they lose their cores.
template <class Done>
void wait_until(const Done& done) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (done()) return;
    relax();
  }
  while (!done()) std::this_thread::yield();
}

}  // namespace mtadam
