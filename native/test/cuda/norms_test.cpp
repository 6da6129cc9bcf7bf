#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "test/cuda/on_device.h"
#include "test/training.h"

// Compares r of the norm kernel with the plain sum in float64, and bit for bit with the canonical sum.

namespace mtadam {
namespace {

using test::Gradients;
using test::Model;
using test::PlacedTensor;
using test::Random;

using Norms = test::OnDevice;

/// Tensors of these lengths, one per layer.
Layout layout_of(const std::vector<std::uint64_t>& lengths) {
  std::vector<ParameterShape> shapes;
  for (std::uint32_t tensor = 0; tensor < lengths.size(); ++tensor) shapes.push_back({lengths[tensor], tensor, 0});
  return Layout(shapes);
}

/// r of each tensor; gradients begin `offset` elements past a 16-byte boundary.
std::vector<double> norms_of(const std::shared_ptr<Device>& device, const std::vector<std::vector<float>>& gradients,
                             std::uint32_t offset) {
  const auto count = static_cast<std::uint32_t>(gradients.size());
  std::vector<std::uint64_t> lengths;
  std::vector<PlacedTensor> placed;
  auto parameters = std::make_unique<AddressTable>(device, 1, count);
  AddressTable addresses(device, 1, count);
  for (std::uint32_t tensor = 0; tensor < count; ++tensor) {
    lengths.push_back(gradients[tensor].size());
    placed.emplace_back(*device, gradients[tensor].size(), offset);
    placed.back().write(*device, gradients[tensor]);
    addresses.set(0, tensor, placed.back().data());
  }
  OptimizerOptions options;
  options.form.non_finite = NonFinite::kPropagate;  // otherwise, r of a term that is too large is NaN
  Optimizer optimizer(device, layout_of(lengths), options, std::move(parameters));
  optimizer.set_groups({test::default_group()});
  optimizer.set_weights(0, {1});
  optimizer.accumulate(addresses, 0, 1);
  std::vector<double> norms;
  for (const NormState& norm : optimizer.norm_states(0)) norms.push_back(norm.r);
  return norms;
}

double plain_norm(const std::vector<float>& values) {
  double squares = 0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares);
}

double canonical_norm(const std::vector<float>& values) {
  std::vector<double> sums;
  for (std::size_t at = 0; at < values.size(); at += kChunkElements) {
    sums.push_back(
        test::canonical_chunk_sum(values.data() + at, std::min<std::size_t>(kChunkElements, values.size() - at)));
  }
  return std::sqrt(test::canonical_layer_sum(sums));
}

void expect_norms(const std::vector<std::vector<float>>& gradients, const std::vector<double>& norms) {
  for (std::size_t k = 0; k < gradients.size(); ++k) {
    const double expected = plain_norm(gradients[k]);
    // docs/algorithm.md allows 1e-6; the error in float64 is no larger than this.
    ASSERT_NEAR(norms[k], expected, 1e-13 * expected) << gradients[k].size() << " elements";
    ASSERT_TRUE(test::same_bits(norms[k], canonical_norm(gradients[k]))) << gradients[k].size() << " elements";
  }
}

TEST_F(Norms, AreRightForEveryLengthAndOffset) {
  Random random(81);
  std::vector<std::vector<float>> gradients;
  // Around a vector, a row of vectors, a segment, a chunk.
  for (const std::uint64_t edge : {5, 32, 64, 256, 512, 3840, 4096, 8192}) {
    for (std::uint64_t length = edge - 5; length <= edge + 5; ++length) gradients.emplace_back(length);
  }
  for (std::vector<float>& values : gradients) {
    for (float& value : values) value = random.of_magnitude(-20, 20);
  }
  for (const std::uint32_t offset : {0, 1, 2, 3}) {
    SCOPED_TRACE("offset " + std::to_string(offset));
    expect_norms(gradients, norms_of(open(), gradients, offset));
  }
}

TEST_F(Norms, AreRightFrom1em30To1e30) {
  Random random(82);
  std::vector<std::vector<float>> gradients;
  for (int exponent = -30; exponent <= 30; ++exponent) {
    std::vector<float> values(300);
    for (float& value : values) value = static_cast<float>(random.between(-1, 1) * std::pow(10.0, exponent));
    gradients.push_back(values);
    // The same with one element that makes up nearly all of the norm.
    values[random.below(values.size())] = 1e30f;
    gradients.push_back(values);
  }
  expect_norms(gradients, norms_of(open(), gradients, 1));
}

TEST_F(Norms, AreRightForThousandsOfTensors) {
  Random random(83);
  std::vector<std::vector<float>> gradients(static_cast<std::size_t>(rounds(4000)));
  for (std::vector<float>& values : gradients) {
    values.resize(random.below(9));
    for (float& value : values) value = random.of_magnitude(-3, 3);
  }
  expect_norms(gradients, norms_of(open(), gradients, 2));
}

}  // namespace
}  // namespace mtadam
