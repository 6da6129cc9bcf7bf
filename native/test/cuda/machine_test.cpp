#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "cuda/cuda.h"
#include "cuda/errors.h"
#include "engine/errors.h"
#include "test/cuda/on_executor.h"
#include "test/simt/control.h"
#include "test/training.h"

// The memory, streams and contexts that the CUDA device uses and frees, and its errors on a machine that it cannot use.

namespace mtadam {
namespace {

using test::Gradients;
using test::Model;
using test::Random;
using test::same_state;
using test::Training;

using CudaMachine = test::OnExecutor;

TEST_F(CudaMachine, UsesItsMemoryOnlyInOperations) {
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

TEST_F(CudaMachine, FreesAllThatItAllocated) {
  Random random(74);
  {
    const Model model = test::random_model(random, {40, 5000}, 2);
    Training training(model, open());
    training.step(test::random_gradients(random, model, {}));
    EXPECT_FALSE(simt::cuda::live().nothing());
  }
  EXPECT_TRUE(simt::cuda::live().nothing());
}

/// An optimizer whose step is queued on a stream that is independent of the default one.
std::unique_ptr<Training> training_with_a_queued_step(const std::shared_ptr<Device>& device) {
  Random random(84);
  const Model model = test::random_model(random, {40, 5000}, 2);
  auto training = std::make_unique<Training>(model, device);
  training->place(test::random_gradients(random, model, {0, 0, 0, 0}));
  cudaDeviceSynchronize();
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  simt::cuda::set_execution(simt::cuda::Execution::kLazy);
  training->step_again(stream);
  return training;
}

TEST_F(CudaMachine, FreesMemoryAfterTheWorkWithoutWaiting) {
  const std::shared_ptr<Device> device = open();
  std::unique_ptr<Training> training = training_with_a_queued_step(device);
  std::unique_ptr<Memory> memory = device->allocate(64);
  device->fill(memory->data(), 7, 1, 64, nullptr);
  const std::size_t bytes = simt::cuda::live().device_bytes, queued = simt::cuda::live().queued_operations;
  training.reset();
  memory.reset();
  EXPECT_GT(simt::cuda::live().queued_operations, queued);
  EXPECT_EQ(simt::cuda::live().device_bytes, bytes);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(simt::cuda::live().device_bytes, 0u);
}

TEST_F(CudaMachine, WaitsForTheWorkToFreeMemoryThatIsLent) {
  const std::shared_ptr<Device> device = open();
  std::unique_ptr<Memory> memory = device->allocate(64);
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  simt::cuda::set_execution(simt::cuda::Execution::kLazy);
  memory->lend();
  cudaMemsetAsync(memory->data(), 1, 64, stream);  // a call of the user's
  memory.reset();
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(simt::cuda::live().device_bytes, 0u);
}

TEST_F(CudaMachine, WaitsForFreesWhereMemoryIsShort) {
  simt::cuda::Settings settings;
  settings.memory = std::size_t{1} << 20;
  simt::cuda::reset(settings);
  const std::shared_ptr<Device> device = open();
  simt::cuda::set_execution(simt::cuda::Execution::kLazy);
  constexpr std::size_t kBytes = 700 << 10;
  std::unique_ptr<Memory> memory = device->allocate(kBytes);
  device->fill(memory->data(), 7, 1, 64, nullptr);
  memory.reset();
  memory = device->allocate(kBytes);
  EXPECT_THROW(device->allocate(kBytes), Error);
}

TEST_F(CudaMachine, WorksWithoutMemoryPools) {
  simt::cuda::Settings settings;
  settings.pools = false;
  simt::cuda::reset(settings);
  {
    const std::shared_ptr<Device> device = open();
    training_with_a_queued_step(device).reset();
    EXPECT_EQ(simt::cuda::live().device_bytes, 0u);
    EXPECT_EQ(simt::cuda::live().queued_operations, 0u);
  }
  EXPECT_EQ(simt::cuda::live().device_allocations, 0u);
}

// cudaFreeHost waits for all work of the device.
TEST_F(CudaMachine, ReusesPinnedBlocksForNorms) {
  Random random(81);
  const Model model = test::random_model(random, {40, 5000}, 3);
  Training training(model, open());
  training.step(test::random_gradients(random, model, {0, 0, 0, 0}));
  const auto read = [&] {
    for (const auto& copy : training.optimizer().norms_later()) copy->wait();
  };
  read();
  simt::cuda::reset_counters();
  for (int call = 0; call < 10; ++call) read();
  EXPECT_EQ(simt::cuda::calls("cudaMallocHost"), 0u);
  EXPECT_EQ(simt::cuda::calls("cudaFreeHost"), 0u);
}

// Slots have 4 MiB: the last piece is partial and not the only one.
TEST_F(CudaMachine, WritesMoreThanASlot) {
  for (const auto execution : {simt::cuda::Execution::kEager, simt::cuda::Execution::kLazy}) {
    simt::cuda::set_execution(execution);
    const std::shared_ptr<Device> device = open();
    std::vector<std::uint32_t> sent((std::size_t{5} << 18) + 1), read(sent.size());
    for (std::size_t k = 0; k < sent.size(); ++k) sent[k] = static_cast<std::uint32_t>(k * 2654435761u);
    const std::size_t bytes = sent.size() * sizeof(std::uint32_t);
    const std::unique_ptr<Memory> memory = device->allocate(bytes);
    device->write(memory->data(), sent.data(), bytes, nullptr);
    device->read(read.data(), memory->data(), bytes, nullptr);
    EXPECT_EQ(sent, read);
  }
}

/// Makes calls while the user captures a stream that was created with these flags.
void expect_calls_beside_a_capture(unsigned flags) {
  Random random(82);
  Model model = test::random_model(random, {40, 4099}, 2);
  model.options.form.cosines = true;
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  Training on_cpu(model, 1);
  on_cpu.step(gradients);
  const test::Snapshot once = on_cpu.snapshot();
  on_cpu.step_again();
  const test::Snapshot twice = on_cpu.snapshot();
  on_cpu.step_again();
  const test::Snapshot thrice = on_cpu.snapshot();
  for (const auto mode :
       {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed}) {
    SCOPED_TRACE("mode " + std::to_string(mode));
    const auto expect_state = [](const test::Snapshot& whole, const Training& training) {
      test::Snapshot expected = whole;
      expected.theta.clear();
      EXPECT_TRUE(same_state(expected, training.state()));
    };
    std::shared_ptr<Device> device = cuda::open(0);
    auto training = std::make_unique<Training>(model, device);
    cudaStream_t stream = nullptr, beside = nullptr;
    cudaStreamCreateWithFlags(&stream, flags);
    cudaStreamCreateWithFlags(&beside, cudaStreamNonBlocking);
    simt::cuda::set_execution(simt::cuda::Execution::kLazy);
    const auto begin = [&] { ASSERT_EQ(cudaStreamBeginCapture(stream, mode), cudaSuccess); };
    const auto end = [&] {
      cudaGraph_t graph = nullptr;
      EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
      cudaGraphDestroy(graph);
    };

    training->step(gradients);
    begin();
    for (const auto& copy : training->optimizer().norms_later()) copy->wait();
    expect_state(once, *training);
    training->step_again(beside);
    expect_state(twice, *training);
    training->optimizer().done()->wait();
    device->all_done()->wait();
    const std::unique_ptr<Memory> memory = device->allocate(64);
    std::vector<std::byte> read(64, std::byte{1});
    device->read(read.data(), memory->data(), 64, device->own_stream());
    EXPECT_EQ(read, std::vector<std::byte>(64));
    std::unique_ptr<CapturedStep> captured = training->capture();
    end();
    EXPECT_TRUE(same_state(twice, training->snapshot()));
    training->replay(*captured);
    EXPECT_TRUE(same_state(thrice, training->snapshot()));

    begin();
    // As the garbage collector does.
    captured.reset();
    training.reset();
    end();
    cudaStreamDestroy(stream);
    cudaStreamDestroy(beside);
    // The thread's capture mode is unchanged.
    cudaStreamCaptureMode left = cudaStreamCaptureModeGlobal;
    cudaThreadExchangeStreamCaptureMode(&left);
    EXPECT_EQ(left, cudaStreamCaptureModeGlobal);
  }
}

TEST_F(CudaMachine, LeavesACaptureOfANonBlockingStreamAlone) { expect_calls_beside_a_capture(cudaStreamNonBlocking); }

TEST_F(CudaMachine, LeavesACaptureOfABlockingStreamAlone) { expect_calls_beside_a_capture(cudaStreamDefault); }

TEST_F(CudaMachine, IsFreedBesideACapture) {
  std::shared_ptr<Device> device = open();
  device->fill(device->allocate(64)->data(), 1, 1, 64, nullptr);
  cudaStream_t stream = nullptr;
  cudaStreamCreate(&stream);
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  device.reset();
  EXPECT_EQ(simt::cuda::live().device_bytes + simt::cuda::live().pinned_bytes, 0u);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

// Filled on the default stream, which must not be queried while a blocking stream is captured.
TEST_F(CudaMachine, WaitsForAFillBesideACapture) {
  const std::shared_ptr<Device> device = open();
  const std::unique_ptr<Memory> memory = device->allocate(64);
  cudaStream_t stream = nullptr;
  cudaStreamCreate(&stream);
  simt::cuda::set_execution(simt::cuda::Execution::kLazy);
  device->fill(memory->data(), 7, 1, 64, nullptr);
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  device->all_done()->wait();
  std::vector<std::byte> read(64);
  device->read(read.data(), memory->data(), 64, device->own_stream());
  EXPECT_EQ(read, std::vector<std::byte>(64, std::byte{7}));
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

std::string verdict(const Device& device, const void* address, std::size_t bytes) {
  try {
    device.check_range(address, bytes);
    return "accepted";
  } catch (const Error& error) {
    return error.code() + ": " + error.what();
  }
}

TEST_F(CudaMachine, AcceptsARangeOverSeveralMappedHandlesButNotOverOtherNeighbours) {
  using simt::cuda::Origin;
  const std::shared_ptr<Device> device = open();
  constexpr std::size_t kPiece = 2048;
  const auto* const mapped = static_cast<char*>(simt::cuda::allocate(Origin::kMapped, kPiece, 3));
  EXPECT_EQ(verdict(*device, mapped, 3 * kPiece), "accepted");
  EXPECT_EQ(verdict(*device, mapped + kPiece / 2, 2 * kPiece), "accepted");
  EXPECT_EQ(verdict(*device, mapped + kPiece, 2 * kPiece), "accepted");
  EXPECT_EQ(verdict(*device, mapped + kPiece, 2 * kPiece + 1),
            "INVALID_POINTER: must lie within its allocation; got 4097 bytes where 4096 are left of it.");
  const auto* const neighbours = static_cast<char*>(simt::cuda::allocate(Origin::kNeighbours, kPiece, 2));
  EXPECT_EQ(verdict(*device, neighbours, kPiece), "accepted");
  EXPECT_EQ(verdict(*device, neighbours + kPiece / 2, kPiece),
            "INVALID_POINTER: must lie within its allocation; got 2048 bytes where 1024 are left of it.");
}

TEST_F(CudaMachine, RejectsMemoryOfAnotherContext) {
  const std::shared_ptr<Device> device = open();
  const void* const foreign = simt::cuda::allocate(simt::cuda::Origin::kOtherContext, 4096);
  EXPECT_EQ(verdict(*device, foreign, 4096),
            "INVALID_POINTER: must be memory of the primary context of cuda:0; got memory of another context.");
}

/// Training on the third of three devices makes a context of that device only and leaves the thread's as it was.
void expect_one_context(void* current) {
  simt::cuda::Settings settings;
  settings.devices = 3;
  simt::cuda::reset(settings);
  simt::cuda::set_current_context(current);
  Random random(83);
  const Model model = test::random_model(random, {40, 5000}, 2);
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  {
    const std::shared_ptr<Device> device = cuda::open(2);
    Training training(model, device);
    training.step(gradients);
    const std::unique_ptr<CapturedStep> captured = training.capture();
    training.replay(*captured);
    for (const auto& copy : training.optimizer().norms_later()) copy->wait();
    EXPECT_EQ(cuda::owner_of(device->allocate(4)->data()), 2);
    device->all_done()->wait();
  }
  EXPECT_EQ(simt::cuda::current_context(), current);
  EXPECT_EQ(simt::cuda::devices_with_context(), std::set<int>{2});
  EXPECT_TRUE(simt::cuda::live().nothing());
}

TEST_F(CudaMachine, MakesOnlyTheContextOfItsDevice) { expect_one_context(nullptr); }

TEST_F(CudaMachine, LeavesTheUsersContextCurrent) { expect_one_context(simt::cuda::other_context()); }

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

TEST_F(CudaMachine, SaysWhichMemoryIsExhausted) {
  const std::string device = cuda::CudaError(cudaErrorMemoryAllocation, "cudaMalloc").what();
  EXPECT_EQ(device, "There is not enough memory on the CUDA device.");
  const auto opened = open();
  const auto memory = opened->allocate(4);
  simt::cuda::fail_call("cudaMallocHost", 1, cudaErrorMemoryAllocation);
  const int value = 1;
  try {
    opened->write(memory->data(), &value, 4, nullptr);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "OUT_OF_MEMORY");
    EXPECT_STREQ(error.what(),
                 "There is not enough host memory that can be pinned for copies to and from the CUDA device.");
  }
}

/// A step of a model with lagged scales, or one term's part of it, in which the n-th call of `function` fails. 1 if
/// the step was not taken, and can be taken; -1 if the state must be restored; 0 if no call failed.
int outcome_of_failure(Model model, const Gradients& gradients, bool streamed, const char* function, int n) {
  Training training(model, test::OnDevice::open());
  training.step(gradients);
  for (GroupOptions& group : model.groups) group.lr *= 0.5;
  training.set_groups(model.groups);
  const test::Snapshot before = training.snapshot();
  simt::cuda::fail_call(function, n, cudaErrorLaunchOutOfResources);
  try {
    streamed ? training.accumulate_again(0) : training.step_again();
    return 0;
  } catch (const Error&) {
  }
  if (training.optimizer().is_whole()) {
    EXPECT_TRUE(same_state(before, training.snapshot()));
    return 1;
  }
  EXPECT_THROW(training.step_again(), Error);
  return -1;
}

// Every call of CUDA's runtime fails in turn.
TEST_F(CudaMachine, TakesNoStepTwiceWhereOneThatReadsGradientsOnceFails) {
  Random random(85);
  for (const bool network : {false, true}) {
    Model model = test::with_lagged_scales(random, test::random_model(random, {40, 5000}, 2));
    model.options.form.network = network;
    const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
    for (const bool streamed : {false, true}) {
      std::vector<int> launches, records;
      for (const auto& [function, outcomes] :
           {std::pair{"cudaLaunchKernel", &launches}, std::pair{"cudaEventRecord", &records}}) {
        for (int n = 1;; ++n) {
          SCOPED_TRACE(std::string(function) + ", call " + std::to_string(n) + (network ? ", network" : ""));
          reset(false);
          const int outcome = outcome_of_failure(model, gradients, streamed, function, n);
          if (outcome == 0) break;
          outcomes->push_back(outcome);
        }
      }
      EXPECT_EQ(launches, network ? std::vector({1, -1, -1}) : std::vector({1}));
      EXPECT_FALSE(records.empty());
      EXPECT_EQ(records.back(), -1) << "the whole step was launched";
    }
  }
}

TEST_F(CudaMachine, SaysThatTheDriverIsAtFault) {
  for (const cudaError_t error :
       {cudaErrorInsufficientDriver, cudaErrorSystemDriverMismatch, cudaErrorCompatNotSupportedOnDevice}) {
    EXPECT_EQ(cuda::CudaError(error, "cudaGetDeviceCount").code(), "DRIVER");
  }
}

TEST_F(CudaMachine, SaysWhichErrorsStay) {
  for (const cudaError_t error : {cudaErrorNvlinkUncorrectable, cudaErrorContained, cudaErrorTensorMemoryLeak}) {
    const std::string text = cuda::CudaError(error, "cudaMemcpyAsync").what();
    EXPECT_NE(text.find("; this process may not be able to use the device any more."), std::string::npos) << text;
  }
  const std::string other = cuda::CudaError(cudaErrorUnknown, "cudaMemcpyAsync").what();
  EXPECT_EQ(other, "`cudaMemcpyAsync` failed with cudaErrorUnknown (unknown error).");
}

}  // namespace
}  // namespace mtadam
