#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "test/cuda/on_device.h"
#include "test/training.h"

// A device that takes resident steps in one launch: the same bits as the CPU, as steps, as recorded steps and among
// streamed ones; and two launches where one cannot do it.

namespace mtadam {
namespace {

using test::Alignment;
using test::Gradients;
using test::kAlignments;
using test::Model;
using test::Random;
using test::same_state;
using test::Training;

using OnePass = test::OnDevice;

/// Layers of no chunk, of one and of several, and with luck some of several tensors.
std::vector<std::uint64_t> random_lengths(Random& random) {
  std::vector<std::uint64_t> lengths(1 + random.below(9));
  for (std::uint64_t& length : lengths) {
    length = random.pick<std::uint64_t>({0, 1 + random.below(8), 20 + random.below(50), 4090 + random.below(10),
                                         (1 + random.below(6)) * 4096 + random.below(3)});
  }
  return lengths;
}

/// One that a single launch can train.
Model random_model(Random& random, std::uint32_t terms) {
  Model model = test::random_model(random, random_lengths(random), terms);
  model.options.form.amsgrad = false;
  model.options.anchor = random.pick<Anchor>({Anchor::kFirst, Anchor::kMax, Anchor::kMean, Anchor::kTerm});
  model.options.anchor_term = static_cast<std::uint32_t>(random.below(terms));
  if (random.chance(0.2)) model.options.form.non_finite = NonFinite::kPropagate;
  return model;
}

TEST_F(OnePass, GivesTheSameBits) {
  Random random(161);
  int across_groups = 0, empty_layers = 0, absent = 0, not_finite = 0;
  const int count = rounds(160);
  for (int round = 0; round < count; ++round) {
    const auto terms = static_cast<std::uint32_t>(1 + random.below(4));
    const Model model = random_model(random, terms);
    const std::vector<Gradients> steps = test::random_steps(random, model, 4);
    Training on_cpu(model, 1), on_cuda(model, open_one_pass(), random.pick(kAlignments));
    for (const Gradients& gradients : steps) {
      const bool at_once = random.chance(0.7);
      for (Training* const training : {&on_cpu, &on_cuda}) {
        at_once ? training->step(gradients) : training->stream(gradients);
      }
      ASSERT_TRUE(same_state(on_cpu.snapshot(), on_cuda.snapshot())) << terms << " terms, round " << round;
      for (const auto& term : gradients) {
        for (const auto& gradient : term) {
          absent += !gradient;
          if (gradient)
            not_finite += std::any_of(gradient->begin(), gradient->end(), [](float g) { return !std::isfinite(g); });
        }
      }
    }
    for (const ParameterShape& a : model.parameters) {
      for (const ParameterShape& b : model.parameters) across_groups += a.layer == b.layer && a.group != b.group;
    }
    empty_layers += !on_cuda.optimizer().layout().empty_layers().empty();
  }
  if (count < 50) return;
  for (const int reached : {across_groups, empty_layers, absent, not_finite}) EXPECT_GT(reached, 0);
}

// Clocks that drift apart, terms that come and go.
TEST_F(OnePass, GivesTheSameBitsOverManySteps) {
  Random random(162);
  for (const bool summed : {false, true}) {
    Model model = test::random_model(random, {5, 0, 4099, 1, 70}, 2);
    model.options.form = {summed, false};
    Training on_cpu(model, 1), on_cuda(model, open_one_pass(), Alignment::kAnyhow);
    const int count = rounds(60);
    for (int step = 0; step < count; ++step) {
      for (Training* const training : {&on_cpu, &on_cuda}) {
        if (step == count / 3) training->add_term(0.5);
        if (step == count / 2) training->remove_term(0);
      }
      if (step == count / 3) model.options.terms += 1;
      if (step == count / 2) model.options.terms -= 1;
      const Gradients gradients = test::random_gradients(random, model, {0.2, 0.2, 0.05, 0.02});
      on_cpu.step(gradients);
      on_cuda.step(gradients);
    }
    ASSERT_TRUE(same_state(on_cpu.snapshot(), on_cuda.snapshot())) << "summed " << summed;
  }
}

TEST_F(OnePass, GivesTheSameBitsForLayersOfManyChunks) {
  Random random(163);
  // More chunks in a layer than norms run ahead by, and than a layer's sum has lanes.
  const auto long_one = static_cast<std::uint64_t>(rounds(140)) * 4096 + 5;
  const Model model = random_model(random, 3);
  Model large = model;
  large.parameters.clear();
  large.theta.clear();
  for (const std::uint64_t length : {std::uint64_t{300}, long_one, std::uint64_t{9000}}) {
    large.parameters.push_back({length, static_cast<std::uint32_t>(large.parameters.size()), 0});
    large.theta.emplace_back(length, 0.25f);
  }
  Training on_cpu(large, 1), on_cuda(large, open_one_pass(), Alignment::kAnyhow);
  for (const Gradients& gradients : test::random_steps(random, large, 2, {0, 0, 0, 0})) {
    on_cpu.step(gradients);
    on_cuda.step(gradients);
  }
  EXPECT_TRUE(same_state(on_cpu.snapshot(), on_cuda.snapshot()));
}

TEST_F(OnePass, IsOneLaunch) {
  Random random(164);
  for (const bool summed : {false, true}) {
    for (const std::uint32_t terms : {1u, 2u, 3u, 4u}) {
      Model model = test::random_model(random, {5, 0, 4099, 300}, terms);
      model.options.form = {summed, false};
      Training training(model, open_one_pass());
      training.place(test::random_gradients(random, model, {0, 0, 0, 0}));
      std::unique_ptr<RecordedStep> step;
      EXPECT_EQ(launches_of([&] { training.step_again(); }), 1u);
      EXPECT_EQ(launches_of([&] { step = training.record(); }), 1u);
      EXPECT_EQ(launches_of([&] { training.replay(*step); }), 0u);
    }
  }
}

TEST_F(OnePass, IsTwoLaunchesOrMoreWhereOneCannotDoIt) {
  Random random(165);
  const Model plain = [&] {
    Model model = test::random_model(random, {5, 4099, 300}, 3);
    model.options.form = {};
    return model;
  }();
  const auto launches = [&](const Model& model) {
    Training training(model, open_one_pass());
    const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
    training.place(gradients);
    const std::uint64_t count = launches_of([&] { training.step_again(); });
    Training on_cpu(model, 1);
    on_cpu.step(gradients);
    EXPECT_TRUE(same_state(on_cpu.snapshot(), training.snapshot()));
    return count;
  };
  Model model = plain;
  model.options.form.amsgrad = true;
  EXPECT_EQ(launches(model), 2u) << "amsgrad";
  model = plain;
  model.options.form.non_finite = NonFinite::kSkipStep;
  EXPECT_EQ(launches(model), 2u) << "a step that is taken back whole";
  model = plain;
  model.options.form.cosines = true;
  EXPECT_EQ(launches(model), 3u) << "cosines";
  model = test::random_model(random, {5, 4099, 300}, 5);
  model.options.form = {};
  EXPECT_EQ(launches(model), 2u) << "five terms";
}

TEST_F(OnePass, ReplayedIsAStep) {
  Random random(166);
  const int count = rounds(12);
  for (int round = 0; round < count; ++round) {
    Model model = random_model(random, static_cast<std::uint32_t>(1 + round % 4));
    const Gradients gradients = test::random_gradients(random, model, {});
    Training on_cpu(model, 1), on_cuda(model, open_one_pass(), random.pick(kAlignments));
    on_cpu.place(gradients);
    on_cuda.place(gradients);
    const std::unique_ptr<RecordedStep> step = on_cuda.record();
    ASSERT_TRUE(same_state(on_cpu.snapshot(), on_cuda.snapshot())) << "recording took a step; round " << round;
    for (int turn = 0; turn < 5; ++turn) {
      for (GroupOptions& group : model.groups) group.lr = random.between(1e-4, 1e-2);
      for (Training* const training : {&on_cpu, &on_cuda}) training->set_groups(model.groups);
      on_cpu.step_again();
      turn % 3 == 1 ? on_cuda.step_again() : on_cuda.replay(*step);
    }
    ASSERT_TRUE(same_state(on_cpu.snapshot(), on_cuda.snapshot())) << "round " << round;
  }
}

}  // namespace
}  // namespace mtadam
