#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "test/cuda/on_device.h"
#include "test/oracle.h"
#include "test/training.h"

// Compares whole steps of the kernels with the oracle, within the tolerance of docs/algorithm.md.

namespace mtadam {
namespace {

using test::Alignment;
using test::Gradients;
using test::Model;
using test::Oracle;
using test::Random;
using test::Training;

using Accuracy = test::OnDevice;

/// A few tensors about as long as a vector, a warp or a chunk, and empty ones.
std::vector<std::uint64_t> random_lengths(Random& random) {
  std::vector<std::uint64_t> lengths;
  for (std::uint64_t k = 2 + random.below(5); k > 0; --k) {
    const auto edge = random.pick<std::uint64_t>({3, 16, 32, 64, 128, 256, 1024, 4096});
    lengths.push_back(edge + random.below(7) - 3);
  }
  if (random.chance(0.3)) lengths.insert(lengths.begin(), 0);
  if (random.chance(0.3)) lengths.insert(lengths.begin() + static_cast<std::ptrdiff_t>(lengths.size() / 2), 0);
  if (random.chance(0.3)) lengths.push_back(0);
  return lengths;
}

TEST_F(Accuracy, OfRandomSteps) {
  Random random(84);
  const auto first = static_cast<std::uint32_t>(random.below(12));
  for (int round = 0; round < rounds(96); ++round) {
    const std::uint32_t terms = 1 + (first + static_cast<std::uint32_t>(round)) % 12;
    const Model model = test::random_model(random, random_lengths(random), terms);
    SCOPED_TRACE("round " + std::to_string(round) + ", " + std::to_string(terms) + " terms");
    Training training(model, open(),
                      random.pick<Alignment>({Alignment::kVectors, Alignment::kAlike, Alignment::kAnyhow}));
    Oracle oracle(model);
    for (int step = 0; step < 3; ++step) {
      const Gradients gradients = test::random_gradients(random, model, {0.15, 0.2, 0.1, 0.03});
      random.chance(0.5) ? training.step(gradients) : training.stream(gradients);
      oracle.step(gradients);
    }
    ASSERT_NO_FATAL_FAILURE(test::expect_close(oracle.theta(), training.theta()));
  }
}

TEST_F(Accuracy, OfTermsFarFromTheirAnchor) {
  Random random(85);
  for (int round = 0; round < rounds(48); ++round) {
    Model model = test::random_model(random, {200, 33, 4100}, 4);
    model.weights = {1, 1, 0.5, 2};
    model.options.balance = 1;  // with less, the largest would exceed float32
    Training training(model, open(), Alignment::kAnyhow);
    Oracle oracle(model);
    std::vector<double> magnitudes{std::pow(10, random.between(-3, 3))};
    for (int term = 1; term < 4; ++term) magnitudes.push_back(std::pow(10, random.between(-8, 25)));
    for (int step = 0; step < 3; ++step) {
      Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
      for (std::size_t term = 0; term < gradients.size(); ++term) {
        for (auto& gradient : gradients[term]) {
          for (float& value : *gradient) value = static_cast<float>(random.between(-1, 1) * magnitudes[term]);
        }
      }
      training.step(gradients);
      oracle.step(gradients);
    }
    ASSERT_NO_FATAL_FAILURE(test::expect_close(oracle.theta(), training.theta()))
        << magnitudes[1] << ", " << magnitudes[2] << ", " << magnitudes[3] << " beside " << magnitudes[0];
  }
}

TEST_F(Accuracy, OfManySteps) {
  Random random(86);
  const auto length = static_cast<std::uint64_t>(rounds(48) * 500);
  for (const bool summed : {false, true}) {
    Model model;
    model.options.terms = 3;
    model.options.form.summed = summed;
    model.parameters = {{length, 0, 0}, {length / 3, 1, 0}};
    model.groups = {test::default_group()};
    model.weights = {1, 1, 1};
    // From zero, so that the rounding of the steps shows and not that of the parameters.
    model.theta = {std::vector<float>(length), std::vector<float>(length / 3)};
    Training training(model, open());
    Oracle oracle(model);
    for (int step = 0; step < 20; ++step) {
      const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
      training.step(gradients);
      oracle.step(gradients);
    }
    double error = 0, distance = 0;
    const std::vector<std::vector<float>> theta = training.theta();
    for (std::size_t p = 0; p < theta.size(); ++p) {
      for (std::size_t e = 0; e < theta[p].size(); ++e) {
        error += std::pow(double{theta[p][e]} - oracle.theta()[p][e], 2);
        distance += std::pow(oracle.theta()[p][e], 2);
      }
    }
    EXPECT_LE(std::sqrt(error / distance), 1e-6) << (summed ? "summed" : "per term");
  }
}

}  // namespace
}  // namespace mtadam
