#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <vector>

#include "cpu/instruction_set.h"
#include "math/parameter_codes.h"
#include "training.h"

// Parameters in bfloat16 and float16: their codes, and whole steps on the CPU.

namespace mtadam {
namespace {

using test::Alignment;
using test::default_group;
using test::Gradients;
using test::Model;
using test::Random;
using test::random_model;
using test::random_steps;
using test::same_bits;
using test::same_saved_state;
using test::same_state;
using test::Snapshot;
using test::Training;
using test::value_of;
using test::with_narrow_parameters;
using test::with_wide_parameters;

constexpr ElementType kNarrow[] = {ElementType::kBfloat16, ElementType::kFloat16};
constexpr Rounding kRoundings[] = {Rounding::kStochastic, Rounding::kNearest, Rounding::kMaster};
constexpr std::uint32_t kWords[] = {0, 1, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};

std::uint32_t infinity_of(ElementType type) { return type == ElementType::kFloat16 ? 0x7c00 : 0x7f80; }

TEST(ParameterCodes, StayWhatTheyAreWhateverTheDraw) {
  for (const ElementType type : kNarrow) {
    for (std::uint32_t code = 0; code < 0x10000; ++code) {
      const float value = value_of(type, code);
      for (const std::uint32_t word : kWords) {
        const std::uint32_t again = drawn(type, value, word);
        ASSERT_TRUE(again == code || (std::isnan(value) && std::isnan(value_of(type, again)))) << code;
      }
    }
  }
}

TEST(ParameterCodes, HaveAStreamOfTheirOwn) {
  EXPECT_EQ(parameter_stream(), stream_key(name_key("\0theta", 6)));
  EXPECT_NE(parameter_stream(), shared_stream());
}

TEST(ParameterCodes, HaveTheMeanOfTheValue) {
  constexpr std::uint32_t kDraws = 4096;
  Random random(81);
  for (const ElementType type : kNarrow) {
    for (std::uint32_t low = 0; low < infinity_of(type) - 1; low += 1 + static_cast<std::uint32_t>(random.below(16))) {
      const double from = value_of(type, low), to = value_of(type, low + 1);
      const auto value = static_cast<float>(from + (to - from) * random.between(0, 1));
      double sum = 0;
      for (std::uint32_t k = 0; k < kDraws; ++k) {
        const float one = value_of(type, drawn(type, value, k * (0xffffffffu / kDraws)));
        ASSERT_TRUE(one == from || one == to) << low;
        sum += one;
      }
      ASSERT_LE(std::fabs(sum / kDraws - value), (to - from) * 2 / kDraws) << low;
      ASSERT_EQ(drawn(type, -value, 12345), 0x8000u | drawn(type, value, 12345));
    }
  }
}

TEST(ParameterCodes, OfFiniteValuesAreFinite) {
  for (const ElementType type : kNarrow) {
    const std::uint32_t infinity = infinity_of(type);
    for (const float value : {65519.0f, 65520.0f, 1e30f, 0x1.fffffep127f}) {
      if (value < value_of(type, infinity - 1)) continue;
      for (const std::uint32_t word : kWords) {
        ASSERT_EQ(drawn(type, value, word), infinity - 1) << value;
        ASSERT_EQ(drawn(type, -value, word), 0x8000u | (infinity - 1)) << value;
      }
    }
    EXPECT_EQ(drawn(type, HUGE_VALF, 0xffffffff), infinity);
    EXPECT_EQ(drawn(type, -HUGE_VALF, 0), 0x8000u | infinity);
    EXPECT_TRUE(std::isnan(value_of(type, drawn(type, std::nanf(""), 7))));
  }
}

TEST(Masters, KeepEveryFloat) {
  for (std::uint64_t bits = 0; bits < std::uint64_t{1} << 32; bits += 7) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    const Halves halves = halved(value);
    const float whole = joined(halves.code, halves.low);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(whole) && std::isnan(decoded_bfloat16(halves.code))) << bits;
    } else {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(whole), bits);
      // To the nearest, ties up.
      const std::uint32_t down = static_cast<std::uint32_t>(bits) >> 16;
      ASSERT_EQ(halves.code, down + ((bits & 0xffffu) >= 0x8000u ? 1u : 0u)) << bits;
    }
  }
}

TEST(Masters, LetWhatTheUserWritesCount) {
  for (const std::uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
    for (std::uint32_t code = 0; code < 0x10000; ++code) {
      const float value = decoded_bfloat16(code), whole = joined(code, low);
      ASSERT_EQ(std::isnan(whole), std::isnan(value)) << code << ", " << low;
      if (std::isnan(value)) continue;
      ASSERT_EQ(halved(whole).code, code) << low;
      ASSERT_TRUE(low != 0 || std::bit_cast<std::uint32_t>(whole) == code << 16);
    }
  }
  Random random(82);
  for (std::uint32_t code = 0; code < 0x10000; ++code) {
    const float value = decoded_float16(code);
    if (std::isnan(value)) continue;
    ASSERT_EQ(bits_of(mastered_float16(code, 0)), bits_of(value));
    ASSERT_EQ(nearest_float16(mastered_float16(code, random.of_magnitude(-30, 16))), code);
    const float master = random.of_magnitude(-30, 16);
    ASSERT_EQ(mastered_float16(nearest_float16(master), master), master);
  }
}

// Around a tile, a chunk and a vector; lean tensors among them.
const std::vector<std::uint64_t> kLengths{4099, 1, 1023, 8200, 100, 2049};

Model any_model(Random& random, std::uint32_t terms, Rounding rounding) {
  const Model model = with_one_v(random, with_units(random, random_model(random, kLengths, terms)));
  constexpr StateType kTypes[] = {StateType::kFloat32, StateType::kBfloat16, StateType::k8bit};
  return with_narrow_parameters(random, with_state(model, kTypes[random.below(3)]), rounding);
}

TEST(NarrowParameters, AreTheSameForAllInstructionSetsThreadsAndAlignments) {
  Random random(83);
  test::FormCounts counts;
  for (int round = 0; round < 24; ++round) {
    Model model =
        any_model(random, static_cast<std::uint32_t>(1 + random.below(round % 8 == 0 ? 12 : 5)), kRoundings[round % 3]);
    model = with_narrow_gradients(random, model);
    counts.add(model.options.form);
    Training expected(model, 1, "baseline");
    std::vector<std::unique_ptr<Training>> others;
    for (const InstructionSet& set : instruction_sets()) {
      others.push_back(std::make_unique<Training>(model, 1, set.name));
    }
    others.push_back(std::make_unique<Training>(model, std::make_shared<CpuDevice>(3), Alignment::kAnyhow));
    for (const Gradients& gradients : random_steps(random, model, 3)) {
      const bool streams = random.chance(0.5);
      streams ? expected.stream(gradients) : expected.step(gradients);
      for (const auto& other : others) streams ? other->stream(gradients) : other->step(gradients);
    }
    for (const auto& other : others) {
      ASSERT_TRUE(same_state(expected.snapshot(), other->snapshot())) << "round " << round;
      if (model.options.form.rounding != Rounding::kMaster) continue;
      const std::vector<std::vector<float>> one = expected.masters(), another = other->masters();
      for (std::size_t k = 0; k < one.size(); ++k) ASSERT_TRUE(same_bits(one[k], another[k])) << "round " << round;
    }
  }
  EXPECT_TRUE(counts.all());
}

TEST(NarrowParameters, WithMastersTrainAsInFloat32) {
  Random random(84);
  for (int round = 0; round < 24; ++round) {
    const Model model = any_model(random, static_cast<std::uint32_t>(1 + random.below(5)), Rounding::kMaster);
    Training narrow(model, 2), wide(with_wide_parameters(model), 1);
    for (const Gradients& gradients : random_steps(random, model, 4)) {
      const bool streams = random.chance(0.5);
      for (Training* const training : {&narrow, &wide}) {
        streams ? training->stream(gradients) : training->step(gradients);
      }
    }
    Snapshot actual = narrow.snapshot();
    const std::vector<std::vector<float>> exact = wide.theta();
    for (std::size_t k = 0; k < actual.theta.size(); ++k) {
      const ElementType type = model.parameters[k].type;
      if (type == ElementType::kFloat32) continue;
      std::vector<float> rounded;
      for (const float whole : exact[k]) {
        const float expected = type == ElementType::kFloat16 ? decoded_float16(nearest_float16(whole))
                                                             : decoded_bfloat16(halved(whole).code);
        rounded.push_back(expected);
      }
      ASSERT_TRUE(same_bits(rounded, actual.theta[k])) << "round " << round;
    }
    actual.theta = narrow.masters();
    ASSERT_TRUE(same_state(wide.snapshot(), actual)) << "round " << round;
  }
}

TEST(NarrowParameters, WithoutMastersAreTheRoundedStepInFloat32) {
  Random random(85);
  for (int round = 0; round < 16; ++round) {
    const Model model = any_model(random, static_cast<std::uint32_t>(1 + random.below(5)), kRoundings[round % 2]);
    Training narrow(model, 2), wide(with_wide_parameters(model), 1);
    std::uint64_t step = 0;
    for (const Gradients& gradients : random_steps(random, model, 3)) {
      const bool streams = random.chance(0.5);
      for (Training* const training : {&narrow, &wide}) {
        streams ? training->stream(gradients) : training->step(gradients);
      }
      std::vector<std::vector<float>> theta = wide.theta();
      for (std::size_t k = 0; k < theta.size(); ++k) {
        const ElementType type = model.parameters[k].type;
        if (type == ElementType::kFloat32) continue;
        for (std::uint32_t e = 0; e < theta[k].size(); ++e) {
          const ChunkKey key = chunk_key(model.options.seed, step, model.parameters[k].key, e / 4096);
          const std::uint32_t word = stream_word(element_word(key, e % 4096), parameter_stream());
          const bool draws = model.options.form.rounding == Rounding::kStochastic;
          theta[k][e] = decoded(type, draws ? drawn(type, theta[k][e], word) : nearest(type, theta[k][e]));
        }
      }
      wide.set_theta(theta);
      ASSERT_TRUE(same_state(wide.snapshot(), narrow.snapshot())) << "round " << round;
      step += 1;
    }
  }
}

TEST(NarrowParameters, MoveInTheMeanWhereTheNearestStaysBehind) {
  constexpr std::size_t kElements = 8192;
  constexpr int kSteps = 200;
  for (const ElementType type : kNarrow) {
    for (const Rounding rounding : {Rounding::kStochastic, Rounding::kNearest}) {
      Model model;
      model.options.form.rounding = rounding;
      model.parameters = {{kElements, 0, 0}};
      model.parameters[0].type = type;
      model.groups = {default_group()};
      // A tenth of a place of θ.
      model.groups[0].lr = type == ElementType::kFloat16 ? 0x1p-11 / 10 : 0x1p-8 / 10;
      model.weights = {1};
      model.theta = {std::vector<float>(kElements, 0.9f)};
      Training training(model, 1);
      const float start = training.theta()[0][0];
      const Gradients gradients{{std::vector<float>(kElements, 1.0f)}};
      for (int step = 0; step < kSteps; ++step) training.step(gradients);
      const std::vector<float> theta = training.theta()[0];
      double mean = 0;
      for (const float value : theta) mean += (value - start) / kElements;
      // Of a place, a step has a standard deviation of 0.3.
      const double error = model.groups[0].lr * 10 * 0.3 * std::sqrt(kSteps) / std::sqrt(kElements);
      const double expected = rounding == Rounding::kStochastic ? -kSteps * model.groups[0].lr : 0;
      EXPECT_NEAR(mean, expected, rounding == Rounding::kStochastic ? 4 * error : 0);
    }
  }
}

TEST(NarrowParameters, DoNotChangeWhereNothingIsPresent) {
  Random random(86);
  const Model model = any_model(random, 2, Rounding::kStochastic);
  Training training(model, 1);
  const std::vector<std::vector<float>> before = training.theta();
  training.step(random_steps(random, model, 1, {1, 0, 0, 0, 0})[0]);
  for (std::size_t k = 0; k < before.size(); ++k) EXPECT_TRUE(same_bits(before[k], training.theta()[k]));
}

TEST(NarrowParameters, WithMastersTakeWhatTheUserWrites) {
  for (const ElementType type : kNarrow) {
    Random random(87);
    Model model = with_narrow_parameters(random, random_model(random, {5000}, 1), Rounding::kMaster);
    model.parameters[0].type = type;
    model.groups[0].lr = model.groups[1].lr = 0;
    Training training(model, 1);
    for (const Gradients& gradients : random_steps(random, model, 2, {0, 0, 0, 0, 0})) training.step(gradients);
    std::vector<std::vector<float>> written = training.theta();
    for (std::size_t k = 0; k < written[0].size(); k += 3) {
      written[0][k] = random.pick<float>({0, 1, 0.3125f, -2});
    }
    training.set_theta(written);
    training.step(random_steps(random, model, 1, {0, 0, 0, 0, 0})[0]);
    EXPECT_TRUE(same_bits(written[0], training.theta()[0]));
  }
}

TEST(NarrowParameters, TakeTheBytesOfTheirMasters) {
  const auto bytes = [](ElementType type, Rounding rounding) {
    ParameterShape shape{1 << 20, 0, 0};
    shape.type = type;
    StateForm form;
    form.rounding = rounding;
    return State::bytes(Layout({shape}), form, 1);
  };
  const std::size_t none = bytes(ElementType::kFloat32, Rounding::kMaster);
  for (const ElementType type : kNarrow) {
    for (const Rounding rounding : {Rounding::kStochastic, Rounding::kNearest}) EXPECT_EQ(bytes(type, rounding), none);
    const std::size_t master = bytes(type, Rounding::kMaster) - none, due = std::size_t{master_bytes(type)} << 20;
    EXPECT_GE(master, due);
    EXPECT_LT(master, due + 64);
  }
}

}  // namespace
}  // namespace mtadam
