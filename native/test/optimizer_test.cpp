#include "engine/optimizer.h"

#include <gtest/gtest.h>

#include <cfenv>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "cpu/instruction_set.h"
#include "training.h"

#if defined(__x86_64__) || defined(_M_X64)
#  include <immintrin.h>
#endif

// Whole steps: all ways to take one give the same bits, and leave the right state. oracle_test.cpp tests that the
// values are right.

namespace mtadam {
namespace {

using test::default_group;
using test::Gradients;
using test::Mishaps;
using test::Model;
using test::Random;
using test::random_model;
using test::random_steps;
using test::same_bits;
using test::same_saved_state;
using test::same_state;
using test::Snapshot;
using test::Training;
using test::with_one_v;
using test::with_options_of_whole_steps;

// Small enough for one thread.
const std::vector<std::uint64_t> kSmall{5, 0, 300, 1, 4097, 0};
// Too large for one thread alone, with a tensor of more chunks than a block of work has.
const std::vector<std::uint64_t> kLarge{0, 10'000, 70 * 4096 + 3, 3, 0, 4096};

// Each layer is a small part of the model: two threads take them whole, even where their gradients do not fit in a
// cache.
std::vector<std::uint64_t> many_alike() {
  std::vector<std::uint64_t> lengths;
  for (std::uint64_t k = 0; k < 30; ++k) lengths.push_back(8'000 + 600 * k);
  return lengths;
}

Snapshot by_steps(Training& training, const std::vector<Gradients>& steps) {
  for (const Gradients& gradients : steps) training.step(gradients);
  return training.snapshot();
}

Snapshot by_streaming(Training& training, const std::vector<Gradients>& steps) {
  for (const Gradients& gradients : steps) training.stream(gradients);
  return training.snapshot();
}

std::string name_of(const Model& model, int round) {
  return "round " + std::to_string(round) + ", " + std::to_string(model.options.terms) + " terms" +
         (model.options.form.one_v    ? ", both summed"
          : model.options.form.summed ? ", summed"
                                      : "") +
         (model.options.form.amsgrad ? ", amsgrad" : "");
}

// ---- The same bits

TEST(Optimizer, StepsAsAccumulatingAndUpdatingDoes) {
  Random random(21);
  for (int round = 0; round < 600; ++round) {
    const Model model = with_one_v(random, random_model(random, kSmall, 1 + static_cast<std::uint32_t>(round % 12)));
    SCOPED_TRACE(name_of(model, round));
    Training stepping(model, 1);
    Training streaming(model, 1);
    for (const Gradients& gradients : random_steps(random, model, 6)) {
      stepping.step(gradients);
      streaming.stream(gradients);
      ASSERT_TRUE(same_state(stepping.snapshot(), streaming.snapshot()));
    }
  }
}

TEST(Optimizer, GivesTheSameBitsInEveryInstructionSet) {
  Random random(22);
  for (int round = 0; round < 120; ++round) {
    Model model = random_model(random, kSmall, 1 + static_cast<std::uint32_t>(round % 12));
    model = with_one_v(random, with_options_of_whole_steps(random, model));
    SCOPED_TRACE(name_of(model, round));
    const std::vector<Gradients> steps = random_steps(random, model, 5);
    Training baseline(model, 1, "baseline");
    const Snapshot expected = by_steps(baseline, steps);
    for (const InstructionSet& set : instruction_sets()) {
      Training other(model, 1, set.name);
      EXPECT_TRUE(same_state(expected, by_steps(other, steps))) << set.name;
    }
  }
}

void expect_same_bits_on_threads(const Model& model, const std::vector<Gradients>& steps) {
  SCOPED_TRACE(name_of(model, 0));
  Training alone(model, 1);
  const Snapshot expected = by_steps(alone, steps);
  for (const unsigned threads : {2u, 7u, 64u}) {
    Training stepping(model, threads);
    EXPECT_TRUE(same_state(expected, by_steps(stepping, steps))) << threads << " threads";
    Training streaming(model, threads);
    EXPECT_TRUE(same_state(expected, by_streaming(streaming, steps))) << threads << " threads, streamed";
  }
}

TEST(Optimizer, GivesTheSameBitsOnAnyNumberOfThreads) {
  Random random(23);
  for (const std::uint32_t terms : {1, 3, 5, 12}) {
    Model model = random_model(random, kLarge, terms);
    expect_same_bits_on_threads(model, random_steps(random, model, 3));
    model.options.form.summed = model.options.form.one_v = true;
    expect_same_bits_on_threads(model, random_steps(random, model, 3));
  }
}

TEST(Optimizer, GivesTheSameBitsOnAnyNumberOfThreadsForEqualLayers) {
  Random random(29);
  for (const std::uint32_t terms : {3, 12}) {
    const Model model = random_model(random, many_alike(), terms);
    expect_same_bits_on_threads(model, random_steps(random, model, 2));
  }
}

TEST(Optimizer, GivesTheSameBitsWhereTwoShareADevice) {
  Random random(24);
  const Model model = random_model(random, kLarge, 2);
  const std::vector<Gradients> steps = random_steps(random, model, 6);
  Training alone(model, 1);
  const Snapshot expected = by_steps(alone, steps);
  const auto device = std::make_shared<CpuDevice>(3);
  Training here(model, device);
  Training there(model, device);
  Snapshot from_there;
  std::thread other([&] { from_there = by_steps(there, steps); });
  EXPECT_TRUE(same_state(expected, by_steps(here, steps)));
  other.join();
  EXPECT_TRUE(same_state(expected, from_there));
}

TEST(Optimizer, GivesTheSameBitsToACallerThatRoundsUpwards) {
  Random random(26);
  const Model model = random_model(random, kSmall, 3);
  const std::vector<Gradients> steps = random_steps(random, model, 3);
  Training usual(model, 2);
  const Snapshot expected = by_steps(usual, steps);
  std::fesetround(FE_UPWARD);
  Training rounding(model, 2);
  for (const Gradients& gradients : steps) rounding.step(gradients);
  std::fesetround(FE_TONEAREST);
  EXPECT_TRUE(same_state(expected, rounding.snapshot()));
}

#if defined(__x86_64__) || defined(_M_X64)

TEST(Optimizer, GivesTheSameBitsToACallerThatFlushesSubnormals) {
  Random random(25);
  for (const std::vector<std::uint64_t>& lengths : {kSmall, kLarge}) {
    const Model model = random_model(random, lengths, 3);
    const std::vector<Gradients> steps = random_steps(random, model, 3);
    Training usual(model, 2);
    const Snapshot expected = by_steps(usual, steps);
    const unsigned saved = _mm_getcsr();
    _mm_setcsr(saved | 0x8040);  // flush to zero, denormals are zero
    Training flushing(model, 2);
    for (const Gradients& gradients : steps) flushing.step(gradients);
    _mm_setcsr(saved);
    EXPECT_TRUE(same_state(expected, flushing.snapshot()));
  }
}

#endif

// Two tensors of whole chunks with one tag have the same chunks as one tensor of their total length.
TEST(Optimizer, TreatsTensorsOfOneTagAsOneTensor) {
  Random random(26);
  constexpr std::uint64_t kFirst = 3 * 4096;
  const Model whole = random_model(random, {kFirst + 150 * 4096 + 77}, 3);
  Model parts = whole;
  const auto split = [](const std::vector<float>& values) {
    const auto middle = values.begin() + kFirst;
    return std::pair(std::vector<float>(values.begin(), middle), std::vector<float>(middle, values.end()));
  };
  const auto [first, second] = split(whole.theta[0]);
  const std::uint32_t group = whole.parameters[0].group;
  parts.parameters = {{first.size(), 0, group}, {second.size(), 0, group}};
  parts.theta = {first, second};

  Training as_whole(whole, 2);
  Training as_parts(parts, 2);
  for (const Gradients& gradients : random_steps(random, whole, 3, {0.1, 0, 0, 0})) {
    Gradients of_parts(gradients.size());
    for (std::size_t term = 0; term < gradients.size(); ++term) {
      of_parts[term].resize(2);
      if (gradients[term][0]) std::tie(of_parts[term][0], of_parts[term][1]) = split(*gradients[term][0]);
    }
    as_whole.step(gradients);
    as_parts.step(of_parts);
  }
  std::vector<float> joined = as_parts.theta()[0];
  const std::vector<float> rest = as_parts.theta()[1];
  joined.insert(joined.end(), rest.begin(), rest.end());
  EXPECT_TRUE(same_bits(as_whole.theta()[0], joined));
}

// r, computed simply. More chunks than lanes, mostly of small tensors, with interleaved tags and absent tensors. A few
// large squares among many below half a unit of their last place, which are lost or kept depending on the order of the
// sum.
TEST(Optimizer, SumsALayersSquaresInTheCanonicalOrder) {
  Random random(27);
  for (int round = 0; round < 30; ++round) {
    std::vector<std::uint64_t> lengths{3 * 4096 + 5, 0};
    for (int small = 0; small < 300; ++small) lengths.push_back(random.below(20));
    Model model = random_model(random, lengths, 2);
    for (ParameterShape& shape : model.parameters) shape.layer = 0;
    for (std::size_t tensor = 2; tensor < lengths.size(); tensor += 1 + random.below(6)) {
      model.parameters[tensor].layer = 1;
    }
    model.gradient_scale = 3;  // the root is divided by it
    Gradients gradients = test::random_gradients(random, model, {0, 0.1, 0, 0});
    for (std::vector<std::optional<std::vector<float>>>& of_term : gradients) {
      for (std::optional<std::vector<float>>& gradient : of_term) {
        if (!gradient) continue;
        for (float& value : *gradient) value = static_cast<float>(random.between(-0.2, 0.2));
        if (!gradient->empty() && random.chance(0.02)) gradient->front() = 0x1p26f;
      }
    }

    Training training(model, round % 2 == 0 ? 1 : 7);
    training.step(gradients);
    for (std::uint32_t term = 0; term < 2; ++term) {
      for (std::uint32_t layer = 0; layer < 2; ++layer) {
        std::vector<double> chunk_sums;
        for (std::size_t tensor = 0; tensor < lengths.size(); ++tensor) {
          if (model.parameters[tensor].layer != layer) continue;
          const std::vector<float> zeros(lengths[tensor]);
          const std::vector<float>& g = gradients[term][tensor] ? *gradients[term][tensor] : zeros;
          for (std::size_t begin = 0; begin < g.size(); begin += 4096) {
            const std::size_t count = std::min<std::size_t>(4096, g.size() - begin);
            chunk_sums.push_back(test::canonical_chunk_sum(g.data() + begin, count));
          }
        }
        const double r = std::sqrt(test::canonical_layer_sum(chunk_sums)) / 3;
        ASSERT_TRUE(same_bits(r, training.optimizer().norm_states(term)[layer].r))
            << "round " << round << ", term " << term << ", layer " << layer << ", chunks " << chunk_sums.size();
      }
    }
  }
}

// 1 − 0.999 in float32 would be off by 5e-5, and so would all later steps.
TEST(Optimizer, RoundsValuesDerivedFromOptionsOnce) {
  Model model;
  model.parameters = {{1, 0, 0}};
  model.groups = {default_group()};
  model.weights = {1};
  model.theta = {{0}};
  Training training(model, 1);
  training.step({{std::vector<float>{1}}});  // n_a/n = 1: the moments are 1 − β₁ and 1 − β₂
  float m = 0, v = 0;
  training.optimizer().read_plane({Plane::m, 0, 0, 0, 1}, &m);
  training.optimizer().read_plane({Plane::v, 0, 0, 0, 1}, &v);
  EXPECT_TRUE(same_bits(m, static_cast<float>(1 - 0.9)));
  EXPECT_TRUE(same_bits(v, static_cast<float>(1 - 0.999)));
}

// ---- Absent is not zero

// With decay, and with momentum from an earlier step: either would move a parameter.
TEST(Optimizer, ChangesNothingWhereEveryTermIsAbsent) {
  for (const int summed : {0, 1, 2}) {
    for (const bool decoupled : {false, true}) {
      Random random(28);
      Model model = random_model(random, kSmall, 5);
      model.options.form.summed = summed > 0;
      model.options.form.one_v = summed > 1;
      for (GroupOptions& group : model.groups) {
        group.weight_decay = 0.1;
        group.decoupled = decoupled;
      }
      Training training(model, 1);
      training.step(test::random_gradients(random, model, {0, 0, 0, 0}));
      const Snapshot before = training.snapshot();
      const Gradients none = test::random_gradients(random, model, {1, 0, 0, 0});
      training.step(none);
      EXPECT_TRUE(same_state(before, training.snapshot()));
      training.stream(none);
      EXPECT_TRUE(same_state(before, training.snapshot()));
      training.optimizer().update();  // nothing accumulated
      EXPECT_TRUE(same_state(before, training.snapshot()));
    }
  }
}

TEST(Optimizer, MovesOnlyTensorsWithAGradient) {
  for (const int summed : {0, 1, 2}) {
    Random random(29);
    Model model = random_model(random, {40, 40, 40}, 2);
    model.options.form.summed = summed > 0;
    model.options.form.one_v = summed > 1;
    for (GroupOptions& group : model.groups) group.weight_decay = 0.1;
    model.weights = {1, 1};
    Training training(model, 1);
    training.step(test::random_gradients(random, model, {0, 0, 0, 0}));
    const Snapshot before = training.snapshot();
    Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
    gradients[0][1].reset();
    gradients[1][1].reset();
    gradients[1][2].reset();
    training.step(gradients);
    EXPECT_FALSE(same_bits(before.theta[0], training.theta()[0]));
    EXPECT_TRUE(same_bits(before.theta[1], training.theta()[1]));
    EXPECT_FALSE(same_bits(before.theta[2], training.theta()[2]));
    const std::vector<Clock> first = training.optimizer().clocks(0);
    const std::vector<Clock> second = training.optimizer().clocks(1);
    EXPECT_EQ(first[0].t, 2);
    EXPECT_EQ(first[1].t, 1);
    EXPECT_EQ(first[2].t, 2);
    EXPECT_EQ(second[0].t, 2);
    EXPECT_EQ(second[1].t, 1);
    EXPECT_EQ(second[2].t, 1);
    if (summed == 0) continue;
    const std::vector<Clock> shared = training.optimizer().shared_clocks();
    EXPECT_EQ(shared[0].t, 2) << "once a step, not once a term";
    EXPECT_EQ(shared[1].t, 1);
    EXPECT_EQ(shared[2].t, 2);
  }
}

TEST(Optimizer, GivesATermOfWeightZeroANormAndAClockButNoPartInTheStep) {
  Model model;
  model.parameters = {{4, 0, 0}};
  model.options.terms = 2;
  model.groups = {default_group()};
  model.weights = {1, 0};
  model.theta = {{1, 2, 3, 4}};
  Training training(model, 1);
  training.step({{std::vector<float>{1, 1, 1, 1}}, {std::vector<float>{3, 4, 0, 0}}});
  const NormState norm = training.optimizer().norm_states(1)[0];
  EXPECT_EQ(norm.n, 5);
  EXPECT_EQ(norm.s, 0);
  EXPECT_EQ(training.optimizer().clocks(1)[0].t, 1);
  std::vector<float> m(4, 1.0f);
  training.optimizer().read_plane({Plane::m, 1, 0, 0, 4}, m.data());
  EXPECT_EQ(m, std::vector<float>(4, 0.0f));
}

TEST(Optimizer, AcceptsNewWeightsForSomeTerms) {
  Random random(33);
  Model model = random_model(random, kSmall, 4);
  model.weights = {1, 2, 3, 4};
  Model other = model;
  other.weights = {1, 0.5, 0, 4};
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  Training changed(model, 1);
  changed.optimizer().set_weights(1, {0.5, 0});
  changed.step(gradients);
  Training made_so(other, 1);
  made_so.step(gradients);
  EXPECT_TRUE(same_state(made_so.snapshot(), changed.snapshot()));
}

// ---- Both moments summed

Model model_with_one_v(Random& random, std::uint32_t terms) {
  Model model = random_model(random, kSmall, terms);
  model.options.form = {true, random.chance(0.5), random.chance(0.3)};
  model.options.form.one_v = true;
  return model;
}

// G is dropped with the step; norms and the terms' clocks keep what came.
TEST(Optimizer, DiscardsAStepWithoutATraceInSharedMomentsAndClocks) {
  Random random(37);
  for (int round = 0; round < 60; ++round) {
    const Model model = test::with_units(random, model_with_one_v(random, 1 + static_cast<std::uint32_t>(round % 5)));
    if (model.options.form.non_finite == NonFinite::kPropagate) continue;  // NaN is unequal to itself
    SCOPED_TRACE(name_of(model, round));
    Training training(model, 1);
    for (const Gradients& gradients : random_steps(random, model, 3)) {
      training.stream(gradients);
      const Snapshot before = training.snapshot();
      const std::vector<Clock> clocks = training.optimizer().shared_clocks();
      training.accumulate(0, test::random_gradients(random, model, {0, 0.3, 0, 0}));
      training.optimizer().discard();
      const Snapshot after = training.snapshot();
      ASSERT_EQ(before.planes, after.planes);
      ASSERT_EQ(before.theta, after.theta);
      const std::vector<Clock> left = training.optimizer().shared_clocks();
      for (std::size_t tensor = 0; tensor < clocks.size(); ++tensor) {
        ASSERT_EQ(left[tensor].t, clocks[tensor].t);
        ASSERT_TRUE(same_bits(left[tensor].p1, clocks[tensor].p1));
        ASSERT_TRUE(same_bits(left[tensor].p2, clocks[tensor].p2));
      }
    }
  }
}

TEST(Optimizer, HasThePlaneOfTheSumFromTheFirstAccumulateOn) {
  Random random(38);
  const Model model = model_with_one_v(random, 3);
  Training training(model, 1);
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  training.step(gradients);
  EXPECT_FALSE(training.optimizer().gathers());
  training.stream(gradients);
  EXPECT_TRUE(training.optimizer().gathers());
}

// ---- Norms that are not finite

// The term counts as absent in the whole layer, and takes part in the others.
TEST(Optimizer, SkipsATermInTheLayersWhereItsNormIsNotFinite) {
  Random random(30);
  for (int round = 0; round < 60; ++round) {
    const std::uint32_t terms = 1 + static_cast<std::uint32_t>(round % 5);
    Model model = with_one_v(random, random_model(random, {50, 4097, 0, 9, 200}, terms));
    const std::vector<std::uint32_t> layers{0, 1, 0, 0, 2};
    for (std::size_t tensor = 0; tensor < layers.size(); ++tensor) model.parameters[tensor].layer = layers[tensor];
    SCOPED_TRACE(name_of(model, round));

    const std::vector<Gradients> usual = random_steps(random, model, 4, {0.1, 0.1, 0.1, 0});
    std::vector<Gradients> spoiled = usual;
    std::vector<Gradients> without = usual;
    const std::uint32_t term = static_cast<std::uint32_t>(random.below(terms));
    std::uint64_t skipped = 0;
    for (const std::size_t step : {1u, 2u}) {
      if (!usual[step][term][3]) continue;
      (*spoiled[step][term][3])[random.below(9)] =
          std::vector<float>{std::numeric_limits<float>::quiet_NaN(), HUGE_VALF, -HUGE_VALF}[random.below(3)];
      for (const std::size_t tensor : {0u, 2u, 3u}) without[step][term][tensor].reset();
      skipped += 1;
    }

    Training spoiled_by_steps(model, 1);
    Training spoiled_by_streaming(model, 1);
    Training absent(model, 1);
    const Snapshot expected = by_steps(absent, without);
    EXPECT_TRUE(same_saved_state(expected, by_steps(spoiled_by_steps, spoiled)));
    EXPECT_TRUE(same_saved_state(expected, by_streaming(spoiled_by_streaming, spoiled)));
    for (Training* training : {&spoiled_by_steps, &spoiled_by_streaming}) {
      for (std::uint32_t i = 0; i < terms; ++i) {
        for (std::uint32_t layer = 0; layer < 3; ++layer) {
          EXPECT_EQ(training->optimizer().norm_states(i)[layer].skipped, i == term && layer == 0 ? skipped : 0);
        }
      }
    }
    const std::vector<std::vector<float>> reached = spoiled_by_steps.theta();
    for (const std::vector<float>& theta : reached) {
      for (const float value : theta) ASSERT_TRUE(std::isfinite(value));
    }
  }
}

// On every way to take a step: after a roll-back the state is as if the step had not come, except for r and the counts
// of skipped norms.
TEST(Optimizer, RollsBackAStepWithANormThatIsNotFinite) {
  Random random(34);
  std::size_t taken_back = 0;
  for (int round = 0; round < 200; ++round) {
    const std::vector<std::uint64_t>& lengths = round % 20 == 0 ? kLarge : kSmall;
    Model model = random_model(random, lengths, 1 + static_cast<std::uint32_t>(round % 6));
    model = with_one_v(random, with_options_of_whole_steps(random, model));
    model.options.form.non_finite = NonFinite::kSkipStep;
    model.options.form.cosines = false;  // an update alone drops them
    SCOPED_TRACE(name_of(model, round));
    const unsigned threads = lengths == kLarge ? 3 : 1;
    Training training(model, threads);
    Training without(model, threads);
    std::vector<std::vector<double>> skipped(model.options.terms, std::vector<double>(model.layer_count()));
    for (const Gradients& gradients : random_steps(random, model, 8, {0.2, 0.2, 0.05, 0.08})) {
      training.step(gradients);
      bool good = true;
      for (std::uint32_t term = 0; term < model.options.terms; ++term) {
        std::vector<bool> not_finite(model.layer_count());
        for (std::size_t tensor = 0; tensor < lengths.size(); ++tensor) {
          if (!gradients[term][tensor]) continue;
          for (const float g : *gradients[term][tensor]) {
            if (!std::isfinite(g)) not_finite[model.parameters[tensor].layer] = true;
          }
        }
        for (std::size_t layer = 0; layer < not_finite.size(); ++layer) {
          skipped[term][layer] += not_finite[layer] ? 1 : 0;
          good = good && !not_finite[layer];
        }
      }
      taken_back += good ? 0 : 1;
      if (good) without.step(gradients);
      ASSERT_TRUE(same_saved_state(without.snapshot(), training.snapshot()));
      for (std::uint32_t term = 0; term < model.options.terms; ++term) {
        const std::vector<NormState> expected = without.optimizer().norm_states(term);
        const std::vector<NormState> actual = training.optimizer().norm_states(term);
        for (std::uint32_t layer = 0; layer < model.layer_count(); ++layer) {
          ASSERT_TRUE(same_bits(expected[layer].s, actual[layer].s));
          ASSERT_EQ(static_cast<double>(actual[layer].skipped), skipped[term][layer]);
        }
      }
      const Snapshot before = training.snapshot();
      training.optimizer().update();
      ASSERT_TRUE(same_state(before, training.snapshot())) << "nothing is left to move by";
    }
  }
  EXPECT_GT(taken_back, 300u);
}

TEST(Optimizer, LetsANormThatIsNotFinitePropagate) {
  for (const float value : {std::nanf(""), HUGE_VALF}) {
    Model model;
    model.parameters = {{2, 0, 0}, {1, 1, 0}};
    model.options.form.non_finite = NonFinite::kPropagate;
    model.groups = {default_group()};
    model.weights = {1};
    model.theta = {{1, 2}, {3}};
    Training training(model, 1);
    training.step({{std::vector<float>{value, 1}, std::vector<float>{1}}});
    const std::vector<NormState> norm_states = training.optimizer().norm_states(0);
    EXPECT_FALSE(std::isfinite(norm_states[0].n));
    EXPECT_EQ(norm_states[0].skipped, 0u);
    EXPECT_EQ(norm_states[1].n, 1);
    EXPECT_EQ(training.optimizer().clocks(0)[0].t, 1);
    const std::vector<std::vector<float>> theta = training.theta();
    EXPECT_TRUE(std::isnan(theta[0][0]));
    EXPECT_LT(theta[1][0], 3);
  }
}

TEST(Optimizer, PropagatesAlikeAtOnceAndTermByTerm) {
  Random random(35);
  for (int round = 0; round < 100; ++round) {
    Model model = with_one_v(random, random_model(random, kSmall, 1 + static_cast<std::uint32_t>(round % 6)));
    model.options.form.non_finite = NonFinite::kPropagate;
    SCOPED_TRACE(name_of(model, round));
    const std::vector<Gradients> steps = random_steps(random, model, 4);
    Training stepping(model, 1);
    Training streaming(model, 1);
    EXPECT_TRUE(same_state(by_steps(stepping, steps), by_streaming(streaming, steps)));
  }
}

// ---- Other anchors, and the mean

// Two terms of one element with norms 1 and 2, at once or one at a time. One at a time, the first is scaled before the
// second's norm is known.
TEST(Optimizer, AnchorsAccumulatedTermsAtTheNormsKnownSoFar) {
  Model model;
  model.parameters = {{1, 0, 0}};
  model.options.terms = 2;
  model.options.anchor = Anchor::kMax;
  model.groups = {default_group()};
  model.weights = {1, 1};
  model.theta = {{0}};
  const Gradients gradients{{std::vector<float>{1}}, {std::vector<float>{2}}};
  Training stepping(model, 1);
  stepping.step(gradients);
  EXPECT_EQ(stepping.optimizer().norm_states(0)[0].s, 2);
  EXPECT_EQ(stepping.optimizer().norm_states(1)[0].s, 1);
  Training streaming(model, 1);
  streaming.stream(gradients);
  EXPECT_EQ(streaming.optimizer().norm_states(0)[0].s, 1);
  EXPECT_EQ(streaming.optimizer().norm_states(1)[0].s, 1);
}

// Terms with equal gradients: the mean of their steps is the step of one, the sum a multiple of it.
TEST(Optimizer, TakesTheMeanOfTheTermsThatArePresent) {
  Model model;
  model.parameters = {{1, 0, 0}, {1, 1, 0}, {1, 2, 0}};
  model.options.terms = 3;
  model.options.form.mean = true;
  model.groups = {default_group()};
  model.weights = {2, 2, 2};
  model.theta = {{0}, {0}, {0}};
  const std::vector<float> g{0.5f};
  Gradients gradients{{g, g, std::nullopt}, {g, std::nullopt, std::nullopt}, {g, std::nullopt, std::nullopt}};
  Training mean(model, 1);
  mean.step(gradients);
  model.options.form.mean = false;
  Training sum(model, 1);
  sum.step(gradients);
  EXPECT_NEAR(mean.theta()[0][0], -1e-3, 1e-9);
  EXPECT_NEAR(sum.theta()[0][0], -3e-3, 1e-9);
  EXPECT_TRUE(same_bits(mean.theta()[1], sum.theta()[1])) << "one term alone";
  EXPECT_EQ(mean.theta()[2][0], 0);
}

TEST(Optimizer, TakesTheMeanWithTheWeightsOfEachAccumulate) {
  Random random(36);
  Model model = random_model(random, kSmall, 3);
  model.options.form.mean = true;
  model.weights = {1, 0.5, 4};
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  Training expected(model, 1);
  expected.step(gradients);
  // As with weights given to accumulate: they change for one term and then back.
  Training streaming(model, 1);
  streaming.stream(gradients, [&](std::uint32_t term) {
    streaming.optimizer().set_weights(0, {7, 7, 7});
    streaming.optimizer().set_weights(term, {model.weights[term]});
  });
  EXPECT_TRUE(same_state(expected.snapshot(), streaming.snapshot()));
}

// ---- Saving and restoring

void copy_state(Training& from, Training& to, const Model& model) {
  for (std::uint32_t term = 0; term < model.options.terms; ++term) {
    std::vector<SavedNorm> norm_states;
    for (const NormState& norm : from.optimizer().norm_states(term)) {
      norm_states.push_back({norm.n, norm.occurred != 0, norm.skipped});
    }
    to.optimizer().restore_norms(term, norm_states);
  }
  const auto saved = [](const std::vector<Clock>& clocks) {
    std::vector<SavedClock> all;
    for (const Clock& clock : clocks) all.push_back({clock.t, clock.p1, clock.p2});
    return all;
  };
  for (std::uint32_t term = 0; term < model.options.terms; ++term) {
    to.optimizer().restore_clocks(term, saved(from.optimizer().clocks(term)));
  }
  if (model.options.form.summed) to.optimizer().restore_shared_clocks(saved(from.optimizer().shared_clocks()));
  for (const auto& [plane, term] : from.planes()) {
    for (std::uint32_t tensor = 0; tensor < model.parameters.size(); ++tensor) {
      std::vector<float> values(model.theta[tensor].size());
      // In two pieces, to test ranges, too.
      const std::size_t half = values.size() / 2;
      const PlaneRange front{plane, term, tensor, 0, half};
      const PlaneRange back{plane, term, tensor, half, values.size() - half};
      for (const PlaneRange& range : {back, front}) {
        from.optimizer().read_plane(range, values.data() + range.first);
        to.optimizer().write_plane(range, values.data() + range.first);
      }
    }
  }
}

TEST(Optimizer, GoesOnFromARestoredStateWithTheSameBits) {
  Random random(31);
  for (int round = 0; round < 120; ++round) {
    Model model = with_one_v(random, random_model(random, kSmall, 1 + static_cast<std::uint32_t>(round % 6)));
    const bool whole_steps = round % 3 == 0;
    if (whole_steps) model = with_options_of_whole_steps(random, model);
    SCOPED_TRACE(name_of(model, round));
    // Many absences: a restored clock must also work for a term that is absent at first.
    const std::vector<Gradients> steps = random_steps(random, model, 6, {0.3, 0.2, 0.05, 0.05});
    Training training(model, 1);
    for (std::size_t k = 0; k < 3; ++k) training.step(steps[k]);

    model.theta = training.theta();
    Training restored(model, 1);
    copy_state(training, restored, model);
    ASSERT_TRUE(same_saved_state(training.snapshot(), restored.snapshot()));
    for (std::size_t k = 3; k < steps.size(); ++k) {
      training.step(steps[k]);
      if (whole_steps || round % 2 == 0) {
        restored.step(steps[k]);
      } else {
        restored.stream(steps[k]);
      }
      ASSERT_TRUE(same_saved_state(training.snapshot(), restored.snapshot())) << "step " << k;
    }
  }
}

// The optimizer that is restored into may have been used before.
TEST(Optimizer, ReplacesItsStateByTheRestoredOne) {
  Random random(32);
  for (const int summed : {0, 1, 2}) {
    Model model = random_model(random, kSmall, 3);
    model.options.form = {summed > 0, true};
    model.options.form.one_v = summed > 1;
    Training training(model, 1);
    by_steps(training, random_steps(random, model, 2));
    Model moved = model;
    moved.theta = training.theta();
    Training used(moved, 1);
    used.step(test::random_gradients(random, model, {0, 0, 0, 0}));
    const std::vector<std::vector<float>> after_use = used.theta();
    copy_state(training, used, model);
    Model from_there = model;
    from_there.theta = after_use;
    Training fresh(from_there, 1);
    copy_state(training, fresh, model);
    const std::vector<Gradients> steps = random_steps(random, model, 3);
    EXPECT_TRUE(same_saved_state(by_steps(fresh, steps), by_steps(used, steps)));
  }
}

}  // namespace
}  // namespace mtadam
