#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "test/cuda/on_device.h"
#include "test/training.h"

// The launches and memory calls of the CUDA device.

namespace mtadam {
namespace {

using test::Gradients;
using test::Model;
using test::Random;
using test::Training;

using CudaDevice = test::OnDevice;

TEST_F(CudaDevice, NeedsTwoLaunchesPerStepForAnyNumberOfTensors) {
  Random random(73);
  for (const std::size_t tensors : {1u, 50u}) {
    Model model = test::random_model(random, std::vector<std::uint64_t>(tensors, 40), 3);
    model.options.anchor = Anchor::kMean;
    model.options.form.mean = true;
    model.options.form.non_finite = NonFinite::kSkipStep;
    const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
    Training training(model, open());
    EXPECT_EQ(launches_of([&] { training.step(gradients); }), 2u);
  }
}

TEST_F(CudaDevice, NeedsTwoLaunchesPerAccumulatedTermAndOnePerUpdate) {
  Random random(77);
  for (const std::size_t tensors : {1u, 50u}) {
    const Model model = test::random_model(random, std::vector<std::uint64_t>(tensors, 40), 3);
    const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
    Training training(model, open());
    EXPECT_EQ(launches_of([&] { training.stream(gradients); }), 2u * 3 + 1);
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
  device->add(target.data(), source.data(), ones.size(), ElementType::kFloat32, nullptr);
  EXPECT_EQ(target.read(*device), std::vector<float>(5000, 3));
}

}  // namespace
}  // namespace mtadam
