#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/errors.h"
#include "test/cuda/on_executor.h"
#include "test/simt/control.h"
#include "test/training.h"

// What the CUDA device takes from its machine and gives back, and what it says of one that it cannot use.

namespace mtadam {
namespace {

using test::Gradients;
using test::Model;
using test::Random;
using test::same_state;
using test::Training;

using CudaMachine = test::OnExecutor;

TEST_F(CudaMachine, TouchesItsMemoryOnlyInOperations) {
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

TEST_F(CudaMachine, FreesAllThatItTook) {
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
    cuda::open(index);
    return "none";
  } catch (const Error& error) {
    return error.code();
  }
}

TEST_F(CudaMachine, SaysWhyItCannotBeOpened) {
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
