#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "test/cuda/on_device.h"
#include "test/training.h"

// Each replay takes the captured step, with the options that are set then.

namespace mtadam {
namespace {

using test::Gradients;
using test::Model;
using test::Random;
using test::same_state;
using test::Training;

using CapturedSteps = test::OnDevice;

TEST_F(CapturedSteps, AreStepsWhenReplayed) {
  Random random(78);
  const int count = rounds(12);
  for (int round = 0; round < count; ++round) {
    const auto terms = static_cast<std::uint32_t>(1 + round % 9);
    Model drawn = test::with_options_of_whole_steps(random, test::random_model(random, {5, 0, 4099, 300}, terms));
    const Model model = test::with_units(random, std::move(drawn));
    const Gradients gradients = test::random_gradients(random, model, {});
    Training on_cpu(model, 1), on_cuda(model, open());
    on_cpu.place(gradients);
    on_cuda.place(gradients);
    const std::unique_ptr<CapturedStep> step = on_cuda.capture();
    ASSERT_TRUE(same_state(on_cpu.snapshot(), on_cuda.snapshot())) << "the capture took a step; round " << round;
    for (int replay = 0; replay < 4; ++replay) {
      on_cpu.step_again();
      on_cuda.replay(*step);
    }
    ASSERT_TRUE(same_state(on_cpu.snapshot(), on_cuda.snapshot())) << terms << " terms, round " << round;
  }
}

TEST_F(CapturedSteps, UseTheOptionsOfEachReplayInTurnWithOtherSteps) {
  Random random(79);
  Model model = test::random_model(random, {5, 4099, 300}, 3);
  const Gradients gradients = test::random_gradients(random, model, {0, 0.2, 0, 0});
  Training on_cpu(model, 1), on_cuda(model, open());
  on_cpu.place(gradients);
  on_cuda.place(gradients);
  const std::unique_ptr<CapturedStep> step = on_cuda.capture();
  for (int turn = 0; turn < 9; ++turn) {
    for (GroupOptions& group : model.groups) group.lr = random.between(1e-4, 1e-2);
    for (double& weight : model.weights) weight = random.between(0, 3);
    for (Training* const training : {&on_cpu, &on_cuda}) {
      training->set_groups(model.groups);
      training->optimizer().set_weights(0, model.weights);
    }
    on_cpu.step_again();
    turn % 3 == 1 ? on_cuda.step_again() : on_cuda.replay(*step);
  }
  EXPECT_TRUE(same_state(on_cpu.snapshot(), on_cuda.snapshot()));
}

TEST_F(CapturedSteps, HaveTheLaunchesOfAStep) {
  Random random(80);
  Model model = test::random_model(random, {5, 4099, 300}, 3);
  for (const bool cosines : {false, true}) {
    model.options.form.cosines = cosines;
    Training training(model, open());
    training.place(test::random_gradients(random, model, {0, 0, 0, 0}));
    std::unique_ptr<CapturedStep> step;
    EXPECT_EQ(launches_of([&] { training.step_again(); }), cosines ? 3u : 2u);
    EXPECT_EQ(launches_of([&] { step = training.capture(); }), cosines ? 3u : 2u);
    EXPECT_EQ(launches_of([&] { training.replay(*step); }), 0u);
  }
}

}  // namespace
}  // namespace mtadam
