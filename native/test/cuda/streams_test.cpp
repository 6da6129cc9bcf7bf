#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "cuda/errors.h"
#include "cuda/runtime.h"
#include "test/cuda/on_device.h"
#include "test/training.h"

// Calls that return while the device is still busy with earlier ones. On a GPU only streams and events order them; in
// late_streams_test.cpp the executor runs them as late as possible.

namespace mtadam {
namespace {

using test::Gradients;
using test::Model;
using test::Random;
using test::same_state;
using test::Training;

using Streams = test::OnDevice;

/// A stream that is independent of the default one.
class OwnStream {
 public:
  OwnStream() { cuda::check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"); }
  ~OwnStream() { cudaStreamDestroy(stream_); }
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;

  Stream get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

TEST_F(Streams, MayChangeFromStepToStep) {
  Random random(97);
  const Model model = test::random_model(random, {busy_elements(), 33}, 3);
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  Training on_cpu(model, 1), on_cuda(model, open());
  on_cpu.place(gradients);
  on_cuda.place(gradients);
  cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  const OwnStream first, second;
  for (int step = 0; step < 12; ++step) {
    on_cpu.step_again();
    on_cuda.step_again(std::vector<Stream>{first.get(), second.get(), nullptr}[static_cast<std::size_t>(step % 3)]);
  }
  on_cuda.optimizer().done()->wait();  // theta is read on the default stream
  EXPECT_TRUE(same_state(on_cpu.snapshot(), on_cuda.snapshot()));
}

// More blocks are in flight than there are pinned slots.
TEST_F(Streams, KeepTheOptionsOfEachStepApart) {
  Random random(98);
  Model model = test::random_model(random, {busy_elements()}, 2);
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  Training on_cpu(model, 1), on_cuda(model, open());
  on_cpu.place(gradients);
  on_cuda.place(gradients);
  for (int step = 0; step < 24; ++step) {
    for (GroupOptions& group : model.groups) group.lr = random.between(1e-4, 1e-2);
    for (Training* const training : {&on_cpu, &on_cuda}) {
      training->set_groups(model.groups);
      training->step_again();
    }
  }
  EXPECT_TRUE(same_state(on_cpu.snapshot(), on_cuda.snapshot()));
}

}  // namespace
}  // namespace mtadam
