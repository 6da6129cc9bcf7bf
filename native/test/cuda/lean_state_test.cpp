#include <gtest/gtest.h>

#include <vector>

#include "test/cuda/on_device.h"
#include "test/training.h"

// The CPU device and the kernels give the same bits with moments in bfloat16 and in 8 bits.

namespace mtadam {
namespace {

using test::Gradients;
using test::kAlignments;
using test::Model;
using test::Random;
using test::same_state;
using test::Training;

using LeanState = test::OnDevice;

constexpr StateType kTypes[] = {StateType::kBfloat16, StateType::k8bit};

TEST_F(LeanState, HasTheBitsOfTheCpu) {
  Random random(61);
  test::FormCounts reached;
  const int last = rounds(24);
  for (int round = 0; round < last; ++round) {
    // Small tensors, and tails of a block, of a word and of a chunk.
    const std::vector<std::uint64_t> lengths{4096 + random.below(130), 1 + random.below(60), 8000 + random.below(300)};
    const auto terms = static_cast<std::uint32_t>(1 + random.below(4));
    Model model = with_units(random, with_one_v(random, test::random_model(random, lengths, terms)));
    model = with_state(model, kTypes[round % 2]);
    const bool streams = random.chance(0.4);
    if (!streams) model = test::with_options_of_whole_steps(random, model);
    if (model.options.form.lagged) model.options.form.non_finite = NonFinite::kSkipElement;
    reached.add(model.options.form);
    Training expected(model, 1), actual(model, open(), random.pick(kAlignments));
    for (const Gradients& gradients : random_steps(random, model, 3, {0.1, 0.15, 0.05, 0.05, 0.1})) {
      streams ? expected.stream(gradients) : expected.step(gradients);
      streams ? actual.stream(gradients) : actual.step(gradients);
    }
    ASSERT_TRUE(same_state(expected.snapshot(), actual.snapshot())) << "round " << round;
  }
  if (last < 24) return;
  EXPECT_TRUE(reached.all());
}

// More terms than a block fetches ahead.
TEST_F(LeanState, HasTheBitsOfTheCpuForManyTerms) {
  Random random(62);
  for (const StateType type : kTypes) {
    const Model model = with_state(test::random_model(random, {4100}, 35), type);
    Training expected(model, 1), actual(model, open());
    for (const Gradients& gradients : random_steps(random, model, 2)) {
      expected.step(gradients);
      actual.step(gradients);
    }
    ASSERT_TRUE(same_state(expected.snapshot(), actual.snapshot()));
  }
}

}  // namespace
}  // namespace mtadam
