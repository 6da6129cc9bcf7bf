#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "test/cuda/on_device.h"
#include "test/exchange_trial.h"

// Ranks on a CUDA device and on the CPU take the steps of one process on the CPU.

namespace mtadam {
namespace {

using ExchangeOnDevice = test::OnDevice;

TEST_F(ExchangeOnDevice, TakesTheStepsOfOneProcess) {
  int network = 0, lagged = 0, cosines = 0, streamed = 0, lean = 0, narrow = 0;
  const int count = rounds(16);
  for (int seed = 0; seed < count; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    test::Random random(static_cast<std::uint64_t>(seed));
    test::Trial trial;
    trial.streamed = random.chance(0.3);
    trial.model = test::random_exchanged_model(random, 1 + static_cast<std::uint32_t>(random.below(4)), trial.streamed);
    trial.model = test::with_state(
        trial.model, random.pick<StateType>({StateType::kFloat32, StateType::kBfloat16, StateType::k8bit}));
    if (random.chance(0.4)) trial.model = test::with_narrow_gradients(random, trial.model);
    trial.sharing.state = random.chance(0.9);
    trial.sharing.staging_bytes = random.pick<std::size_t>({1, 1 << 20});
    const std::size_t ranks = 2 + static_cast<std::size_t>(seed) % 2;
    test::share_out(trial, test::random_steps(random, trial.model, 3), ranks);
    const auto device = [&](std::uint32_t rank) -> std::shared_ptr<Device> {
      if (rank == static_cast<std::uint32_t>(seed) % ranks) return open();
      return std::make_shared<CpuDevice>(1, "");
    };
    test::Threads threads(static_cast<std::uint32_t>(ranks));
    const test::Outcome expected = test::alone(trial);
    for (const test::Outcome& outcome : test::together(trial, threads, ranks, device)) {
      ASSERT_TRUE(test::same(expected, outcome));
    }
    network += trial.model.options.form.network;
    lagged += trial.model.options.form.lagged;
    cosines += trial.model.options.form.cosines;
    streamed += trial.streamed;
    narrow += trial.model.parameters[0].gradient != ElementType::kFloat32;
    lean += trial.sharing.state && trial.model.state_type != StateType::kFloat32;
  }
  if (count < 16) return;
  for (const int reached : {network, lagged, cosines, streamed, lean, narrow}) EXPECT_GT(reached, 1);
}

}  // namespace
}  // namespace mtadam
