// How fast each element loop of the CPU device runs on one thread, beside a plain loop over the same arrays: from the
// second-level cache, where arithmetic shows, and from memory, where it must not. Then steps with moments of 2 bytes
// and of 1 beside those of float32. Built with the native tests:
//   cmake -S . -B build/native -DMTADAM_TESTS=ON && cmake --build build/native --target bench_loops
//   build/native/native/test/bench_loops [instruction set]

#include <algorithm>
#include <cstdio>
#include <ctime>
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

/// Of this process, so that others on the machine disturb less.
double seconds(const std::function<void()>& body) {
  const std::clock_t start = std::clock();
  body();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
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

// ---- Lean states beside float32 ----

enum class Moments { kPerTerm, kSummed, kOnePair };
constexpr const char* kMomentNames[] = {"per term", "summed", "one pair"};
constexpr const char* kTypeNames[] = {"float32", "bfloat16", "8 bits"};

/// A model of one tensor, and the steps of update on it.
class Steps {
 public:
  Steps(const Loops& loops, std::uint32_t terms, std::size_t elements)
      : loops_(loops), terms_(terms), elements_(elements), arrays_(elements) {
    theta_ = arrays_.make();
    for (std::uint32_t i = 0; i < terms; ++i) {
      g_.push_back(arrays_.make());
      // Gradients of ordinary spread: a step takes no longer for any values but subnormal ones.
      for (std::size_t e = 0; e < elements; ++e)
        g_[i][e] = 1e-3f * static_cast<float>(static_cast<int>((e + i) * 2654435761u % 2001) - 1000);
      for (std::vector<float*>* const planes : {&m_, &v_}) planes->push_back(arrays_.make());
    }
  }

  void run(StateType type, Moments moments) const {
    for (std::size_t e = 0; e < elements_; e += kBlock) {
      const std::uint64_t count = std::min<std::uint64_t>(kBlock, elements_ - e);
      type == StateType::kFloat32 ? run_float32(moments, e, count) : run_lean(type, moments, e, count);
    }
  }

 private:
  static constexpr GroupElements kGroup{0.9f, 0.1f, 0.999f, 0.001f, 1e-8f, 0, 0};
  static constexpr Coefficients kCoefficients{1, 1e-3f, 0.5f};

  static LoopForm form_of(Moments moments) {
    return {moments != Moments::kPerTerm, false, false, false, false, true, moments == Moments::kOnePair, false};
  }

  void run_float32(Moments moments, std::size_t e, std::uint64_t count) const {
    const LoopForm form = form_of(moments);
    TensorRun run{};
    run.count = count;
    run.theta = theta_ + e;
    run.sum = m_[0] + e;
    run.v = v_[0] + e;
    run.shared = kCoefficients;
    run.group = kGroup;
    run.w = 1;
    std::vector<TermRun> parts;
    for (std::uint32_t i = 0; i < terms_; ++i)
      parts.push_back({g_[i] + e, m_[i] + e, v_[i] + e, nullptr, kCoefficients});
    (form.one_v ? loops_.adam(terms_, form) : loops_.fused(terms_, true, form))(run, parts.data());
  }

  // A plane of codes lies in a plane of float32 and its exponents behind them.
  CodePlane codes(StateType type, float* plane, std::size_t e) const {
    auto* const exponents = reinterpret_cast<std::uint8_t*>(plane + elements_ / 2) + e / kCodeBlock;
    return {reinterpret_cast<std::byte*>(plane) + e * code_bytes(type), exponents};
  }

  void run_lean(StateType type, Moments moments, std::size_t e, std::uint64_t count) const {
    for (std::uint64_t done = 0; done < count; done += kChunkElements) {
      const std::size_t at = e + done;
      std::vector<LeanTerm> parts;
      for (std::uint32_t i = 0; i < terms_; ++i) {
        parts.push_back({g_[i] + at, kCoefficients, codes(type, m_[i], at), codes(type, v_[i], at), i + 1});
      }
      const LeanRun run{0,
                        kChunkElements,
                        theta_ + at,
                        type,
                        codes(type, m_[0], at),
                        codes(type, v_[0], at),
                        chunk_key(0, 1, 2, at / kChunkElements),
                        kCoefficients,
                        kGroup};
      loops_.lean(run, parts.data(), terms_, form_of(moments));
    }
  }

  const Loops& loops_;
  std::uint32_t terms_;
  std::size_t elements_;
  Arrays arrays_;
  float* theta_;
  std::vector<float*> g_, m_, v_;
};

/// Medians of the time of a step's update, and of its ratio to that of float32 per term just before and after.
void compare_lean(const Loops& loops, std::size_t elements, std::uint32_t terms) {
  constexpr int kTurns = 3 * kRounds;
  for (const StateType type : {StateType::kFloat32, StateType::kBfloat16, StateType::k8bit}) {
    for (const Moments moments : {Moments::kPerTerm, Moments::kSummed, Moments::kOnePair}) {
      const Steps ours(loops, terms, elements), usual(loops, terms, elements);
      const auto timed = [](const Steps& steps, StateType of, Moments form) {
        return seconds([&] { steps.run(of, form); });
      };
      std::vector<double> times, ratios;
      for (int turn = -1; turn < kTurns; ++turn) {
        const double before = timed(usual, StateType::kFloat32, Moments::kPerTerm);
        const double time = timed(ours, type, moments);
        const double after = timed(usual, StateType::kFloat32, Moments::kPerTerm);
        if (turn < 0) continue;  // the first meets moments that no step has made
        times.push_back(time);
        ratios.push_back(2 * time / (before + after));
      }
      std::sort(times.begin(), times.end());
      std::sort(ratios.begin(), ratios.end());
      const std::string name = "update of " + std::to_string(terms) + ", " + kTypeNames[static_cast<int>(type)] + ", " +
                               kMomentNames[static_cast<int>(moments)];
      std::printf("%-44s %7.2f ns/parameter   %5.2f of float32 per term\n", name.c_str(),
                  times[kTurns / 2] / static_cast<double>(elements) * 1e9, ratios[kTurns / 2]);
    }
  }
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
  for (const std::uint32_t terms : {1u, kFusedTerms}) compare_lean(*set.loops, kFar, terms);
}
