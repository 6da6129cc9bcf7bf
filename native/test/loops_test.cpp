#include "cpu/loops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "cpu/instruction_set.h"
#include "math/moments.h"
#include "support.h"

// Compares every element loop of every instruction set with one scalar step, in the order of docs/algorithm.md,
// "Elements".

namespace mtadam {
namespace {

using test::GuardedFloats;
using test::Random;
using test::same_bits;

// Two passes over a tile; the second has any number of terms.
constexpr std::uint32_t kMaxTerms = 2 * kPassTerms;

std::vector<LoopForm> all_forms() {
  std::vector<LoopForm> forms;
  for (unsigned bits = 0; bits < 128; ++bits) {
    forms.push_back({(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0, (bits & 16) != 0,
                     (bits & 32) != 0, false, (bits & 64) != 0});
  }
  return forms;
}

// Both moments summed.
std::vector<LoopForm> forms_with_one_v() {
  std::vector<LoopForm> forms;
  for (unsigned bits = 0; bits < 32; ++bits) {
    forms.push_back(
        {true, (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0, true, true, (bits & 16) != 0});
  }
  return forms;
}

std::string name_of(LoopForm form) {
  return std::string(form.summed ? "summed" : "per term") + (form.amsgrad ? ", amsgrad" : "") +
         (form.coupled ? ", coupled decay" : "") + (form.decoupled ? ", decoupled decay" : "") +
         (form.shortened ? ", shortened" : "") + (form.one_b ? ", one b" : "") + (form.one_v ? ", one v" : "") +
         (form.skips ? ", skips elements" : "");
}

std::vector<std::size_t> lengths() {
  std::vector<std::size_t> all;
  for (std::size_t length = 0; length <= 70; ++length) all.push_back(length);
  all.insert(all.end(), {kTileElements - 1, kTileElements});
  return all;
}

// ---- A run of elements, as values

struct TermValues {
  std::vector<float> g, m, v, x;
  Coefficients k;
  bool present = true;
};

struct Values {
  std::vector<float> theta, sum, sum_v, sum_x, gathered;
  Coefficients shared;
  GroupElements group;
  float w;
  std::vector<TermValues> terms;

  std::size_t count() const { return theta.size(); }
};

constexpr float kBeta1 = 0.9f, kBeta2 = 0.999f;

// Ordinary values, and sometimes any kind of float. Moments are often just above or below the flush.
class Mixture {
 public:
  explicit Mixture(Random& random) : random_(random) {}

  float gradient() { return random_.chance(0.3) ? odd() : random_.of_magnitude(-12, 4); }
  float parameter() { return random_.chance(0.1) ? odd() : random_.of_magnitude(-6, 3); }
  float first_moment() { return random_.chance(0.3) ? odd() : random_.of_magnitude(-14, 2); }
  float second_moment() { return std::fabs(random_.chance(0.3) ? odd() : random_.of_magnitude(-28, 4)); }

  /// Tiny or zero, of either sign.
  float silence() {
    if (random_.chance(0.3)) return random_.of_magnitude(-149, -140);
    return random_.chance(0.5) ? 0.0f : -0.0f;
  }

 private:
  float odd() {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    switch (random_.below(9)) {
      case 0:
        return 0.0f;
      case 1:
        return -0.0f;
      case 2:
        return random_.chance(0.5) ? kInfinity : -kInfinity;
      case 3:
        return std::numeric_limits<float>::quiet_NaN();
      case 4:
        return random_.of_magnitude(-149, -126);  // subnormal
      case 5:
        return random_.of_magnitude(-128, -123);  // decays to subnormal, or not quite
      case 6: {
        const float least = test::least_kept(random_.chance(0.5) ? kBeta1 : kBeta2);
        return random_.chance(0.5) ? least : std::nextafter(least, 0.0f);
      }
      case 7:
        return random_.of_magnitude(-75, -58);  // its square is subnormal, or not quite
      default:
        return random_.of_magnitude(60, 128);  // its square overflows
    }
  }

  Random& random_;
};

Values random_values(Random& random, std::size_t count, std::uint32_t terms, bool one_b) {
  Mixture mixture(random);
  // At a silent element all values are tiny or zero: only there a step of −0 differs from one of 0.
  std::vector<bool> silent(count);
  for (std::size_t e = 0; e < count; ++e) silent[e] = random.chance(0.1);
  const auto fill = [&](float (Mixture::*value)()) {
    std::vector<float> values(count);
    for (std::size_t e = 0; e < count; ++e) values[e] = silent[e] ? mixture.silence() : (mixture.*value)();
    return values;
  };
  const auto fill_positive = [&] {
    std::vector<float> values = fill(&Mixture::second_moment);
    for (float& value : values) value = std::fabs(value);
    return values;
  };
  const auto coefficients = [&] {
    return Coefficients{random.of_magnitude(-3, 3), static_cast<float>(random.between(1e-3, 1e-1)),
                        static_cast<float>(random.between(0.03, 1))};
  };
  Values values;
  values.theta = fill(&Mixture::parameter);
  values.sum = fill(&Mixture::first_moment);
  values.sum_v = fill_positive();
  values.sum_x = fill_positive();
  values.gathered = fill(&Mixture::gradient);
  values.shared = coefficients();
  values.group = {kBeta1, 0.1f, kBeta2, 0.001f, 1e-8f, 0.01f, 1e-4f};
  values.w = static_cast<float>(random.between(1, 5));
  for (std::uint32_t term = 0; term < terms; ++term) {
    values.terms.push_back(
        {fill(&Mixture::gradient), fill(&Mixture::first_moment), fill_positive(), fill_positive(), coefficients()});
    if (one_b) values.terms.back().k.b = values.terms.front().k.b;
  }
  return values;
}

// ---- The scalar step ----

float balanced(const LoopForm& form, float g, float theta, float f, const GroupElements& k) {
  return form.coupled ? balanced_gradient<true>(g, theta, f, k) : balanced_gradient<false>(g, theta, f, k);
}

// Steps 5 and 6 of one term at one element.
void scalar_moments(const LoopForm& form, Values& values, TermValues& term, std::size_t e, bool opens) {
  const GroupElements& k = values.group;
  const float gradient = balanced(form, term.g[e], values.theta[e], term.k.f, k);
  if (form.summed && opens) values.sum[e] = decayed_sum(values.sum[e], k);
  const bool rests = form.skips && !(std::fabs(term.k.f * term.g[e]) <= 1e18f);
  if (form.summed && !rests) values.sum[e] = added_to_sum(values.sum[e], gradient, k);
  if (!form.summed && !rests) term.m[e] = first_moment(term.m[e], gradient, k);
  if (!rests) term.v[e] = second_moment(term.v[e], gradient, k);
  if (form.amsgrad && !form.summed) term.x[e] = larger(term.v[e], term.x[e]);
}

// Step 7 at one element.
void scalar_move(const LoopForm& form, Values& values, std::size_t e) {
  const GroupElements& k = values.group;
  float u = 0, d = 0;
  for (std::size_t i = 0; i < values.terms.size(); ++i) {
    const TermValues& term = values.terms[i];
    const float bound = denominator(form.amsgrad ? term.x[e] : term.v[e], term.k.b, k);
    const float part = step_part(term.m[e], term.k.c);
    d = i == 0 ? bound : larger(bound, d);
    u = i == 0 ? part : u + part;
  }
  if (form.summed) u = step_part(values.sum[e], values.shared.c);
  if (form.summed && form.amsgrad) {
    for (const TermValues& term : values.terms) {
      if (term.present) values.sum_x[e] = larger(term.v[e], values.sum_x[e]);
    }
    d = denominator(values.sum_x[e], values.shared.b, k);
  }
  const float theta = values.theta[e];
  float q = u / d;
  if (form.shortened) q = q / values.w;
  values.theta[e] = form.decoupled ? moved<true>(theta, q, k) : moved<false>(theta, q, k);
}

void scalar_step(const LoopForm& form, Values& values) {
  for (std::size_t e = 0; e < values.count(); ++e) {
    bool opens = true;
    for (TermValues& term : values.terms) {
      if (!term.present) continue;
      scalar_moments(form, values, term, e, opens);
      opens = false;
    }
    scalar_move(form, values, e);
  }
}

// Both moments summed: G of all terms, then Adam's step with it. `gathered`: G is in memory.
void scalar_adam(const LoopForm& form, Values& values, bool gathered) {
  const GroupElements& k = values.group;
  for (std::size_t e = 0; e < values.count(); ++e) {
    float& theta = values.theta[e];
    float sum = 0;
    for (std::size_t i = 0; i < values.terms.size(); ++i) {
      float share = values.terms[i].k.f * values.terms[i].g[e];
      if (form.skips && !(std::fabs(share) <= 1e18f)) share = 0;
      sum = i == 0 ? share : sum + share;
    }
    if (gathered) values.gathered[e] = sum;
    if (form.coupled) sum = sum + k.coupled * theta;
    values.sum[e] = first_moment(values.sum[e], sum, k);
    values.sum_v[e] = second_moment(values.sum_v[e], sum, k);
    if (form.amsgrad) values.sum_x[e] = larger(values.sum_v[e], values.sum_x[e]);
    const float second = form.amsgrad ? values.sum_x[e] : values.sum_v[e];
    float q = step_part(values.sum[e], values.shared.c) / denominator(second, values.shared.b, k);
    if (form.shortened) q = q / values.w;
    theta = form.decoupled ? moved<true>(theta, q, k) : moved<false>(theta, q, k);
  }
}

// ---- The same values, in memory ----

class Placed {
 public:
  // Every array is misaligned by a number of elements of its own.
  Placed(const LoopForm& form, const Values& values, Random& random)
      : form_(form), values_(values), count_(values.count()) {
    arrays_.reserve(5 + 4 * values.terms.size());
    const auto place = [&](const std::vector<float>& array) {
      arrays_.emplace_back(array, random.below(16));
      return arrays_.back().data();
    };
    run_ = {count_, place(values.theta), nullptr, nullptr, values.shared, values.group, values.w, nullptr, nullptr};
    run_.sum = place(values.sum);
    run_.v = place(values.sum_v);
    run_.sum_x = place(values.sum_x);
    run_.gathered = place(values.gathered);
    for (const TermValues& term : values.terms) {
      TermRun placed{};
      placed.g = place(term.g);
      placed.m = place(term.m);
      placed.v = place(term.v);
      placed.x = place(term.x);
      placed.k = term.k;
      terms_.push_back(placed);
    }
    // Arrays that the form does not need are null, as on the device.
    if (!form.summed) run_.sum = nullptr;
    if (!(form.summed && form.amsgrad)) run_.sum_x = nullptr;
    if (!form.one_v) run_.v = run_.gathered = nullptr;
    for (TermRun& term : terms_) {
      if (form.summed) term.m = nullptr;
      if (form.one_v) term.v = nullptr;
      if (form.summed || !form.amsgrad) term.x = nullptr;
    }
  }

  // All combinations of loops for a step, in one instruction set.

  void fused(const Loops& loops) { fused(loops, true); }

  void streamed_fused(const Loops& loops) {
    moments(loops);
    fused(loops, false);
  }

  void tiled(const Loops& loops) { tiled(loops, true, kPassTerms); }

  void tiled_one_by_one(const Loops& loops) { tiled(loops, true, 1); }

  void streamed_tiled(const Loops& loops) {
    moments(loops);
    tiled(loops, false, kPassTerms);
  }

  void adam(const Loops& loops) { loops.adam(static_cast<std::uint32_t>(terms_.size()), form_)(run_, terms_.data()); }

  void gathered_adam(const Loops& loops) {
    moments(loops);
    loops.adam(0, form_)(run_, nullptr);
  }

  void moments(const Loops& loops) {
    bool opens = true;
    for (std::size_t i = 0; i < terms_.size(); ++i) {
      if (!values_.terms[i].present) continue;
      loops.moments(form_)(run_, terms_[i], opens);
      opens = false;
    }
  }

  testing::AssertionResult holds(const Values& expected) const {
    std::size_t next = 0;
    const auto compare = [&](const char* name, const std::vector<float>& values) {
      const GuardedFloats& actual = arrays_[next++];
      if (!actual.borders_intact()) return testing::AssertionFailure() << name << ": written beyond its ends";
      const testing::AssertionResult same = same_bits(values, actual.values());
      return same ? same : testing::AssertionFailure() << name << ": " << same.message();
    };
    testing::AssertionResult result = compare("theta", expected.theta);
    if (result) result = compare("M", expected.sum);
    if (result) result = compare("V", expected.sum_v);
    if (result) result = compare("x of all", expected.sum_x);
    if (result) result = compare("G", expected.gathered);
    for (const TermValues& term : expected.terms) {
      if (result) result = compare("g", term.g);
      if (result) result = compare("m", term.m);
      if (result) result = compare("v", term.v);
      if (result) result = compare("x", term.x);
    }
    return result;
  }

 private:
  void fused(const Loops& loops, bool with_gradients) {
    std::vector<TermRun> terms = terms_;
    for (TermRun& term : terms) {
      if (!with_gradients) term.g = nullptr;
    }
    loops.fused(static_cast<std::uint32_t>(terms.size()), with_gradients, form_)(run_, terms.data());
  }

  void tiled(const Loops& loops, bool with_gradients, std::size_t at_once) {
    constexpr float kUnset = std::numeric_limits<float>::signaling_NaN();
    GuardedFloats d(std::vector<float>(count_, kUnset), 0);
    GuardedFloats u(std::vector<float>(count_, kUnset), 0);
    TilePass pass{d.data(), u.data(), true, true};
    std::vector<TermRun> together;
    const auto go = [&] {
      for (std::size_t done = 0; done < together.size();) {
        const bool bring = together.front().g != nullptr;
        const TileChoice choice = loops.tile(static_cast<std::uint32_t>(together.size() - done), bring, form_);
        choice.loop(run_, together.data() + done, pass);
        done += choice.terms;
        if (bring) pass.opens = false;
        pass.first = false;
      }
      together.clear();
    };
    for (std::size_t i = 0; i < terms_.size(); ++i) {
      // The shared x covers absent terms, so they are not part of D.
      if (form_.summed && form_.amsgrad && !values_.terms[i].present) continue;
      TermRun term = terms_[i];
      if (!with_gradients || !values_.terms[i].present) term.g = nullptr;
      if (!together.empty() && (together.front().g == nullptr) != (term.g == nullptr)) go();
      together.push_back(term);
      if (together.size() == at_once) go();
    }
    go();
    loops.move(form_)(run_, terms_.front().k.b, d.data(), u.data());
    EXPECT_TRUE(d.borders_intact() && u.borders_intact());
  }

  LoopForm form_;
  const Values& values_;
  std::size_t count_;
  std::vector<GuardedFloats> arrays_;
  TensorRun run_{};
  std::vector<TermRun> terms_;
};

struct Way {
  const char* name;
  void (Placed::*run)(const Loops&);
  std::uint32_t most_terms;
  bool shortened;  // whether to run with W other than 1, too
  bool skips;      // whether to run with skipped elements, too

  bool serves(const LoopForm& form, std::uint32_t terms) const {
    return terms <= most_terms && (shortened || !form.shortened) && (skips || !form.skips);
  }
};

const std::vector<Way> kWays{{"fused", &Placed::fused, kFusedTerms, false, false},
                             {"moments, then fused", &Placed::streamed_fused, kFusedTerms, false, true},
                             {"tiled", &Placed::tiled, kMaxTerms, true, true},
                             {"tiled, one term at a time", &Placed::tiled_one_by_one, kMaxTerms, true, true},
                             {"moments, then tiled", &Placed::streamed_tiled, kMaxTerms, true, true}};

TEST(Loops, GiveTheBitsOfTheScalarStepInEveryCombination) {
  Random random(11);
  const std::vector<InstructionSet> sets = instruction_sets();
  for (const LoopForm& form : all_forms()) {
    for (const std::size_t count : lengths()) {
      for (std::uint32_t terms = 1; terms <= kMaxTerms; ++terms) {
        // Long runs are alike for the loops: one with few terms and one with many will do.
        if (count > 70 && terms != 1 + count % 2 && terms != kPassTerms) continue;
        // The end of the second pass is that of the first.
        if (terms > kPassTerms && count % 10 != 7) continue;
        const Values before = random_values(random, count, terms, form.one_b);
        Values after = before;
        scalar_step(form, after);
        for (const InstructionSet& set : sets) {
          for (const Way& way : kWays) {
            if (!way.serves(form, terms)) continue;
            Placed placed(form, before, random);
            (placed.*way.run)(*set.loops);
            ASSERT_TRUE(placed.holds(after))
                << set.name << ", " << way.name << ", " << name_of(form) << ", " << terms << " terms of " << count;
          }
        }
      }
    }
  }
}

// The moments alone, also of a term that is not the first of the step.
TEST(Loops, GiveTheBitsOfTheScalarStepForMomentsAlone) {
  Random random(12);
  for (const LoopForm& form : all_forms()) {
    for (const std::size_t count : lengths()) {
      const Values before = random_values(random, count, 3, form.one_b);
      Values after = before;
      for (std::size_t e = 0; e < count; ++e) {
        for (std::size_t i = 0; i < 3; ++i) scalar_moments(form, after, after.terms[i], e, i == 0);
      }
      for (const InstructionSet& set : instruction_sets()) {
        Placed placed(form, before, random);
        placed.moments(*set.loops);
        ASSERT_TRUE(placed.holds(after)) << set.name << ", " << name_of(form) << ", " << count;
      }
    }
  }
}

TEST(Loops, GiveTheBitsOfTheScalarStepWhereBothMomentsAreSummed) {
  Random random(16);
  for (const LoopForm& form : forms_with_one_v()) {
    for (const std::size_t count : lengths()) {
      for (std::uint32_t terms = 1; terms <= kPassTerms; ++terms) {
        const Values before = random_values(random, count, terms, false);
        Values at_once = before, gathered = before;
        scalar_adam(form, at_once, false);
        scalar_adam(form, gathered, true);
        for (const InstructionSet& set : instruction_sets()) {
          SCOPED_TRACE(std::string(set.name) + ", " + name_of(form) + ", " + std::to_string(terms) + " terms of " +
                       std::to_string(count));
          Placed one_loop(form, before, random), loops_for_terms(form, before, random);
          loops_for_terms.gathered_adam(*set.loops);
          ASSERT_TRUE(loops_for_terms.holds(gathered));
          if (form.shortened || form.skips) continue;  // these steps gather
          one_loop.adam(*set.loops);
          ASSERT_TRUE(one_loop.holds(at_once));
        }
      }
    }
  }
}

// With summed moments the maximum is over all terms that ever occurred: absent terms pass without a gradient.
TEST(Loops, IncludeAbsentTermsInTheMaximum) {
  Random random(13);
  constexpr std::uint32_t kTerms = 4;
  for (const LoopForm& form : all_forms()) {
    if (!form.summed) continue;
    for (unsigned present = 1; present < 1u << kTerms; ++present) {
      for (const std::size_t count : {1, 7, 16, 67}) {
        Values before = random_values(random, count, kTerms, form.one_b);
        for (std::uint32_t i = 0; i < kTerms; ++i) before.terms[i].present = (present >> i & 1) != 0;
        Values after = before;
        scalar_step(form, after);
        for (const InstructionSet& set : instruction_sets()) {
          for (const Way& way : kWays) {
            if (!way.serves(form, kTerms)) continue;
            Placed placed(form, before, random);
            (placed.*way.run)(*set.loops);
            ASSERT_TRUE(placed.holds(after))
                << set.name << ", " << way.name << ", " << name_of(form) << ", present " << present << ", " << count;
          }
        }
      }
    }
  }
}

TEST(Loops, AddElements) {
  Random random(14);
  Mixture mixture(random);
  for (const std::size_t count : lengths()) {
    std::vector<float> target(count), source(count), expected(count);
    for (std::size_t e = 0; e < count; ++e) {
      target[e] = mixture.gradient();
      source[e] = mixture.gradient();
      expected[e] = target[e] + source[e];
    }
    for (const InstructionSet& set : instruction_sets()) {
      GuardedFloats to(target, random.below(16));
      GuardedFloats from(source, random.below(16));
      set.loops->add(to.data(), from.data(), count);
      ASSERT_TRUE(same_bits(expected, to.values())) << set.name << ", " << count;
      EXPECT_TRUE(same_bits(source, from.values()));
      EXPECT_TRUE(to.borders_intact());
    }
  }
}

// Otherwise the tests above could pass because every result is NaN.
TEST(Loops, AreTestedOnResultsThatAreMostlyFinite) {
  Random random(15);
  Values values = random_values(random, 4096, 3, false);
  scalar_step({false, true, true, true, true, false, false, false}, values);
  std::size_t numbers = 0, flushed_or_subnormal = 0;
  for (std::size_t e = 0; e < values.count(); ++e) {
    numbers += std::isfinite(values.theta[e]) ? 1 : 0;
    const float m = std::fabs(values.terms[0].m[e]);
    flushed_or_subnormal += m > 0 && m < 0x1p-126f ? 1 : 0;
  }
  EXPECT_GT(numbers, values.count() / 3);
  EXPECT_GT(flushed_or_subnormal, 0u);
}

}  // namespace
}  // namespace mtadam
