#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "cuda/runtime.h"
#include "test/cuda/on_executor.h"
#include "test/simt/control.h"
#include "test/training.h"

// The same bits however late streams run: a step's data is on the device in time and is not freed or overwritten too
// early.

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
  for (int round = 0; round < 3 * count; ++round) {
    Model model = test::random_model(random, {0, 1, 300, 0, 4097, 33}, 3);
    if (round % 3 > 0) model = test::with_lagged_scales(random, model);
    model.options.form.network = round % 3 == 2;
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

/// Compares calls on two independent streams with those on the CPU.
class TwoStreams : public test::OnExecutor {
 protected:
  /// Null on the CPU, which has no graphs: there replay() takes a step.
  static std::unique_ptr<CapturedStep> capture(Training& training, Stream stream) {
    return stream == nullptr ? nullptr : training.capture(stream);
  }
  static void replay(Training& training, const std::unique_ptr<CapturedStep>& captured) {
    captured == nullptr ? training.step_again() : training.replay(*captured);
  }

  using Calls = std::function<void(Training&, Stream a, Stream b)>;

  void expect_same_state(const Calls& calls) {
    Random random(97);
    const Model model = test::random_model(random, {5, 40, 4099}, 3);
    const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
    Training on_cpu(model, 1), on_cuda(model, open());
    on_cpu.place(gradients);
    on_cuda.place(gradients);
    cudaDeviceSynchronize();
    cudaStream_t a = nullptr, b = nullptr;
    cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking);
    simt::cuda::set_execution(Execution::kLazy);
    calls(on_cpu, nullptr, nullptr);
    calls(on_cuda, a, b);
    on_cuda.optimizer().done()->wait();  // theta is read on the default stream
    EXPECT_TRUE(same_state(on_cpu.snapshot(), on_cuda.snapshot()));
  }
};

TEST_F(TwoStreams, AReplayFollowsAStepOnAnother) {
  expect_same_state([](Training& training, Stream a, Stream b) {
    const std::unique_ptr<CapturedStep> captured = capture(training, b);
    for (int turn = 0; turn < 3; ++turn) {
      training.step_again(a);
      replay(training, captured);
    }
  });
}

TEST_F(TwoStreams, AStepCapturedAfterAStepIsReplayedAfterIt) {
  expect_same_state([](Training& training, Stream a, Stream) {
    training.step_again(a);
    const std::unique_ptr<CapturedStep> captured = capture(training, a);
    for (int turn = 0; turn < 3; ++turn) replay(training, captured);
    // `captured` is destroyed here.
    if (a != nullptr) training.optimizer().done()->wait();
  });
}

TEST_F(TwoStreams, AStepFollowsZerosOnAnother) {
  expect_same_state([](Training& training, Stream a, Stream b) {
    training.step_again(b);
    training.zero(a);
    training.step_again(b);
  });
}

// Drivers give a new stream the handle of a destroyed one, whose work may still be queued.
TEST_F(TwoStreams, AStepFollowsOneOnADestroyedStreamOfTheSameHandle) {
  simt::cuda::Settings settings = simt::cuda::settings();
  settings.reuse_streams = true;
  simt::cuda::reset(settings);
  std::set<cudaStream_t> handles;
  expect_same_state([&](Training& training, Stream a, Stream) {
    for (int step = 0; step < 4; ++step) {
      if (a == nullptr) {
        training.step_again();
        continue;
      }
      cudaStream_t stream = nullptr;
      cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
      handles.insert(stream);
      training.step_again(stream);
      cudaStreamDestroy(stream);
    }
  });
  EXPECT_EQ(handles.size(), 1u);
}

}  // namespace
}  // namespace mtadam
