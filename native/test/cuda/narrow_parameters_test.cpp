#include <gtest/gtest.h>

#include <vector>

#include "test/cuda/on_device.h"
#include "test/training.h"

// The kernels move parameters in bfloat16 and float16 as the CPU does, bit by bit.

namespace mtadam {
namespace {

using test::Gradients;
using test::kAlignments;
using test::Model;
using test::Random;
using test::random_model;
using test::random_steps;
using test::same_bits;
using test::same_state;
using test::Training;
using test::with_narrow_parameters;

using NarrowParameters = test::OnDevice;

constexpr Rounding kRoundings[] = {Rounding::kStochastic, Rounding::kNearest, Rounding::kMaster};
constexpr StateType kStates[] = {StateType::kFloat32, StateType::kBfloat16, StateType::k8bit};

void expect_same(const Model& model, Training& expected, Training& actual) {
  ASSERT_TRUE(same_state(expected.snapshot(), actual.snapshot()));
  if (model.options.form.rounding != Rounding::kMaster) return;
  const std::vector<std::vector<float>> one = expected.masters(), other = actual.masters();
  for (std::size_t k = 0; k < one.size(); ++k) ASSERT_TRUE(same_bits(one[k], other[k])) << "master " << k;
}

TEST_F(NarrowParameters, HaveTheBitsOfTheCpu) {
  Random random(91);
  test::FormCounts reached;
  const int last = rounds(54);
  for (int round = 0; round < last; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    // Segments, vectors, words and chunks that are not whole.
    const std::vector<std::uint64_t> lengths{4096 + random.below(130), 1 + random.below(60), 8000 + random.below(300),
                                             200 + random.below(100)};
    const auto terms = static_cast<std::uint32_t>(1 + random.below(4));
    Model model = with_units(random, with_one_v(random, random_model(random, lengths, terms)));
    if (model.options.form.lagged) model.options.form.non_finite = NonFinite::kSkipElement;
    model = with_narrow_parameters(random, with_state(model, kStates[round % 3]), kRoundings[round / 3 % 3]);
    if (random.chance(0.5)) model = with_narrow_gradients(random, model);
    reached.add(model.options.form);
    Training expected(model, 1), actual(model, open(), random.pick(kAlignments));
    for (const Gradients& gradients : random_steps(random, model, 3)) {
      const bool streams = random.chance(0.4);
      for (Training* const training : {&expected, &actual}) {
        streams ? training->stream(gradients) : training->step(gradients);
      }
    }
    ASSERT_NO_FATAL_FAILURE(expect_same(model, expected, actual));
  }
  if (last < 54) return;
  EXPECT_TRUE(reached.all());
}

TEST_F(NarrowParameters, AreMovedByACapturedStep) {
  Random random(92);
  for (const Rounding rounding : kRoundings) {
    const Model model = with_narrow_parameters(random, random_model(random, {5000, 7}, 2), rounding);
    const Gradients gradients = random_gradients(random, model, {0, 0, 0, 0});
    Training expected(model, 1), actual(model, open());
    actual.place(gradients);
    const std::unique_ptr<CapturedStep> captured = actual.capture();
    for (int k = 0; k < 3; ++k) {
      expected.step(gradients);
      actual.replay(*captured);
    }
    ASSERT_NO_FATAL_FAILURE(expect_same(model, expected, actual));
  }
}

TEST_F(NarrowParameters, TakeMastersThatAreWritten) {
  Random random(93);
  const Model model = with_narrow_parameters(random, random_model(random, {700, 300}, 1), Rounding::kMaster);
  const std::vector<Gradients> steps = random_steps(random, model, 2, {0, 0, 0, 0, 0});
  Training first(model, 1), second(model, open());
  first.step(steps[0]);
  const std::vector<std::vector<float>> masters = first.masters();
  second.step(steps[0]);
  second.set_theta(model.theta);
  second.optimizer().write_master({0, 0, 700}, nullptr);
  std::vector<float> read(700);
  second.optimizer().read_master({0, 0, 700}, read.data());
  EXPECT_TRUE(same_bits(model.theta[0], read));
  second.set_theta(first.theta());
  second.optimizer().write_master({0, 0, 700}, masters[0].data());
  first.step(steps[1]);
  second.step(steps[1]);
  ASSERT_NO_FATAL_FAILURE(expect_same(model, first, second));
}

}  // namespace
}  // namespace mtadam
