#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "math/tables.h"

// Support for all tests: random values, comparison of bits, guarded memory, and the canonical sum of squares in its
// simplest form.

namespace mtadam::test {

/// The smallest moment that decays to 2⁻¹²⁶ with `beta` and is not flushed to zero. The float below it is flushed.
inline float least_kept(float beta) {
  float least = 0x1p-126f / beta;
  while (beta * least >= 0x1p-126f) least = std::nextafter(least, 0.0f);
  while (beta * least < 0x1p-126f) least = std::nextafter(least, 1.0f);
  return least;
}

/// The same values on every machine, which the distributions of <random> do not guarantee.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t bits() {  // splitmix64
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t bound) { return bits() % bound; }
  bool chance(double probability) { return between(0, 1) < probability; }
  double between(double low, double high) { return low + (high - low) * (static_cast<double>(bits() >> 11) * 0x1p-53); }
  /// Either sign, 2^low ≤ |value| < 2^high: every magnitude is as likely as any other.
  float of_magnitude(int low, int high) {
    const int exponent = low + static_cast<int>(below(static_cast<std::uint64_t>(high - low)));
    const double value = std::ldexp(between(1, 2), exponent);
    return static_cast<float>(chance(0.5) ? value : -value);
  }
  template <class T>
  const T& pick(const std::vector<T>& values) {
    return values[below(values.size())];
  }

 private:
  std::uint64_t state_;
};

template <class T>
bool same_bits(T a, T b) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return std::bit_cast<Bits>(a) == std::bit_cast<Bits>(b);
}

/// Whether all elements have the same bits (all NaNs are equal); the failure names the first difference.
template <class T>
testing::AssertionResult same_bits(const std::vector<T>& expected, const std::vector<T>& actual) {
  if (expected.size() != actual.size()) {
    return testing::AssertionFailure() << actual.size() << " elements where " << expected.size() << " are due";
  }
  for (std::size_t k = 0; k < expected.size(); ++k) {
    if (!same_bits(expected[k], actual[k])) {
      return testing::AssertionFailure() << std::hexfloat << "element " << std::dec << k << " of " << expected.size()
                                         << " is " << std::hexfloat << actual[k] << ", due is " << expected[k];
    }
  }
  return testing::AssertionSuccess();
}

/// Floats that start `shift` elements past a 64-byte line, in copies too, between borders that must not be written to.
class GuardedFloats {
 public:
  GuardedFloats(const std::vector<float>& values, std::size_t shift)
      : lines_((values.size() + shift + 2 * kBorder + kLine - 1) / kLine),
        start_(kBorder + shift),
        size_(values.size()) {
    for (std::size_t k = 0; k < lines_.size() * kLine; ++k) memory()[k] = border();
    for (std::size_t k = 0; k < size_; ++k) data()[k] = values[k];
  }

  float* data() { return memory() + start_; }
  std::vector<float> values() const { return {memory() + start_, memory() + start_ + size_}; }
  bool borders_intact() const {
    const float untouched = border();
    for (std::size_t k = 0; k < lines_.size() * kLine; ++k) {
      if (k >= start_ && k < start_ + size_) continue;
      if (std::memcmp(memory() + k, &untouched, sizeof untouched) != 0) return false;
    }
    return true;
  }

 private:
  static constexpr std::size_t kLine = 16;
  static constexpr std::size_t kBorder = 32;  // wider than any vector, and a multiple of a line
  struct alignas(64) Line {
    float elements[kLine];
  };

  static float border() { return std::bit_cast<float>(0x7fabcdefu); }
  float* memory() { return reinterpret_cast<float*>(lines_.data()); }
  const float* memory() const { return reinterpret_cast<const float*>(lines_.data()); }

  std::vector<Line> lines_;
  std::size_t start_;
  std::size_t size_;
};

/// A[ℓ] = A[ℓ] + A[ℓ+d] for d = half the lanes … 1.
inline double halving_tree(std::vector<double> lanes) {
  for (std::size_t d = lanes.size() / 2; d >= 1; d /= 2) {
    for (std::size_t lane = 0; lane < d; ++lane) lanes[lane] = lanes[lane] + lanes[lane + d];
  }
  return lanes[0];
}

/// docs/algorithm.md, "Sum of squares", for one chunk: all 16 segments of 256, elements past the end count as zero. Of
/// products, for two gradients.
inline double canonical_chunk_sum(const float* a, const float* b, std::size_t count) {
  std::vector<double> lanes(32, 0.0);
  for (std::size_t segment = 0; segment < 16; ++segment) {
    std::vector<double> segment_lanes(32, 0.0);
    for (std::size_t k = 0; k < 256; ++k) {
      const std::size_t element = segment * 256 + k;
      const double product = element < count ? static_cast<double>(a[element]) * static_cast<double>(b[element]) : 0.0;
      segment_lanes[k % 32] = segment_lanes[k % 32] + product;
    }
    for (std::size_t lane = 0; lane < 32; ++lane) lanes[lane] = lanes[lane] + segment_lanes[lane];
  }
  return halving_tree(lanes);
}

inline double canonical_chunk_sum(const float* g, std::size_t count) { return canonical_chunk_sum(g, g, count); }

/// The same for a layer, from its chunk sums in the order of q.
inline double canonical_layer_sum(const std::vector<double>& chunk_sums) {
  std::vector<double> lanes(128, 0.0);
  for (std::size_t q = 0; q < chunk_sums.size(); ++q) lanes[q % 128] = lanes[q % 128] + chunk_sums[q];
  return halving_tree(lanes);
}

}  // namespace mtadam::test
