#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "test/cuda/on_device.h"
#include "test/training.h"

// Compares the cosines between gradients with plain sums in float64, and bit for bit with the canonical sums.

namespace mtadam {
namespace {

using test::Alignment;
using test::Gradients;
using test::Model;
using test::Random;
using test::Training;

using Cosines = test::OnDevice;

/// A term's gradients in a layer; nullptr where it is absent.
using InLayer = std::vector<const std::vector<float>*>;

InLayer in_layer(const Model& model, const Gradients& gradients, std::uint32_t term, std::uint32_t layer) {
  InLayer found;
  for (std::size_t tensor = 0; tensor < model.parameters.size(); ++tensor) {
    if (model.parameters[tensor].layer != layer) continue;
    const auto& gradient = gradients[term][tensor];
    found.push_back(gradient ? &*gradient : nullptr);
  }
  return found;
}

/// The sum of products over the tensors of both terms: as a plain sum, and in the canonical order.
struct Dot {
  double plain = 0, canonical = 0;
};

Dot dot(const Model& model, std::uint32_t layer, const InLayer& a, const InLayer& b) {
  Dot result;
  std::vector<double> chunks;
  std::size_t k = 0;
  for (const ParameterShape& shape : model.parameters) {
    if (shape.layer != layer) continue;
    const bool both = a[k] != nullptr && b[k] != nullptr;
    for (std::size_t at = 0; at < shape.length; at += kChunkElements) {
      const std::size_t count = std::min<std::size_t>(kChunkElements, shape.length - at);
      chunks.push_back(both ? test::canonical_chunk_sum(a[k]->data() + at, b[k]->data() + at, count) : 0);
      for (std::size_t e = at; both && e < at + count; ++e) {
        result.plain += static_cast<double>((*a[k])[e]) * static_cast<double>((*b[k])[e]);
      }
    }
    k += 1;
  }
  result.canonical = test::canonical_layer_sum(chunks);
  return result;
}

bool present(const InLayer& gradients) {
  return std::any_of(gradients.begin(), gradients.end(), [](const auto* gradient) { return gradient != nullptr; });
}

void expect_cosines(const Model& model, const Gradients& gradients, const std::vector<float>& cosines) {
  std::size_t at = 0;
  const double scale = model.gradient_scale;
  for (std::uint32_t later = 0; later < model.options.terms; ++later) {
    for (std::uint32_t earlier = 0; earlier <= later; ++earlier) {
      for (std::uint32_t layer = 0; layer < model.layer_count(); ++layer) {
        SCOPED_TRACE(std::to_string(earlier) + " with " + std::to_string(later) + " in " + std::to_string(layer));
        const float actual = cosines.at(at++);
        const InLayer a = in_layer(model, gradients, earlier, layer), b = in_layer(model, gradients, later, layer);
        const double r_a = std::sqrt(dot(model, layer, a, a).canonical) / scale;
        const double r_b = std::sqrt(dot(model, layer, b, b).canonical) / scale;
        const bool good = present(a) && present(b) && r_a > 0 && r_b > 0 && std::isfinite(r_a) && std::isfinite(r_b);
        if (!good) {
          ASSERT_TRUE(std::isnan(actual));
        } else if (earlier == later) {
          ASSERT_EQ(actual, 1);
        } else {
          const auto [plain, canonical] = dot(model, layer, a, b);
          const double norms = (r_a * scale) * (r_b * scale);
          ASSERT_NEAR(actual, plain / norms, 1e-7);
          ASSERT_TRUE(test::same_bits(actual, static_cast<float>(std::clamp(canonical / norms, -1.0, 1.0))));
        }
      }
    }
  }
  EXPECT_EQ(at, cosines.size());
}

TEST_F(Cosines, AreRightForAnyTermsLengthsAndOffsets) {
  Random random(85);
  // Partial, full and several tiles; lengths around a lane, a segment and a chunk.
  const std::vector<std::uint32_t> counts{1, 2, 3, 5, 8, 9, 10, 17};
  for (int round = 0; round < rounds(24); ++round) {
    const std::uint32_t terms = counts[static_cast<std::size_t>(round) % counts.size()];
    Model model = test::random_model(random, {0, 31, 33, 257, 4097, 1, 8191}, terms);
    model.options.form.cosines = true;
    model.options.form.non_finite = random.chance(0.5) ? NonFinite::kPropagate : NonFinite::kSkipTerm;
    Training training(model, open(), random.pick<Alignment>({Alignment::kVectors, Alignment::kAnyhow}));
    for (const Gradients& gradients : test::random_steps(random, model, 2)) {
      training.step(gradients);
      SCOPED_TRACE(std::to_string(terms) + " terms, round " + std::to_string(round));
      ASSERT_NO_FATAL_FAILURE(expect_cosines(model, gradients, training.cosines()));
    }
  }
}

// More chunks than a layer's sum has lanes.
TEST_F(Cosines, AreRightForALongLayer) {
  Random random(86);
  Model model = test::random_model(random, {static_cast<std::uint64_t>(rounds(150)) * 4096 + 5, 9000}, 2);
  model.parameters[1].layer = model.parameters[0].layer = 0;
  model.options.form.cosines = true;
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  Training training(model, open());
  training.step(gradients);
  expect_cosines(model, gradients, training.cosines());
}

TEST_F(Cosines, AreOfTheLastStepOnly) {
  Random random(87);
  Model model = test::random_model(random, {5, 300}, 3);
  model.options.form.cosines = true;
  Training training(model, open());
  EXPECT_TRUE(training.cosines().empty()) << "before any step";
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  training.step(gradients);
  expect_cosines(model, gradients, training.cosines());
  training.optimizer().update();
  EXPECT_TRUE(training.cosines().empty()) << "after a step without gradients";
  training.step(gradients);
  training.stream(gradients);
  EXPECT_TRUE(training.cosines().empty()) << "after terms that came one at a time";
}

}  // namespace
}  // namespace mtadam
