#include "cuda/cuda_device.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/errors.h"
#include "test/simt/control.h"
#include "training.h"

// The CUDA device, its kernels included, on the host executor and a CUDA runtime on host memory: the same bits as the
// CPU device, in any order of blocks and with streams that run as late as they may.

namespace mtadam {
namespace {

using simt::cuda::Execution;
using test::Alignment;
using test::Gradients;
using test::Model;
using test::Random;
using test::same_state;
using test::Snapshot;
using test::Training;

const std::vector<std::uint64_t> kLengths{0, 1, 3, 4, 5, 31, 33, 0, 255, 257, 1025, 4095, 4096, 4097, 8195, 0};

Snapshot on_cpu(const Model& model, const std::vector<Gradients>& steps) {
  Training training(model, 1);
  for (const Gradients& gradients : steps) training.step(gradients);
  return training.snapshot();
}

class CudaDevice : public testing::Test {
 protected:
  // Hiding device memory costs two system calls an operation; one test below has it.
  void SetUp() override { reset(false); }
  static void reset(bool hide_device_memory) {
    simt::cuda::Settings settings;
    settings.hide_device_memory = hide_device_memory;
    simt::cuda::reset(settings);
  }
  static std::shared_ptr<Device> open() { return std::make_shared<cuda::CudaDevice>(0); }
};

TEST_F(CudaDevice, GivesTheBitsOfTheCpu) {
  Random random(71);
  for (int round = 0; round < 24; ++round) {
    const auto terms = static_cast<std::uint32_t>(1 + round % 12);
    const Model model = test::random_model(random, kLengths, terms);
    const std::vector<Gradients> steps = test::random_steps(random, model, 3);
    const Snapshot expected = on_cpu(model, steps);
    for (const Alignment alignment : {Alignment::kVectors, Alignment::kAlike, Alignment::kAnyhow}) {
      Training stepping(model, open(), alignment);
      for (const Gradients& gradients : steps) stepping.step(gradients);
      ASSERT_TRUE(same_state(expected, stepping.snapshot())) << terms << " terms, round " << round;
      Training streaming(model, open(), alignment);
      for (const Gradients& gradients : steps) streaming.stream(gradients);
      ASSERT_TRUE(same_state(expected, streaming.snapshot())) << terms << " terms, streamed, round " << round;
    }
  }
}

// Anchors that look at all norms; steps that are taken back by whichever block happens to end the last layer.
TEST_F(CudaDevice, GivesThemWithTheOptionsOfWholeSteps) {
  Random random(76);
  for (int round = 0; round < 40; ++round) {
    const auto terms = static_cast<std::uint32_t>(1 + round % 10);
    Model model = test::with_options_of_whole_steps(random, test::random_model(random, kLengths, terms));
    if (round % 8 == 0) model.options.form.non_finite = NonFinite::kPropagate;
    const std::vector<Gradients> steps = test::random_steps(random, model, 5, {0.1, 0.15, 0.05, 0.02});
    Training stepping(model, open(), Alignment::kAnyhow);
    for (const Gradients& gradients : steps) stepping.step(gradients);
    ASSERT_TRUE(same_state(on_cpu(model, steps), stepping.snapshot())) << terms << " terms, round " << round;
  }
}

TEST_F(CudaDevice, GivesThemHoweverLateItsStreamsRun) {
  Random random(72);
  const Model model = test::random_model(random, kLengths, 3);
  const std::vector<Gradients> steps = test::random_steps(random, model, 4);
  const Snapshot expected = on_cpu(model, steps);
  for (const Execution execution : {Execution::kLazy, Execution::kRandom}) {
    for (const std::uint64_t seed : {1, 2, 3}) {
      simt::cuda::set_execution(execution, seed);
      Training training(model, open());
      for (const Gradients& gradients : steps) training.stream(gradients);
      EXPECT_TRUE(same_state(expected, training.snapshot()));
    }
  }
}

TEST_F(CudaDevice, TouchesItsMemoryOnlyInOperations) {
  reset(true);
  Random random(75);
  const Model model = test::random_model(random, {0, 5, 4097}, 2);
  const std::vector<Gradients> steps = test::random_steps(random, model, 2);
  Training training(model, open());
  for (const Gradients& gradients : steps) training.stream(gradients);
  EXPECT_TRUE(same_state(on_cpu(model, steps), training.snapshot()));
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
