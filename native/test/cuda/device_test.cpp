#include "cuda/cuda_device.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/errors.h"
#include "test/cuda/fixture.h"
#include "test/simt/control.h"
#include "test/training.h"

// What the CUDA device does besides the arithmetic: memory, launches, errors.

namespace mtadam {
namespace {

using test::Gradients;
using test::Model;
using test::Random;
using test::same_state;
using test::Training;

using CudaDevice = test::OnExecutor;

TEST_F(CudaDevice, TouchesItsMemoryOnlyInOperations) {
  reset(true);
  Random random(75);
  const Model model = test::random_model(random, {0, 5, 4097}, 2);
  const std::vector<Gradients> steps = test::random_steps(random, model, 2);
  Training on_cpu(model, 1), training(model, open());
  for (const Gradients& gradients : steps) {
    on_cpu.stream(gradients);
    training.stream(gradients);
  }
  EXPECT_TRUE(same_state(on_cpu.snapshot(), training.snapshot()));
}

TEST_F(CudaDevice, TakesTwoLaunchesAStepWhateverTheNumberOfTensors) {
  Random random(73);
  for (const std::size_t tensors : {1u, 50u}) {
    Model model = test::random_model(random, std::vector<std::uint64_t>(tensors, 40), 3);
    model.options.anchor = Anchor::kMean;
    model.options.form.mean = true;
    model.options.form.non_finite = NonFinite::kSkipStep;
    const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
    Training training(model, open());
    simt::cuda::reset_counters();
    training.step(gradients);
    EXPECT_EQ(simt::cuda::launches(), 2u);
  }
}

TEST_F(CudaDevice, TakesTwoLaunchesATermAndOneMoreWhereTermsComeOneAtATime) {
  Random random(77);
  for (const std::size_t tensors : {1u, 50u}) {
    const Model model = test::random_model(random, std::vector<std::uint64_t>(tensors, 40), 3);
    const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
    Training training(model, open());
    simt::cuda::reset_counters();
    training.stream(gradients);
    EXPECT_EQ(simt::cuda::launches(), 2u * 3 + 1);
  }
}

TEST_F(CudaDevice, FillsAndAdds) {
  const std::shared_ptr<Device> device = open();
  for (const std::size_t element : {1u, 2u, 4u, 8u}) {
    const std::uint64_t pattern = 0x1122334455667788;
    const std::unique_ptr<Memory> memory = device->allocate(element * 777);
    device->fill(memory->data(), pattern, element, element * 777, nullptr);
    std::vector<std::byte> bytes(element * 777);
    device->read(bytes.data(), memory->data(), bytes.size(), nullptr);
    for (std::size_t k = 0; k < bytes.size(); ++k) {
      ASSERT_EQ(bytes[k], static_cast<std::byte>(pattern >> (8 * (k % element)))) << element << ", " << k;
    }
  }
  const std::vector<float> ones(5000, 1), twos(5000, 2);
  const test::PlacedTensor target(*device, ones.size(), 1), source(*device, twos.size(), 2);
  target.write(*device, ones);
  source.write(*device, twos);
  device->add(target.data(), source.data(), ones.size(), nullptr);
  EXPECT_EQ(target.read(*device), std::vector<float>(5000, 3));
}

TEST_F(CudaDevice, FreesAllThatItTook) {
  Random random(74);
  {
    const Model model = test::random_model(random, {40, 5000}, 2);
    Training training(model, open());
    training.step(test::random_gradients(random, model, {}));
    EXPECT_FALSE(simt::cuda::live().nothing());
  }
  EXPECT_TRUE(simt::cuda::live().nothing());
}

std::string code_of(int index) {
  try {
    const cuda::CudaDevice device(index);
    return "none";
  } catch (const Error& error) {
    return error.code();
  }
}

TEST_F(CudaDevice, SaysWhyItCannotBeOpened) {
  EXPECT_EQ(code_of(0), "none");
  EXPECT_EQ(code_of(1), "NO_DEVICE");
  EXPECT_EQ(code_of(-1), "NO_DEVICE");
  simt::cuda::Settings settings;
  settings.driver = false;
  simt::cuda::reset(settings);
  EXPECT_EQ(code_of(0), "DRIVER");
  settings = {};
  settings.driver_version = 11080;
  simt::cuda::reset(settings);
  EXPECT_EQ(code_of(0), "DRIVER");
  settings = {};
  settings.devices = 0;
  simt::cuda::reset(settings);
  EXPECT_EQ(code_of(0), "NO_DEVICE");
}

}  // namespace
}  // namespace mtadam
