#include <gtest/gtest.h>

#include <vector>

#include "test/cuda/on_executor.h"
#include "test/simt/control.h"
#include "test/training.h"

// The same bits however late streams run: what a step needs is on the device in time, and nothing is taken away early.

namespace mtadam {
namespace {

using simt::cuda::Execution;
using test::Gradients;
using test::Model;
using test::Random;
using test::same_state;
using test::Training;

using LateStreams = test::OnExecutor;

TEST_F(LateStreams, GiveTheSameBits) {
  Random random(72);
  const int count = rounds(6);
  for (int round = 0; round < count; ++round) {
    const Model model = test::random_model(random, {0, 1, 300, 0, 4097, 33}, 3);
    const std::vector<Gradients> steps = test::random_steps(random, model, 4);
    Training on_cpu(model, 1);
    for (const Gradients& gradients : steps) on_cpu.step(gradients);
    for (const Execution execution : {Execution::kLazy, Execution::kRandom}) {
      simt::cuda::set_execution(execution, static_cast<std::uint64_t>(round));
      Training at_once(model, open()), streamed(model, open());
      for (const Gradients& gradients : steps) {
        at_once.step(gradients);
        streamed.stream(gradients);
      }
      ASSERT_TRUE(same_state(on_cpu.snapshot(), at_once.snapshot())) << "round " << round;
      ASSERT_TRUE(same_state(on_cpu.snapshot(), streamed.snapshot())) << "round " << round;
    }
  }
}

}  // namespace
}  // namespace mtadam
