#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cuda/cuda.h"
#include "engine/narrow_values.h"
#include "test/cuda/on_device.h"
#include "test/ptx/on_ptx.h"
#include "test/training.h"

// Every kernel that nvcc emits is decoded, launched and right, for every form and not only for those that random models
// reach.

namespace mtadam {
namespace {

using test::Gradients;
using test::Model;
using test::Random;
using test::Training;

using EveryKernel = test::OnDevice;

enum class Decay { kNone, kCoupled, kDecoupled };
const std::vector<Decay> kDecays{Decay::kNone, Decay::kCoupled, Decay::kDecoupled};

Model model_of(Random& random, std::uint32_t terms, unsigned form, Decay decay) {
  Model model = test::random_model(random, {4099, 3, 0, 302, 64}, terms);
  model.options.form = {(form & 1) != 0 || form >= 4, (form & 2) != 0};
  model.options.form.one_v = form >= 4;
  model.options.form.network = random.chance(0.5);
  for (GroupOptions& group : model.groups) {
    group.weight_decay = decay == Decay::kNone ? 0 : 1e-2;
    group.decoupled = decay == Decay::kDecoupled;
  }
  return model;
}

void expect_same_steps(Random& random, const Model& model, test::Alignment alignment) {
  Training on_cpu(model, 1), on_ptx(model, test::OnDevice::open(), alignment);
  for (const Gradients& gradients : test::random_steps(random, model, 2)) {
    for (Training* const training : {&on_cpu, &on_ptx}) {
      training->step(gradients);
      training->add(gradients);
      training->stream(gradients);
      training->zero();
      training->step_again();
    }
    ASSERT_TRUE(test::same_state(on_cpu.snapshot(), on_ptx.snapshot()));
  }
}

/// Gradients of zeros where there were others.
void expect_zeros() {
  const auto device = cuda::open(0);
  const std::uint64_t length = 5000;
  const test::PlacedTensor theta(*device, length, 1), gradient(*device, length, 2);
  gradient.write(*device, std::vector<float>(length, 7));
  auto parameters = std::make_unique<AddressTable>(device, 1, 1);
  parameters->set(0, 0, theta.data());
  AddressTable gradients(device, 1, 1);
  gradients.set(0, 0, gradient.data());
  Optimizer optimizer(device, Layout(std::vector<ParameterShape>{{length, 0, 0}}), {}, std::move(parameters));
  optimizer.zero(gradients);
  EXPECT_EQ(gradient.read(*device), std::vector<float>(length, 0));
}

void expect_filled() {
  const auto device = cuda::open(0);
  const auto memory = device->allocate(80);
  for (const std::size_t element : {1u, 2u, 4u, 8u}) {
    device->fill(memory->data(), 0x0807060504030201, element, 80, nullptr);
    std::vector<std::uint8_t> bytes(80);
    device->read(bytes.data(), memory->data(), 80, nullptr);
    for (std::size_t k = 0; k < 80; ++k) EXPECT_EQ(bytes[k], k % element + 1) << element;
  }
}

void expect_narrowed_and_widened() {
  constexpr std::uint64_t kCount = 70'000;
  const auto device = cuda::open(0);
  const auto wide = device->allocate(kCount * sizeof(float)), narrow = device->allocate(kCount * 2);
  float* const floats = reinterpret_cast<float*>(wide->data());
  std::uint16_t* const codes = reinterpret_cast<std::uint16_t*>(narrow->data());
  std::vector<float> values(kCount), expected(kCount);
  std::vector<std::uint16_t> rounded(kCount), found(kCount);
  for (std::uint64_t k = 0; k < kCount; ++k) values[k] = float_of(static_cast<std::uint32_t>(k * 61'357 + 0x3f000000));
  device->write(floats, values.data(), kCount * sizeof(float), nullptr);
  device->narrow(codes, floats, kCount, nullptr);
  device->read(found.data(), codes, kCount * 2, nullptr);
  narrow_values(rounded.data(), values.data(), kCount);
  EXPECT_EQ(found, rounded);
  for (const ElementType type : {ElementType::kBfloat16, ElementType::kFloat16}) {
    device->widen(floats, codes, kCount, type, nullptr);
    device->read(values.data(), floats, kCount * sizeof(float), nullptr);
    widen_values(expected.data(), rounded.data(), kCount, type);
    EXPECT_TRUE(test::same_bits(values, expected));
  }
}

TEST_F(EveryKernel, IsLaunchedAndRight) {
  Random random(61);
  for (const std::uint32_t terms : {1, 2, 3, 4, 5, 6, 8, 9}) {
    for (const unsigned form : {0, 1, 2, 3, 4, 6}) {
      for (const Decay decay : kDecays) {
        Model model = model_of(random, terms, form, decay);
        model.options.form.cosines = random.chance(0.3);
        SCOPED_TRACE(std::to_string(terms) + " terms, form " + std::to_string(form) + ", decay " +
                     std::to_string(static_cast<int>(decay)));
        ASSERT_NO_FATAL_FAILURE(expect_same_steps(random, model, random.pick(test::kAlignments)));
      }
    }
  }
  for (const unsigned form : {0, 1, 2, 3, 4, 6}) {
    for (const bool network : {false, true}) {
      // With nine terms every step takes two launches.
      Model model = test::with_lagged_scales(random, model_of(random, network ? 9 : 3, form, Decay::kCoupled));
      model.options.form.non_finite = NonFinite::kSkipElement;
      model.options.form.network = network;
      SCOPED_TRACE("lagged, form " + std::to_string(form) + (network ? ", network" : ""));
      ASSERT_NO_FATAL_FAILURE(expect_same_steps(random, model, random.pick(test::kAlignments)));
    }
  }
  // After the first step, these read each gradient once.
  for (const std::uint32_t terms : {1, 3, 5}) {
    for (const unsigned form : {0, 1, 2, 3, 4, 6}) {
      for (const NonFinite rule : {NonFinite::kSkipElement, NonFinite::kPropagate}) {
        Model model = test::with_lagged_scales(random, model_of(random, terms, form, random.pick(kDecays)));
        model.options.form.non_finite = rule;
        model.options.form.network = random.chance(0.3);
        SCOPED_TRACE("lagged, " + std::to_string(terms) + " terms, form " + std::to_string(form));
        ASSERT_NO_FATAL_FAILURE(expect_same_steps(random, model, random.pick(test::kAlignments)));
      }
    }
  }
  for (const std::uint32_t terms : {3, 5}) {
    for (const unsigned form : {0, 1, 4}) {
      const Model model = test::with_lagged_scales(random, model_of(random, terms, form, random.pick(kDecays)));
      Model narrow = with_narrow_gradients(random, with_state(model, StateType::kBfloat16));
      narrow.options.form.network = false;
      SCOPED_TRACE("lagged and lean, " + std::to_string(terms) + " terms, form " + std::to_string(form));
      ASSERT_NO_FATAL_FAILURE(expect_same_steps(random, narrow, random.pick(test::kAlignments)));
    }
  }
  for (const unsigned form : {0, 1, 4}) {
    for (const bool lagged : {false, true}) {
      for (const bool network : {false, true}) {
        Model model = model_of(random, 3, form, Decay::kCoupled);
        if (lagged) model = test::with_lagged_scales(random, model);
        model.options.form.network = network;
        model.options.form.cosines = !lagged && !network;
        SCOPED_TRACE("narrow, form " + std::to_string(form) + (lagged ? ", lagged" : "") +
                     (network ? ", network" : ""));
        const auto alignment = random.pick(test::kAlignments);
        ASSERT_NO_FATAL_FAILURE(expect_same_steps(random, with_narrow_gradients(random, model), alignment));
        const StateType type = lagged ? StateType::k8bit : StateType::kBfloat16;
        ASSERT_NO_FATAL_FAILURE(expect_same_steps(random, with_state(model, type), alignment));
        const Rounding rounding = lagged ? Rounding::kMaster : Rounding::kStochastic;
        ASSERT_NO_FATAL_FAILURE(expect_same_steps(random, with_narrow_parameters(random, model, rounding), alignment));
      }
    }
  }
  expect_zeros();
  expect_filled();
  expect_narrowed_and_widened();
  const std::vector<std::string> names = test::kernels_as_ptx().names();
  EXPECT_GT(names.size(), 8u);
  for (const std::string& name : names) EXPECT_GT(test::kernels_as_ptx().launches(name), 0u) << name;
}

}  // namespace
}  // namespace mtadam
