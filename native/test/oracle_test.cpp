#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "oracle.h"
#include "training.h"

// Compares steps of the CPU device with the oracle.

namespace mtadam {
namespace {

using test::default_group;
using test::expect_close;
using test::Gradients;
using test::Mishaps;
using test::Model;
using test::Oracle;
using test::Random;
using test::random_gradients;
using test::random_model;
using test::Training;
using test::with_lagged_scales;
using test::with_one_v;
using test::with_options_of_whole_steps;

/// Takes a step with both and compares parameters, norms, scales and clocks.
void step_both(Training& training, Oracle& oracle, const Model& model, const Gradients& gradients,
               bool streams = false) {
  streams ? training.stream(gradients) : training.step(gradients);
  oracle.step(gradients);
  ASSERT_NO_FATAL_FAILURE(expect_close(oracle.theta(), training.theta()));
  for (std::uint32_t term = 0; term < model.options.terms; ++term) {
    const std::vector<NormState> norm_states = training.optimizer().norm_states(term);
    for (std::uint32_t layer = 0; layer < model.layer_count(); ++layer) {
      const double n = oracle.norm(term, layer);
      ASSERT_NEAR(norm_states[layer].n, n, 1e-13 * n);
      const double s = oracle.scale(term, layer);
      ASSERT_NEAR(norm_states[layer].s, s, 1e-13 * s);
      ASSERT_EQ(norm_states[layer].occurred != 0, oracle.occurred(term, layer));
      ASSERT_EQ(static_cast<double>(norm_states[layer].skipped), oracle.skipped(term, layer));
    }
    ASSERT_NO_FATAL_FAILURE(expect_close(oracle.clocks(term), training.optimizer().clocks(term)));
  }
  if (model.options.form.summed) {
    ASSERT_NO_FATAL_FAILURE(expect_close(oracle.shared_clocks(), training.optimizer().shared_clocks()));
  }
}

TEST(Oracle, AgreesWithStepsOfEveryKind) {
  Random random(41);
  for (int round = 0; round < 480; ++round) {
    const std::uint32_t terms = 1 + static_cast<std::uint32_t>(round % 6);
    Model model = with_options_of_whole_steps(random, random_model(random, {30, 0, 1, 200, 65}, terms));
    if (random.chance(0.4)) model = with_lagged_scales(random, model);
    model = with_one_v(random, model);
    if (model.options.form.non_finite == NonFinite::kPropagate) continue;  // NaNs are compared elsewhere
    SCOPED_TRACE("round " + std::to_string(round) + ", " + std::to_string(terms) + " terms" +
                 (model.options.form.one_v ? ", both" : "") + (model.options.form.summed ? ", summed" : "") +
                 (model.options.form.amsgrad ? ", amsgrad" : "") + (model.options.form.lagged ? ", lagged" : ""));
    Training training(model, 1);
    Oracle oracle(model);
    for (int step = 0; step < 6; ++step) {
      if (step == 3) {  // a schedule, from the fourth step on
        std::vector<GroupOptions> groups = model.groups;
        for (GroupOptions& group : groups)
          group = {group.lr / 2,       group.beta1 / 2 + 0.4, 0.99,          group.beta3, group.eps,
                   group.weight_decay, group.decoupled,       group.maximize};
        training.set_groups(groups);
        oracle.set_groups(groups);
      }
      const Gradients gradients = random_gradients(random, model, {0.15, 0.2, 0.1, 0.03, 0.03});
      ASSERT_NO_FATAL_FAILURE(step_both(training, oracle, model, gradients)) << "step " << step;
    }
  }
}

/// Two layers of one tensor each, three terms, nothing absent.
Model plain_model(bool summed) {
  Model model;
  model.parameters = {{33, 0, 0}, {20, 1, 0}};
  model.options.terms = 3;
  model.options.form = {summed, false};
  model.groups = {default_group()};
  model.groups[0].lr = 0.1;  // a wrong scalar shows in θ above the tolerance
  model.weights = {1, 0.5, 2};
  model.theta = {std::vector<float>(33, 0.25f), std::vector<float>(20, -0.5f)};
  return model;
}

/// The same with lagged scales. `summed`: how many moments are; `length`: of the first tensor.
Model plain_lagged_model(Random& random, int summed, std::uint64_t length = 33) {
  Model model = with_lagged_scales(random, plain_model(summed > 0));
  model.parameters[0].length = length;
  model.theta[0].assign(length, 0.25f);
  model.options.form.one_v = summed == 2;
  model.options.form.non_finite = NonFinite::kSkipElement;
  return model;
}

const Mishaps kNoMishaps{0, 0, 0, 0};

/// The third term first occurs in a step that is rolled back. The second term is absent in the step after that, which
/// reads its b where first moments are summed.
TEST(Oracle, AgreesAfterAStepIsRolledBack) {
  for (const bool summed : {false, true}) {
    Model model = plain_model(summed);
    model.options.form.non_finite = NonFinite::kSkipStep;
    Random random(44);
    Training training(model, 1);
    Oracle oracle(model);
    const auto step = [&](const std::vector<std::uint32_t>& absent, bool finite) {
      Gradients gradients = random_gradients(random, model, kNoMishaps);
      for (const std::uint32_t term : absent) gradients[term] = {std::nullopt, std::nullopt};
      if (!finite) (*gradients[0][1])[7] = HUGE_VALF;
      step_both(training, oracle, model, gradients);
    };
    SCOPED_TRACE(summed ? "summed" : "per term");
    ASSERT_NO_FATAL_FAILURE(step({2}, true));
    ASSERT_NO_FATAL_FAILURE(step({2}, true));
    ASSERT_NO_FATAL_FAILURE(step({}, false));
    ASSERT_NO_FATAL_FAILURE(step({1, 2}, true));
    ASSERT_NO_FATAL_FAILURE(step({}, true));
    ASSERT_NO_FATAL_FAILURE(step({}, false));
    ASSERT_NO_FATAL_FAILURE(step({}, true));
  }
}

/// Gradients that are too large for an anchor, too large once scaled, or so large that they are only scaled down; and
/// with a tiny gradient scale, factors that float32 cannot hold.
TEST(Oracle, AgreesWhereGradientsLeaveFloat32) {
  Random random(45);
  int skipped = 0, taken = 0;
  for (int round = 0; round < 200; ++round) {
    Model model = plain_model(random.chance(0.5));
    model.options.anchor = random.pick<Anchor>({Anchor::kFirst, Anchor::kMax, Anchor::kMean, Anchor::kTerm});
    model.options.anchor_term = static_cast<std::uint32_t>(random.below(3));
    model.options.form.non_finite = random.pick<NonFinite>({NonFinite::kSkipTerm, NonFinite::kSkipStep});
    model.options.initial_norm = random.pick<double>({0, 1});
    model.gradient_scale = random.pick<double>({1, 0x1p-122});
    model.groups[0].lr = 0.01;  // rounding adds up over the steps
    Training training(model, 1);
    Oracle oracle(model);
    for (int step = 0; step < 8; ++step) {
      SCOPED_TRACE("round " + std::to_string(round) + ", step " + std::to_string(step));
      Gradients gradients(3);
      for (auto& term : gradients) {
        // Norms up to 1e30, of these a third above 1e18; no factor is subnormal.
        const double size = random.chance(0.6) ? 1 : std::pow(10, random.between(0, 28));
        for (const std::size_t length : {33u, 20u}) {
          std::vector<float>& values = term.emplace_back().emplace(length);
          for (float& value : values) {
            value = static_cast<float>(size * random.between(0.5, 1) * model.gradient_scale);
          }
        }
      }
      ASSERT_NO_FATAL_FAILURE(step_both(training, oracle, model, gradients));
    }
    for (std::uint32_t term = 0; term < 3; ++term) {
      skipped += static_cast<int>(oracle.skipped(term, 0));
      taken += oracle.clocks(term)[0].t;
    }
  }
  EXPECT_GT(skipped, 100);
  EXPECT_GT(taken, 1000);
}

TEST(Oracle, AgreesForEveryAnchor) {
  for (const Anchor anchor : {Anchor::kFirst, Anchor::kMax, Anchor::kMean, Anchor::kTerm}) {
    for (std::uint32_t anchor_term = 0; anchor_term < 3; ++anchor_term) {
      Model model = plain_model(false);
      model.options.anchor = anchor;
      model.options.anchor_term = anchor_term;
      Training training(model, 1);
      Oracle oracle(model);
      for (std::uint32_t step = 0; step < 4; ++step) {
        Gradients gradients(3);
        for (std::uint32_t term = 0; term < 3; ++term) {
          const float value = std::pow(10.0f, static_cast<float>((term + anchor_term + step) % 3));
          gradients[term] = {std::vector<float>(33, value), std::vector<float>(20, -value)};
        }
        ASSERT_NO_FATAL_FAILURE(step_both(training, oracle, model, gradients))
            << "anchor " << static_cast<int>(anchor) << ", term " << anchor_term << ", step " << step;
      }
    }
  }
}

/// Lagged scales in three steps: norms before the step, a gradient that is not finite, one that is too large.
TEST(Oracle, AgreesWithLaggedScales) {
  for (const int summed : {0, 1, 2}) {
    SCOPED_TRACE(std::to_string(summed) + " moments summed");
    Random random(45);
    const Model model = plain_lagged_model(random, summed);
    Training training(model, 1);
    Oracle oracle(model);
    Gradients gradients = random_gradients(random, model, kNoMishaps);
    ASSERT_NO_FATAL_FAILURE(step_both(training, oracle, model, gradients));
    for (float& value : *gradients[1][0]) value *= 50;
    ASSERT_NO_FATAL_FAILURE(step_both(training, oracle, model, gradients));
    (*gradients[0][0])[3] = std::nanf("");
    (*gradients[0][1])[4] = -HUGE_VALF;
    ASSERT_NO_FATAL_FAILURE(step_both(training, oracle, model, gradients));
    gradients[0] = random_gradients(random, model, kNoMishaps)[0];
    (*gradients[2][1])[5] = 3e38f;
    ASSERT_NO_FATAL_FAILURE(step_both(training, oracle, model, gradients));
  }
}

/// The same where a tensor has many segments and chunks. Elements rest in a few of them.
TEST(Oracle, AgreesWithLaggedScalesOverSegments) {
  constexpr std::uint64_t kLength = 2 * kChunkElements + 3 * kSegmentElements + 50;
  for (const int summed : {0, 1, 2}) {
    for (const bool streams : {false, true}) {
      SCOPED_TRACE(std::to_string(summed) + " moments summed, " + (streams ? "accumulated" : "in a step"));
      Random random(47);
      const Model model = plain_lagged_model(random, summed, kLength);
      Training training(model, 1);
      Oracle oracle(model);
      for (int step = 0; step < 4; ++step) {
        Gradients gradients = random_gradients(random, model, kNoMishaps);
        if (step > 0) {
          (*gradients[0][0])[kSegmentElements + 3] = std::nanf("");
          (*gradients[1][0])[kChunkElements - 1] = HUGE_VALF;
          (*gradients[2][0])[kChunkElements + 5] = 3e38f;
          (*gradients[0][0])[kLength - 1] = -HUGE_VALF;
        }
        ASSERT_NO_FATAL_FAILURE(step_both(training, oracle, model, gradients, streams)) << "step " << step;
      }
    }
  }
}

/// A scale beyond float32 is infinite. Then every element of the term rests, also where the gradient is 0.
TEST(Oracle, AgreesWhereALaggedScaleIsInfinite) {
  constexpr std::uint64_t kLength = kChunkElements + 2 * kSegmentElements;
  for (const int summed : {0, 1, 2}) {
    for (const bool streams : {false, true}) {
      SCOPED_TRACE(std::to_string(summed) + " moments summed, " + (streams ? "accumulated" : "in a step"));
      Random random(48);
      const Model model = plain_lagged_model(random, summed, kLength);
      Training training(model, 1);
      Oracle oracle(model);
      for (int step = 0; step < 3; ++step) {
        Gradients gradients = random_gradients(random, model, kNoMishaps);
        for (float& value : *gradients[0][0]) value = step == 0 ? 1e30f : 1e-3f;
        for (float& value : *gradients[1][0]) value = 0;
        if (step != 1) (*gradients[1][0])[0] = 1e-9f;
        ASSERT_NO_FATAL_FAILURE(step_both(training, oracle, model, gradients, streams)) << "step " << step;
      }
    }
  }
}

/// A term whose first gradient for a tensor is not finite is absent there.
TEST(Oracle, AgreesWhereAFirstGradientIsNotFinite) {
  Random random(46);
  const Model model = plain_lagged_model(random, 0);
  Training training(model, 1);
  Oracle oracle(model);
  for (int step = 0; step < 3; ++step) {
    Gradients gradients = random_gradients(random, model, kNoMishaps);
    if (step == 0) (*gradients[1][0])[2] = std::nanf("");
    ASSERT_NO_FATAL_FAILURE(step_both(training, oracle, model, gradients)) << "step " << step;
  }
}

// Adam as in its paper, with powers instead of running products.
TEST(Oracle, OneTermIsAdam) {
  Random random(42);
  Model model;
  model.parameters = {{300, 0, 0}, {5000, 1, 0}};
  model.groups = {default_group()};
  model.weights = {1};
  model.theta = {std::vector<float>(300, 0.25f), std::vector<float>(5000, -0.5f)};
  Training training(model, 2);
  std::vector<std::vector<double>> theta{std::vector<double>(300, 0.25), std::vector<double>(5000, -0.5)};
  std::vector<std::vector<double>> m{std::vector<double>(300), std::vector<double>(5000)}, v = m;
  for (int t = 1; t <= 10; ++t) {
    const Gradients gradients = random_gradients(random, model, {0, 0, 0, 0});
    training.step(gradients);
    for (std::size_t p = 0; p < theta.size(); ++p) {
      for (std::size_t e = 0; e < theta[p].size(); ++e) {
        const double g = double{(*gradients[0][p])[e]};
        m[p][e] = 0.9 * m[p][e] + 0.1 * g;
        v[p][e] = 0.999 * v[p][e] + 0.001 * g * g;
        theta[p][e] -=
            1e-3 * (m[p][e] / (1 - std::pow(0.9, t))) / (std::sqrt(v[p][e] / (1 - std::pow(0.999, t))) + 1e-8);
      }
    }
    ASSERT_NO_FATAL_FAILURE(expect_close(theta, training.theta())) << "step " << t;
  }
}

// Not exactly equal: M is rounded once per step, each m_i on its own.
TEST(Oracle, SummedMomentsAreTheSumWhenNoTermIsAbsent) {
  Random random(43);
  Model model = random_model(random, {100, 33}, 4);
  model.options.form = {false, false};
  Model summed = model;
  summed.options.form.summed = true;
  Training per_term(model, 1);
  Training together(summed, 1);
  for (int step = 0; step < 10; ++step) {
    const Gradients gradients = random_gradients(random, model, {0, 0, 0, 0});
    per_term.step(gradients);
    together.step(gradients);
  }
  for (std::size_t p = 0; p < model.theta.size(); ++p) {
    for (std::size_t e = 0; e < model.theta[p].size(); ++e) {
      EXPECT_NEAR(per_term.theta()[p][e], together.theta()[p][e], 3e-7);
    }
  }
}

}  // namespace
}  // namespace mtadam
