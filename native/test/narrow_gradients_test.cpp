#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <memory>
#include <vector>

#include "cpu/instruction_set.h"
#include "math/element_types.h"
#include "training.h"

// Gradients in bfloat16 and float16, on the CPU: a step has the bits of one from the same values in float32.

namespace mtadam {
namespace {

using test::Alignment;
using test::Gradients;
using test::Model;
using test::narrowed;
using test::Random;
using test::random_model;
using test::same_state;
using test::Training;
using test::value_of;
using test::with_narrow_gradients;
using test::with_wide_gradients;

constexpr ElementType kNarrow[] = {ElementType::kBfloat16, ElementType::kFloat16};

std::uint32_t infinity_of(ElementType type) { return type == ElementType::kFloat16 ? 0x7c00 : 0x7f80; }

TEST(NarrowGradients, EveryCodeHasItsValue) {
  for (const ElementType type : kNarrow) {
    for (std::uint32_t code = 0; code < 0x10000; ++code) {
      const float value = decoded(type, code), expected = value_of(type, code);
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(value)) << code;
        ASSERT_EQ(nearest(type, value), 0x7fffu);
      } else {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(value), std::bit_cast<std::uint32_t>(expected)) << code;
        ASSERT_EQ(nearest(type, value), code);
      }
    }
  }
}

TEST(NarrowGradients, EveryValueIsRoundedToTheNearest) {
  for (const ElementType type : kNarrow) {
    const std::uint32_t last = infinity_of(type) - 1;  // the largest finite value
    for (std::uint32_t code = 0; code <= last; ++code) {
      const double low = value_of(type, code);
      // What would follow the largest one decides when it rounds to infinity.
      const double high = code < last ? value_of(type, code + 1) : 2 * low - value_of(type, code - 1);
      const auto middle = static_cast<float>(low + (high - low) / 2);
      ASSERT_EQ(nearest(type, middle), code + (code & 1)) << code;
      ASSERT_EQ(nearest(type, std::nextafter(middle, 0.0f)), code) << code;
      ASSERT_EQ(nearest(type, std::nextafter(middle, HUGE_VALF)), code + 1) << code;
      ASSERT_EQ(nearest(type, -middle), 0x8000u | (code + (code & 1))) << code;
    }
    EXPECT_EQ(nearest(type, HUGE_VALF), infinity_of(type));
  }
}

// Around a tile, a chunk and a vector; lean tensors among them.
const std::vector<std::uint64_t> kLengths{4099, 1, 1023, 8200, 100, 2049};

Model any_model(Random& random, std::uint32_t terms) {
  Model model = with_one_v(random, with_units(random, random_model(random, kLengths, terms)));
  constexpr StateType kTypes[] = {StateType::kFloat32, StateType::kBfloat16, StateType::k8bit};
  return with_narrow_gradients(random, with_state(model, kTypes[random.below(3)]));
}

TEST(NarrowGradients, GiveTheBitsOfTheSameValuesInFloat32) {
  Random random(71);
  int lean = 0, one_v = 0, summed = 0, lagged = 0, cosines = 0;
  for (int round = 0; round < 40; ++round) {
    const bool streams = random.chance(0.4);
    Model model = any_model(random, static_cast<std::uint32_t>(1 + random.below(round % 8 == 0 ? 12 : 5)));
    if (!streams) model = with_options_of_whole_steps(random, model);
    if (model.options.form.lagged) model.options.form.non_finite = NonFinite::kSkipElement;
    lean += model.state_type != StateType::kFloat32;
    one_v += model.options.form.one_v;
    summed += model.options.form.summed && !model.options.form.one_v;
    lagged += model.options.form.lagged;
    cosines += model.options.form.cosines;
    Training expected(with_wide_gradients(model), 1);
    std::vector<std::unique_ptr<Training>> narrow;
    for (const InstructionSet& set : instruction_sets()) {
      narrow.push_back(std::make_unique<Training>(model, 1, set.name));
    }
    narrow.push_back(std::make_unique<Training>(model, std::make_shared<CpuDevice>(3), Alignment::kAnyhow));
    for (const Gradients& given : random_steps(random, model, 3, {0.1, 0.15, 0.05, 0.05, 0.1})) {
      const Gradients gradients = narrowed(random, model, given);
      streams ? expected.stream(gradients) : expected.step(gradients);
      for (const auto& training : narrow) streams ? training->stream(gradients) : training->step(gradients);
    }
    for (const auto& training : narrow) {
      ASSERT_TRUE(same_state(expected.snapshot(), training->snapshot())) << "round " << round;
    }
  }
  for (const int reached : {lean, one_v, summed, lagged, cosines}) EXPECT_GT(reached, 0);
}

std::vector<std::uint16_t> codes_of(ElementType type, const std::vector<float>& values) {
  std::vector<std::uint16_t> codes;
  for (const float value : values) codes.push_back(static_cast<std::uint16_t>(nearest(type, value)));
  return codes;
}

TEST(NarrowGradients, AreAddedInFloat32AndRoundedToTheNearest) {
  Random random(72);
  for (const InstructionSet& set : instruction_sets()) {
    for (const ElementType type : kNarrow) {
      CpuDevice device(2, set.name);
      for (const std::size_t count : {1u, 7u, 100u, 70000u}) {
        std::vector<float> a(count), b(count), sums;
        for (std::size_t k = 0; k < count; ++k) {
          a[k] = value_of(type, static_cast<std::uint32_t>(random.below(0x10000)));
          b[k] = value_of(type, static_cast<std::uint32_t>(random.below(0x10000)));
          sums.push_back(a[k] + b[k]);
        }
        std::vector<std::uint16_t> target = codes_of(type, a);
        device.add(target.data(), codes_of(type, b).data(), count, type, nullptr);
        ASSERT_EQ(target, codes_of(type, sums)) << set.name;
      }
    }
  }
}

TEST(NarrowGradients, AreSetTo0AndNothingBesides) {
  for (const ElementType type : kNarrow) {
    Random random(73);
    Model model = random_model(random, {5000}, 1);
    model.parameters[0].gradient = type;
    Training training(model, 2);
    training.place(narrowed(random, model, random_gradients(random, model, {0, 0, 0, 0})));
    const auto* const codes = reinterpret_cast<const std::uint16_t*>(training.gradient(0, 0));
    ASSERT_NE(std::vector<std::uint16_t>(codes, codes + 5000), std::vector<std::uint16_t>(5000));
    training.zero();
    EXPECT_EQ(std::vector<std::uint16_t>(codes, codes + 5000), std::vector<std::uint16_t>(5000));
  }
}

}  // namespace
}  // namespace mtadam
