#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cuda/errors.h"
#include "cuda/runtime.h"
#include "engine/errors.h"
#include "test/cuda/on_device.h"
#include "test/training.h"

// A step inside a graph that the user captures: each launch takes the step, with the options that were sent last.

namespace mtadam {
namespace {

using cuda::check;
using test::Gradients;
using test::Model;
using test::Random;
using test::same_state;
using test::Training;

constexpr cudaStreamCaptureMode kModes[] = {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal,
                                            cudaStreamCaptureModeRelaxed};

class UsersGraph : public test::OnDevice {
 protected:
  void SetUp() override {
    OnDevice::SetUp();
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }
  void TearDown() override {
    if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
    cudaStreamDestroy(stream_);
  }

  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal) const {
    check(cudaStreamBeginCapture(stream_, mode), "cudaStreamBeginCapture");
  }

  /// Ends the capture, makes the graph ready to launch and returns the number of its nodes.
  std::size_t end() {
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(stream_, &graph), "cudaStreamEndCapture");
    std::size_t nodes = 0;
    check(cudaGraphGetNodes(graph, nullptr, &nodes), "cudaGraphGetNodes");
    if (graph_ != nullptr) check(cudaGraphExecDestroy(graph_), "cudaGraphExecDestroy");
    check(cudaGraphInstantiate(&graph_, graph, 0), "cudaGraphInstantiate");
    check(cudaGraphDestroy(graph), "cudaGraphDestroy");
    return nodes;
  }

  void launch() const { check(cudaGraphLaunch(graph_, stream_), "cudaGraphLaunch"); }
  void synchronize() const { check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
};

/// The code of the error that the call throws, empty for none.
template <class Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return "";
}

/// Gradients that a node of the graph copies to the step's addresses, as a backward pass would write them.
class Staging {
 public:
  Staging(Device& device, const Gradients& shape) : device_(device) {
    for (const auto& term : shape) {
      tensors_.emplace_back();
      for (const auto& gradient : term) {
        tensors_.back().push_back(gradient ? std::make_unique<test::PlacedTensor>(device, gradient->size(), 0)
                                           : nullptr);
      }
    }
  }

  void write(const Gradients& gradients) const {
    for (std::size_t term = 0; term < tensors_.size(); ++term) {
      for (std::size_t tensor = 0; tensor < tensors_[term].size(); ++tensor) {
        if (tensors_[term][tensor] != nullptr) tensors_[term][tensor]->write(device_, *gradients[term][tensor]);
      }
    }
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }

  void copy(const Training& training, const Gradients& shape, cudaStream_t stream) const {
    for (std::uint32_t term = 0; term < tensors_.size(); ++term) {
      for (std::uint32_t tensor = 0; tensor < tensors_[term].size(); ++tensor) {
        if (tensors_[term][tensor] == nullptr || shape[term][tensor]->empty()) continue;
        check(cudaMemcpyAsync(training.gradient(term, tensor), tensors_[term][tensor]->data(),
                              shape[term][tensor]->size() * sizeof(float), cudaMemcpyDeviceToDevice, stream),
              "cudaMemcpyAsync");
      }
    }
  }

 private:
  Device& device_;
  std::vector<std::vector<std::unique_ptr<test::PlacedTensor>>> tensors_;
};

TEST_F(UsersGraph, TakesAStepPerLaunchWithTheCurrentGradientsAndOptions) {
  Random random(130);
  const int count = rounds(8);
  for (int round = 0; round < count; ++round) {
    const auto terms = static_cast<std::uint32_t>(1 + round % 9);
    Model model = test::with_options_of_whole_steps(random, test::random_model(random, {5, 0, 4099, 300}, terms));
    const Gradients shape = test::random_gradients(random, model, {});
    Training on_cpu(model, 1), on_cuda(model, open());
    on_cpu.place(shape);
    on_cuda.place(shape);
    const Staging staging(on_cuda.optimizer().device(), shape);
    on_cuda.upload();
    on_cuda.refresh();
    begin(kModes[round % 3]);
    staging.copy(on_cuda, shape, stream_);
    on_cuda.step_in_graph(stream_);
    end();
    EXPECT_EQ(on_cuda.optimizer().iterations(), 0);
    for (int step = 0; step < 5; ++step) {
      Gradients gradients = test::random_gradients(random, model, {0, 0, 0.05, 0.05});
      for (std::size_t term = 0; term < shape.size(); ++term) {
        for (std::size_t tensor = 0; tensor < shape[term].size(); ++tensor) {
          if (!shape[term][tensor]) gradients[term][tensor] = std::nullopt;
        }
      }
      if (step > 1) {
        for (GroupOptions& group : model.groups) group.lr = random.between(1e-4, 1e-2);
        for (double& weight : model.weights) weight = random.between(0, 3);
      }
      for (Training* const training : {&on_cpu, &on_cuda}) {
        training->set_groups(model.groups);
        training->optimizer().set_weights(0, model.weights);
      }
      on_cpu.step(gradients);
      staging.write(gradients);
      on_cuda.refresh(stream_);
      launch();
      synchronize();
      ASSERT_TRUE(same_state(on_cpu.snapshot(), on_cuda.snapshot())) << "round " << round << ", step " << step;
    }
    EXPECT_EQ(on_cpu.optimizer().iterations(), 5);
    EXPECT_EQ(on_cuda.optimizer().iterations(), 5);
  }
}

TEST_F(UsersGraph, RejectsAStepThatNeedsAnUploadAndStaysUsable) {
  Random random(131);
  Model model = test::random_model(random, {5, 4099}, 2);
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  for (const cudaStreamCaptureMode mode : kModes) {
    Training on_cpu(model, 1), on_cuda(model, open());
    on_cpu.place(gradients);
    on_cuda.place(gradients);
    const auto refused = [&] {
      begin(mode);
      EXPECT_EQ(refusal([&] { on_cuda.step_in_graph(stream_); }), "STATE");
      EXPECT_EQ(end(), 0u);
    };
    on_cuda.upload();
    refused();  // no options yet
    on_cuda.refresh();
    std::vector<GroupOptions> groups = model.groups;
    groups[0].lr *= 2;
    on_cuda.set_groups(groups);
    refused();
    on_cuda.set_groups(model.groups);
    Gradients fewer = gradients;
    fewer[1][0] = std::nullopt;
    on_cuda.place(fewer);
    refused();
    on_cuda.place(gradients);
    on_cuda.upload();
    begin(mode);
    on_cuda.step_in_graph(stream_);
    EXPECT_EQ(end(), 2u);
    on_cpu.step_again();
    launch();
    synchronize();
    EXPECT_TRUE(same_state(on_cpu.snapshot(), on_cuda.snapshot()));
  }
}

TEST_F(UsersGraph, TakesStepsInTurnWithOtherStreams) {
  Random random(132);
  const Model model = test::random_model(random, {busy_elements(), 33}, 3);
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  Training on_cpu(model, 1), on_cuda(model, open());
  on_cpu.place(gradients);
  on_cuda.place(gradients);
  cudaStream_t other = nullptr;
  check(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  on_cuda.step_again(stream_);
  begin();
  on_cuda.step_in_graph(stream_);
  on_cuda.step_again(other);  // beside the capture
  end();
  on_cuda.optimizer().done()->wait();
  launch();
  on_cuda.step_again(stream_);
  on_cuda.step_again(other);
  on_cuda.step_again();
  on_cuda.optimizer().done()->wait();
  for (int step = 0; step < 6; ++step) on_cpu.step_again();
  EXPECT_TRUE(same_state(on_cpu.snapshot(), on_cuda.snapshot()));
  EXPECT_EQ(on_cuda.optimizer().iterations(), 6);
  on_cuda.optimizer().restore_iterations(100);
  launch();
  EXPECT_EQ(on_cuda.optimizer().iterations(stream_), 101);
  check(cudaStreamDestroy(other), "cudaStreamDestroy");
}

}  // namespace
}  // namespace mtadam
