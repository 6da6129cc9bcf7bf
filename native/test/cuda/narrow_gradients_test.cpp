#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "test/cuda/on_device.h"
#include "test/training.h"

// The kernels read gradients in bfloat16 and float16, and give the bits that the CPU gives with the same values in
// float32.

namespace mtadam {
namespace {

using test::Gradients;
using test::kAlignments;
using test::Model;
using test::narrowed;
using test::Random;
using test::random_model;
using test::same_state;
using test::Training;
using test::value_of;
using test::with_narrow_gradients;
using test::with_wide_gradients;

using NarrowGradients = test::OnDevice;

constexpr ElementType kNarrow[] = {ElementType::kBfloat16, ElementType::kFloat16};
constexpr StateType kStates[] = {StateType::kFloat32, StateType::kBfloat16, StateType::k8bit};

TEST_F(NarrowGradients, GiveTheBitsOfTheSameValuesInFloat32) {
  Random random(81);
  test::FormCounts reached;
  int lagged = 0, cosines = 0, gathers = 0;
  const int last = rounds(48);
  for (int round = 0; round < last; ++round) {
    // Segments, vectors, words and chunks that are not whole.
    const std::vector<std::uint64_t> lengths{4096 + random.below(130), 1 + random.below(60), 8000 + random.below(300),
                                             200 + random.below(100)};
    const auto terms = static_cast<std::uint32_t>(1 + random.below(4));
    Model model = with_units(random, with_one_v(random, random_model(random, lengths, terms)));
    model = with_narrow_gradients(random, with_state(model, kStates[round % 3]));
    const bool streams = random.chance(0.4);
    if (!streams) model = with_options_of_whole_steps(random, model);
    if (model.options.form.lagged) model.options.form.non_finite = NonFinite::kSkipElement;
    reached.add(model.options.form);
    lagged += model.options.form.lagged;
    cosines += model.options.form.cosines;
    gathers += streams && model.options.form.one_v;
    Training expected(with_wide_gradients(model), 1), actual(model, open(), random.pick(kAlignments));
    for (const Gradients& given : random_steps(random, model, 3, {0.1, 0.15, 0.05, 0.05, 0.1})) {
      const Gradients gradients = narrowed(random, model, given);
      streams ? expected.stream(gradients) : expected.step(gradients);
      streams ? actual.stream(gradients) : actual.step(gradients);
    }
    ASSERT_TRUE(same_state(expected.snapshot(), actual.snapshot())) << "round " << round;
  }
  if (last < 48) return;
  EXPECT_TRUE(reached.all());
  for (const int count : {lagged, cosines, gathers}) EXPECT_GT(count, 0);
}

// More terms than a block fetches ahead, and more than a tile of cosines has.
TEST_F(NarrowGradients, GiveTheSameBitsForManyTerms) {
  Random random(82);
  for (const ElementType type : kNarrow) {
    Model model = random_model(random, {4100}, 35);
    model.options.form.cosines = true;
    model.parameters[0].gradient = type;
    Training expected(with_wide_gradients(model), 1), actual(model, open());
    for (const Gradients& given : random_steps(random, model, 2)) {
      const Gradients gradients = narrowed(random, model, given);
      expected.step(gradients);
      actual.step(gradients);
    }
    ASSERT_TRUE(same_state(expected.snapshot(), actual.snapshot()));
  }
}

TEST_F(NarrowGradients, AreReadByACapturedStep) {
  Random random(83);
  Model model = random_model(random, {5000, 7}, 2);
  for (std::size_t k = 0; k < 2; ++k) model.parameters[k].gradient = kNarrow[k];
  const Gradients gradients = narrowed(random, model, random_gradients(random, model, {0, 0, 0, 0}));
  Training expected(with_wide_gradients(model), 1), actual(model, open());
  actual.place(gradients);
  const std::unique_ptr<CapturedStep> captured = actual.capture();
  for (int k = 0; k < 3; ++k) {
    expected.step(gradients);
    actual.replay(*captured);
  }
  ASSERT_TRUE(same_state(expected.snapshot(), actual.snapshot()));
}

TEST_F(NarrowGradients, AreAddedAndSetTo0) {
  Random random(84);
  for (const ElementType type : kNarrow) {
    const auto device = open();
    const std::vector<std::uint64_t> lengths{5003};
    Model model = random_model(random, lengths, 2);
    model.parameters[0].gradient = type;
    Training training(model, device);
    const auto read = [&](std::uint32_t term) {
      std::vector<std::uint16_t> codes(lengths[0]);
      training.optimizer().done()->wait();
      device->read(codes.data(), training.gradient(term, 0), codes.size() * sizeof codes[0], nullptr);
      return codes;
    };
    const Gradients first = narrowed(random, model, random_gradients(random, model, {0, 0, 0, 0}));
    const Gradients second = narrowed(random, model, random_gradients(random, model, {0, 0, 0, 0}));
    training.place(first);
    training.add(second);
    for (std::uint32_t term = 0; term < 2; ++term) {
      const std::vector<std::uint16_t> sums = read(term);
      for (std::size_t k = 0; k < lengths[0]; ++k) {
        ASSERT_EQ(sums[k], nearest(type, (*first[term][0])[k] + (*second[term][0])[k])) << k;
      }
    }
    training.zero();
    for (std::uint32_t term = 0; term < 2; ++term) EXPECT_EQ(read(term), std::vector<std::uint16_t>(lengths[0]));
  }
}

}  // namespace
}  // namespace mtadam
