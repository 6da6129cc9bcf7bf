// How fast each element loop of the CPU device runs on one thread, beside a plain loop over the same arrays: from the
// second-level cache, where arithmetic shows, and from memory, where it must not.
// Built with the native tests:
//   cmake -S . -B build/native -DMTADAM_TESTS=ON && cmake --build build/native --target bench_loops
//   build/native/native/test/bench_loops [instruction set]

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cpu/host_memory.h"
#include "cpu/instruction_set.h"
#include "cpu/loops.h"

namespace {

using namespace mtadam;

constexpr std::size_t kNear = 16384;                   // elements of an array that stays in the second-level cache
constexpr std::size_t kFar = std::size_t{8} << 20;     // of one that does not
constexpr std::uint64_t kBlock = 64 * kChunkElements;  // what the device gives a thread at a time
constexpr int kRounds = 15;

class Arrays {
 public:
  explicit Arrays(std::size_t elements) : elements_(elements) {}

  // Staggered, as the optimizer's state is.
  float* make() {
    constexpr std::size_t kStagger = 208;
    memory_.push_back(heap_.allocate((elements_ + 1024) * sizeof(float)));
    float* const start = reinterpret_cast<float*>(memory_.back()->data()) + memory_.size() * kStagger % 1024;
    std::fill_n(start, elements_, 0.01f);
    return start;
  }

 private:
  std::size_t elements_;
  HostHeap heap_;
  std::vector<std::unique_ptr<Memory>> memory_;
};

double seconds(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Medians of `kRounds` turns, and of the ratio within a turn: memory's speed changes from one second to the next.
void compare(const std::string& name, std::size_t elements, double bytes, const std::function<void()>& loop,
             const std::function<void()>& plain) {
  const std::size_t repeats = std::max<std::size_t>(1, kFar / elements);
  const auto repeated = [&](const std::function<void()>& body) {
    return seconds([&] {
             for (std::size_t k = 0; k < repeats; ++k) body();
           }) /
           static_cast<double>(repeats);
  };
  std::vector<double> speeds, ratios;
  for (int round = 0; round < kRounds; ++round) {
    const double before = repeated(plain);
    const double ours = repeated(loop);
    const double after = repeated(plain);
    speeds.push_back(bytes * static_cast<double>(elements) / ours / 1e9);
    ratios.push_back((before + after) / 2 / ours);
  }
  std::sort(speeds.begin(), speeds.end());
  std::sort(ratios.begin(), ratios.end());
  std::printf("%-44s %7.1f GB/s   %5.2f of the plain loop\n", name.c_str(), speeds[kRounds / 2], ratios[kRounds / 2]);
}

// ---- Plain loops ----

volatile float sink;

void read(const float* a, std::size_t count) {
  constexpr std::size_t kLanes = 64;
  float partial[kLanes] = {};
  for (std::size_t k = 0; k < count; k += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) partial[lane] += a[k + lane];
  }
  for (const float value : partial) sink = sink + value;
}

void update(float* a, std::size_t count) {
  for (std::size_t k = 0; k < count; ++k) a[k] = 0.5f * a[k] + 0.5f;
}

void update(float* __restrict__ a, const float* __restrict__ b, std::size_t count) {
  for (std::size_t k = 0; k < count; ++k) a[k] = 0.5f * a[k] + b[k];
}

// ---- Ours beside them ----

void compare_norms(const Loops& loops, std::size_t elements, const std::string& place) {
  Arrays arrays(elements);
  const float* const g = arrays.make();
  volatile double sum = 0;
  compare(
      "sum of squares, " + place, elements, sizeof(float),
      [&] {
        for (std::size_t e = 0; e < elements; e += kChunkElements)
          sum = sum + loops.sum_of_squares(g + e, kChunkElements);
      },
      [&] { read(g, elements); });
}

void compare_step(const Loops& loops, std::size_t elements, const std::string& place, std::uint32_t terms, bool summed,
                  bool one_b) {
  Arrays arrays(elements);
  TensorRun whole{};
  whole.theta = arrays.make();
  whole.sum = summed ? arrays.make() : nullptr;
  whole.w = 1;
  whole.group = {0.9f, 0.1f, 0.999f, 0.001f, 1e-8f, 0, 0};
  whole.shared = {1, 1e-3f, 0.5f};
  std::vector<TermRun> parts;
  for (std::uint32_t i = 0; i < terms; ++i) {
    parts.push_back({arrays.make(), summed ? nullptr : arrays.make(), arrays.make(), nullptr, {1, 1e-3f, 0.5f}});
  }
  const FusedLoop loop = loops.fused(terms, true, {summed, false, false, false, false, one_b, false, false});
  const auto step = [&] {
    for (std::size_t e = 0; e < elements; e += kBlock) {
      TensorRun run = whole;
      run.count = std::min<std::uint64_t>(kBlock, elements - e);
      run.theta += e;
      if (summed) run.sum += e;
      std::vector<TermRun> moved = parts;
      for (TermRun& part : moved) {
        part.g += e;
        if (!summed) part.m += e;
        part.v += e;
      }
      loop(run, moved.data());
    }
  };
  const auto plain = [&] {
    update(whole.theta, elements);
    if (summed) update(whole.sum, elements);
    for (const TermRun& part : parts) {
      update(part.v, part.g, elements);
      if (!summed) update(part.m, elements);
    }
  };
  const double bytes = sizeof(float) * (summed ? 3.0 * terms + 4 : 5.0 * terms + 2);
  compare(
      "step of " + std::to_string(terms) + (summed ? ", summed" : ", per term") + (one_b ? ", one b, " : ", ") + place,
      elements, bytes, step, plain);
}

void compare_adam(const Loops& loops, std::size_t elements, const std::string& place, std::uint32_t terms) {
  Arrays arrays(elements);
  TensorRun whole{};
  for (float** const plane : {&whole.theta, &whole.sum, &whole.v}) *plane = arrays.make();
  whole.w = 1;
  whole.group = {0.9f, 0.1f, 0.999f, 0.001f, 1e-8f, 0, 0};
  whole.shared = {1, 1e-3f, 0.5f};
  std::vector<TermRun> parts;
  for (std::uint32_t i = 0; i < terms; ++i) parts.push_back({arrays.make(), nullptr, nullptr, nullptr, {1, 0, 0}});
  const AdamLoop loop = loops.adam(terms, {true, false, false, false, false, true, true, false});
  const auto step = [&] {
    for (std::size_t e = 0; e < elements; e += kBlock) {
      TensorRun run = whole;
      run.count = std::min<std::uint64_t>(kBlock, elements - e);
      for (float** const plane : {&run.theta, &run.sum, &run.v}) *plane += e;
      std::vector<TermRun> moved = parts;
      for (TermRun& part : moved) part.g += e;
      loop(run, moved.data());
    }
  };
  const auto plain = [&] {
    for (float* const plane : {whole.sum, whole.v}) update(plane, elements);
    update(whole.theta, parts[0].g, elements);
    for (std::uint32_t i = 1; i < terms; ++i) read(parts[i].g, elements);
  };
  compare("step of " + std::to_string(terms) + ", both summed, " + place, elements, sizeof(float) * (terms + 6.0), step,
          plain);
}

}  // namespace

int main(int argc, char** argv) {
  const InstructionSet set = instruction_set(argc > 1 ? argv[1] : "");
  std::printf("%s\n", set.name);
  for (const auto& [elements, place] : {std::pair<std::size_t, const char*>{kNear, "cache"}, {kFar, "memory"}}) {
    compare_norms(*set.loops, elements, place);
    for (std::uint32_t terms = 1; terms <= kFusedTerms; ++terms) {
      compare_adam(*set.loops, elements, place, terms);
      for (const bool summed : {false, true}) {
        for (const bool one_b : {false, true}) {
          if (one_b || terms > 1) compare_step(*set.loops, elements, place, terms, summed, one_b);
        }
      }
    }
  }
}
