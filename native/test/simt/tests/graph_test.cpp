#include <functional>
#include <thread>
#include <vector>

#include "test/simt/device.h"
#include "test/simt/launch.h"
#include "test/simt/tests/support.h"

namespace simt {
namespace {

using cuda::Execution;

__global__ void multiply(int* data, int factor) { data[threadIdx.x] *= factor; }
__global__ void add(int* data, const int* other) { data[threadIdx.x] += other[threadIdx.x]; }

class GraphTest : public CudaTest {
 protected:
  GraphTest() { work_ = stream(); }

  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal) {
    EXPECT_CUDA(cudaStreamBeginCapture(work_, mode));
  }
  cudaError_t end() { return cudaStreamEndCapture(work_, &graph_); }
  cudaGraphExec_t instantiate() {
    cudaGraphExec_t made = nullptr;
    EXPECT_CUDA(cudaGraphInstantiate(&made, graph_));
    return made;
  }

  cudaStream_t work_ = nullptr;
  cudaGraph_t graph_ = nullptr;
};

class GraphInTimeTest : public GraphTest, public testing::WithParamInterface<Execution> {
 protected:
  GraphInTimeTest() {
    settings.execution = GetParam();
    restart();
    work_ = stream();
  }
};

INSTANTIATE_TEST_SUITE_P(Executions, GraphInTimeTest, kExecutions, execution_name);

TEST_P(GraphInTimeTest, CapturesAndLaunches) {
  int* data = device_copy(std::vector<int>(32, 1));
  int* addend = device_memory<int>(32);
  int* source = pinned_memory<int>(32);
  int* result = pinned_memory<int>(32);
  cuda::reset_counters();
  begin();
  EXPECT_CUDA(cudaMemcpyAsync(addend, source, 128, cudaMemcpyHostToDevice, work_));
  EXPECT_CUDA(launch(multiply, 1, 32, work_, data, 2));
  EXPECT_CUDA(launch(add, 1, 32, work_, data, addend));
  EXPECT_CUDA(cudaMemcpyAsync(result, data, 128, cudaMemcpyDeviceToHost, work_));
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  EXPECT_CUDA(cudaStreamIsCapturing(work_, &status));
  EXPECT_EQ(status, cudaStreamCaptureStatusActive);
  EXPECT_CUDA(end());
  EXPECT_CUDA(cudaStreamIsCapturing(work_, &status));
  EXPECT_EQ(status, cudaStreamCaptureStatusNone);

  std::size_t nodes = 0;
  EXPECT_CUDA(cudaGraphGetNodes(graph_, nullptr, &nodes));
  ASSERT_EQ(nodes, 4u);
  std::vector<cudaGraphNode_t> list(4);
  EXPECT_CUDA(cudaGraphGetNodes(graph_, list.data(), &nodes));
  cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
  EXPECT_CUDA(cudaGraphNodeGetType(list[1], &type));
  EXPECT_EQ(type, cudaGraphNodeTypeKernel);
  EXPECT_EQ(cuda::launches(), 0u);

  const cudaGraphExec_t executable = instantiate();
  EXPECT_CUDA(cudaGraphDestroy(graph_));
  int expected = 1;
  for (int turn = 1; turn <= 3; ++turn) {
    for (int k = 0; k < 32; ++k) source[k] = turn * 10;
    expected = expected * 2 + turn * 10;
    EXPECT_CUDA(cudaGraphLaunch(executable, work_));
    EXPECT_CUDA(cudaStreamSynchronize(work_));
    EXPECT_EQ(result[31], expected);
  }
  EXPECT_EQ(cuda::launches(), 6u);
  EXPECT_EQ(cuda::launches("add"), 3u);
  EXPECT_CUDA(cudaGraphExecDestroy(executable));
  EXPECT_EQ(cudaGraphLaunch(executable, work_), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::live().graphs + cuda::live().graph_executables, 0u);
}

TEST_P(GraphInTimeTest, RunsForkedWorkInAnOrderThatItAllows) {
  int* left = device_copy(std::vector<int>(32, 1));
  int* right = device_copy(std::vector<int>(32, 1));
  cudaStream_t side = stream();
  cudaEvent_t fork = event();
  cudaEvent_t join = event();
  begin();
  EXPECT_CUDA(cudaEventRecord(fork, work_));
  EXPECT_CUDA(cudaStreamWaitEvent(side, fork));
  EXPECT_CUDA(launch(multiply, 1, 32, work_, left, 3));
  EXPECT_CUDA(launch(multiply, 1, 32, side, right, 5));
  EXPECT_CUDA(cudaEventRecord(join, side));
  EXPECT_CUDA(cudaStreamWaitEvent(work_, join));
  EXPECT_CUDA(launch(add, 1, 32, work_, left, right));
  ASSERT_CUDA(end());
  EXPECT_EQ(cudaEventQuery(join), cudaErrorCapturedEvent);
  const cudaGraphExec_t executable = instantiate();
  for (int k = 0; k < 4; ++k) EXPECT_CUDA(cudaGraphLaunch(executable, work_));
  EXPECT_CUDA(cudaStreamSynchronize(work_));
  // (1, 1) -> (3 + 5, 5) -> (24 + 25, 25) -> (147 + 125, 125) -> (816 + 625, 625)
  EXPECT_EQ(host_copy(left, 32)[7], 1441);
}

TEST_F(GraphTest, WorkThatIsNotJoinedIsAnError) {
  int* data = device_copy(std::vector<int>(32, 1));
  cudaStream_t side = stream();
  cudaEvent_t fork = event();
  begin();
  EXPECT_CUDA(cudaEventRecord(fork, work_));
  EXPECT_CUDA(cudaStreamWaitEvent(side, fork));
  EXPECT_CUDA(launch(multiply, 1, 32, side, data, 5));
  EXPECT_EQ(cudaStreamEndCapture(side, &graph_), cudaErrorStreamCaptureUnmatched);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);

  begin();
  EXPECT_CUDA(cudaEventRecord(fork, work_));
  EXPECT_CUDA(cudaStreamWaitEvent(side, fork));
  EXPECT_CUDA(launch(multiply, 1, 32, side, data, 5));
  EXPECT_EQ(end(), cudaErrorStreamCaptureUnjoined);
  EXPECT_EQ(graph_, nullptr);
}

// ---- What a capture forbids ----

TEST_F(GraphTest, CallsThatWaitOrQueryAreErrorsAndEndTheCapture) {
  int* data = device_copy(std::vector<int>(32, 1));
  cudaStream_t other = stream();
  cudaEvent_t mark = event();
  EXPECT_CUDA(cudaEventRecord(mark, other));
  int host = 0;
  int device = 0;
  int* pinned = nullptr;
  const std::vector<std::function<cudaError_t()>> calls{
      [&] { return cudaStreamSynchronize(work_); },
      [&] { return cudaStreamQuery(work_); },
      [&] { return cudaStreamGetDevice(work_, &device); },
      [&] { return cudaDeviceSynchronize(); },
      [&] { return cudaEventQuery(mark); },
      [&] { return cudaEventSynchronize(mark); },
      [&] { return cudaMalloc(&pinned, 4); },
      [&] { return cudaMallocHost(&pinned, 4); },
      [&] { return cudaFree(data); },
      [&] { return cudaMemcpy(&host, data, 4, cudaMemcpyDeviceToHost); },
      [&] { return cudaMemset(data, 0, 4); },
      [&] { return cudaMemcpyAsync(&host, data, 4, cudaMemcpyDeviceToHost, work_); },
      [&] { return cudaMemcpyAsync(data, &host, 4, cudaMemcpyHostToDevice, work_); },
  };
  for (const cudaStreamCaptureMode mode : {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal}) {
    for (std::size_t k = 0; k < calls.size(); ++k) {
      begin(mode);
      EXPECT_CUDA(launch(multiply, 1, 32, work_, data, 2));
      EXPECT_EQ(calls[k](), cudaErrorStreamCaptureUnsupported) << k;
      EXPECT_EQ(launch(multiply, 1, 32, work_, data, 2), cudaErrorStreamCaptureInvalidated) << k;
      EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated) << k;
      EXPECT_EQ(graph_, nullptr);
    }
  }
  EXPECT_EQ(host_copy(data, 32)[0], 1);
}

TEST_F(GraphTest, ARelaxedCaptureForbidsOnlyConflictingCalls) {
  int* data = device_copy(std::vector<int>(32, 1));
  begin(cudaStreamCaptureModeRelaxed);
  int* more = device_memory<int>(32);
  EXPECT_CUDA(cudaMemcpy(more, data, 128, cudaMemcpyDeviceToDevice));
  EXPECT_CUDA(launch(add, 1, 32, work_, data, more));
  EXPECT_CUDA(end());
  begin(cudaStreamCaptureModeRelaxed);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
}

TEST_F(GraphTest, TheModeDecidesWhichThreadsMayWait) {
  const auto wait = [](cudaError_t expected) {
    std::thread([=] {
      void* memory = nullptr;
      EXPECT_EQ(cudaMalloc(&memory, 4), expected);
    }).join();
  };
  begin(cudaStreamCaptureModeThreadLocal);
  wait(cudaSuccess);
  EXPECT_CUDA(end());
  begin(cudaStreamCaptureModeGlobal);
  std::thread([] {
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    EXPECT_CUDA(cudaThreadExchangeStreamCaptureMode(&mode));
    EXPECT_EQ(mode, cudaStreamCaptureModeGlobal);
    void* memory = nullptr;
    EXPECT_CUDA(cudaMalloc(&memory, 4));
  }).join();
  wait(cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
}

TEST_F(GraphTest, TheLegacyStreamCannotBeCapturedNorUsedBesideABlockingCapture) {
  EXPECT_EQ(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
  int* data = device_copy(std::vector<int>(32, 1));
  begin();
  EXPECT_CUDA(launch(multiply, 1, 32, nullptr, data, 2));  // work_ does not order with it
  EXPECT_CUDA(end());

  work_ = stream(cudaStreamDefault);
  begin();
  EXPECT_EQ(launch(multiply, 1, 32, nullptr, data, 2), cudaErrorStreamCaptureImplicit);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  begin();
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  EXPECT_EQ(cudaStreamIsCapturing(nullptr, &status), cudaErrorStreamCaptureImplicit);
  EXPECT_CUDA(end());  // a query is no use of the stream
}

TEST_F(GraphTest, CapturedAndOtherWorkDoNotMix) {
  int* data = device_copy(std::vector<int>(32, 1));
  cudaStream_t other = stream();
  cudaEvent_t outside = event();
  EXPECT_CUDA(cudaEventRecord(outside, other));
  begin();
  EXPECT_EQ(cudaStreamWaitEvent(work_, outside), cudaErrorStreamCaptureIsolation);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);

  cudaEvent_t inside = event();
  begin();
  EXPECT_CUDA(cudaEventRecord(inside, work_));
  EXPECT_CUDA(cudaStreamBeginCapture(other, cudaStreamCaptureModeGlobal));
  EXPECT_EQ(cudaStreamWaitEvent(other, inside), cudaErrorStreamCaptureMerge);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaStreamEndCapture(other, &graph_), cudaErrorStreamCaptureInvalidated);

  begin();
  EXPECT_EQ(cudaStreamBeginCapture(work_, cudaStreamCaptureModeGlobal), cudaErrorIllegalState);
  EXPECT_CUDA(launch(multiply, 1, 32, work_, data, 2));
  EXPECT_CUDA(end());
  EXPECT_EQ(end(), cudaErrorIllegalState);
}

TEST_F(GraphTest, EndsOnTheThreadThatBeganIt) {
  begin();
  std::thread([this] { EXPECT_EQ(end(), cudaErrorStreamCaptureWrongThread); }).join();
  EXPECT_CUDA(end());
  begin(cudaStreamCaptureModeRelaxed);
  std::thread([this] { EXPECT_CUDA(end()); }).join();
}

// ---- Faults when a graph runs ----

TEST_F(GraphTest, MemoryThatIsFreedBeforeTheLaunchIsFound) {
  int* device = device_memory<int>(32);
  int* pinned = pinned_memory<int>(32);
  begin();
  EXPECT_CUDA(cudaMemcpyAsync(device, pinned, 128, cudaMemcpyHostToDevice, work_));
  EXPECT_CUDA(end());
  const cudaGraphExec_t executable = instantiate();
  EXPECT_CUDA(cudaFree(device));
  EXPECT_CUDA(cudaGraphLaunch(executable, work_));
  EXPECT_EQ(cudaStreamSynchronize(work_), cudaErrorIllegalAddress);
}

TEST_F(GraphTest, PinnedMemoryThatChangesBeforeTheLaunchHasRunIsFound) {
  settings.execution = Execution::kLazy;
  restart();
  work_ = stream();
  int* device = device_memory<int>(32);
  int* pinned = pinned_memory<int>(32);
  begin();
  EXPECT_CUDA(cudaMemcpyAsync(device, pinned, 128, cudaMemcpyHostToDevice, work_));
  EXPECT_CUDA(end());
  const cudaGraphExec_t executable = instantiate();
  pinned[0] = 1;
  EXPECT_CUDA(cudaGraphLaunch(executable, work_));
  EXPECT_CUDA(cudaStreamSynchronize(work_));
  EXPECT_CUDA(cudaGraphLaunch(executable, work_));
  pinned[0] = 2;
  EXPECT_EQ(cudaStreamSynchronize(work_), cudaErrorLaunchFailure);
}

TEST_F(GraphTest, AFaultCanBeInjectedIntoALaunch) {
  int* data = device_copy(std::vector<int>(32, 1));
  begin();
  EXPECT_CUDA(launch(multiply, 1, 32, work_, data, 2));
  EXPECT_CUDA(end());
  const cudaGraphExec_t executable = instantiate();
  cuda::fail_launch(2);
  EXPECT_CUDA(cudaGraphLaunch(executable, work_));
  EXPECT_CUDA(cudaStreamSynchronize(work_));
  EXPECT_CUDA(cudaGraphLaunch(executable, work_));
  EXPECT_EQ(cudaStreamSynchronize(work_), cudaErrorIllegalAddress);
}

}  // namespace
}  // namespace simt
