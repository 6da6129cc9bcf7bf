#include <atomic>
#include <chrono>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "test/simt/device.h"
#include "test/simt/launch.h"
#include "test/simt/tests/support.h"

namespace simt {
namespace {

using cuda::Execution;

using StreamTest = CudaTest;
using StreamInTimeTest = CudaExecutionTest;

INSTANTIATE_TEST_SUITE_P(Executions, StreamInTimeTest, kExecutions, execution_name);

/// Each launch writes its number after the last: the order in which kernels ran.
struct Log {
  int count;
  int entries[30];
};

__global__ void note(Log* log, int number) {
  if (threadIdx.x == 0) log->entries[log->count++] = number;
}

class LogTest : public CudaTest {
 protected:
  LogTest() {
    settings.execution = Execution::kLazy;
    restart();
    log_ = device_copy(std::vector<Log>(1));
  }

  void enqueue(int number, cudaStream_t on) { EXPECT_CUDA(launch(note, 1, 32, on, log_, number)); }

  /// The log so far, without running anything else.
  std::vector<int> entries() {
    const cuda::DeviceMemoryShown shown;
    return std::vector<int>(log_->entries, log_->entries + log_->count);
  }

  Log* log_ = nullptr;
};

TEST_F(LogTest, NothingRunsUntilSomethingWaitsForIt) {
  cudaStream_t work = stream();
  enqueue(1, work);
  enqueue(2, work);
  EXPECT_EQ(entries(), (std::vector<int>{}));
  EXPECT_EQ(cuda::live().queued_operations, 2u);
  EXPECT_CUDA(cudaStreamSynchronize(work));
  EXPECT_EQ(entries(), (std::vector<int>{1, 2}));
}

TEST_F(LogTest, WaitingRunsOnlyWhatItNeeds) {
  cudaStream_t first = stream();
  cudaStream_t second = stream();
  cudaEvent_t mark = event();
  enqueue(1, first);
  EXPECT_CUDA(cudaEventRecord(mark, first));
  enqueue(2, first);
  enqueue(3, second);
  EXPECT_CUDA(cudaEventSynchronize(mark));
  EXPECT_EQ(entries(), (std::vector<int>{1}));
  EXPECT_CUDA(cudaStreamSynchronize(second));
  EXPECT_EQ(entries(), (std::vector<int>{1, 3}));
  EXPECT_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(entries(), (std::vector<int>{1, 3, 2}));
}

TEST_F(LogTest, AQueryRunsOneOperation) {
  cudaStream_t work = stream();
  cudaEvent_t mark = event();
  enqueue(1, work);
  enqueue(2, work);
  EXPECT_CUDA(cudaEventRecord(mark, work));
  EXPECT_EQ(cudaStreamQuery(work), cudaErrorNotReady);
  EXPECT_EQ(entries(), (std::vector<int>{1}));
  EXPECT_EQ(cudaEventQuery(mark), cudaErrorNotReady);
  EXPECT_EQ(entries(), (std::vector<int>{1, 2}));
  EXPECT_EQ(cudaEventQuery(mark), cudaErrorNotReady);
  EXPECT_CUDA(cudaEventQuery(mark));
  EXPECT_CUDA(cudaStreamQuery(work));
}

TEST_F(LogTest, AStreamWaitsForAnEventOfAnother) {
  cudaStream_t first = stream();
  cudaStream_t second = stream();
  cudaEvent_t mark = event();
  EXPECT_CUDA(cudaStreamWaitEvent(second, mark));  // never recorded: nothing to wait for
  enqueue(1, first);
  EXPECT_CUDA(cudaEventRecord(mark, first));
  EXPECT_CUDA(cudaStreamWaitEvent(second, mark));
  enqueue(2, first);
  EXPECT_CUDA(cudaEventRecord(mark, first));  // waits once begun keep the earlier record
  enqueue(3, second);
  EXPECT_CUDA(cudaStreamSynchronize(second));
  EXPECT_EQ(entries(), (std::vector<int>{1, 3}));
}

TEST_F(LogTest, TheLegacyStreamOrdersWithBlockingStreams) {
  cudaStream_t blocking = stream(cudaStreamDefault);
  cudaStream_t apart = stream(cudaStreamNonBlocking);
  enqueue(1, blocking);
  enqueue(2, apart);
  enqueue(3, nullptr);
  enqueue(4, blocking);
  EXPECT_CUDA(cudaStreamSynchronize(blocking));
  EXPECT_EQ(entries(), (std::vector<int>{1, 3, 4}));
  EXPECT_CUDA(cudaStreamSynchronize(apart));
  EXPECT_EQ(entries(), (std::vector<int>{1, 3, 4, 2}));
}

TEST_F(LogTest, TheLegacyStreamAndAThreadsOwnHaveHandles) {
  enqueue(1, cudaStreamPerThread);
  enqueue(2, cudaStreamLegacy);
  std::thread([&] { enqueue(3, cudaStreamPerThread); }).join();
  EXPECT_CUDA(cudaStreamSynchronize(cudaStreamPerThread));
  EXPECT_EQ(entries(), (std::vector<int>{1}));
  EXPECT_CUDA(cudaStreamSynchronize(cudaStreamLegacy));
  EXPECT_EQ(entries(), (std::vector<int>{1, 2}));
  EXPECT_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(entries(), (std::vector<int>{1, 2, 3}));
}

TEST_F(LogTest, ADestroyedStreamStillRunsItsOperations) {
  cudaStream_t work = stream();
  enqueue(1, work);
  EXPECT_CUDA(cudaStreamDestroy(work));
  EXPECT_EQ(launch(note, 1, 32, work, log_, 2), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamDestroy(work), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(entries(), (std::vector<int>{}));
  EXPECT_CUDA(cudaDeviceSynchronize());
  EXPECT_EQ(entries(), (std::vector<int>{1}));
  EXPECT_EQ(cuda::live().streams, 0u);
}

TEST_F(LogTest, RandomExecutionDiffersWithTheSeedButKeepsTheOrderOfAStream) {
  std::vector<std::vector<int>> orders;
  for (const std::uint64_t seed : {1u, 1u, 2u, 3u, 4u}) {
    settings.execution = Execution::kRandom;
    settings.seed = seed;
    restart();
    log_ = device_copy(std::vector<Log>(1));
    cudaStream_t first = stream();
    cudaStream_t second = stream();
    for (int k = 0; k < 10; ++k) {
      enqueue(k, first);
      enqueue(100 + k, second);
    }
    EXPECT_CUDA(cudaDeviceSynchronize());
    orders.push_back(entries());
    int last[2] = {-1, 99};
    for (const int entry : orders.back()) EXPECT_EQ(entry, ++last[entry / 100]);
    EXPECT_EQ(orders.back().size(), 20u);
  }
  EXPECT_EQ(orders[0], orders[1]);
  EXPECT_FALSE(orders[0] == orders[2] && orders[0] == orders[3] && orders[0] == orders[4]);
}

// ---- Streams, devices and handles ----

TEST_F(StreamTest, KnowsItsDeviceAndFlags) {
  settings.devices = 2;
  restart();
  EXPECT_CUDA(cudaSetDevice(1));
  cudaStream_t there = stream(cudaStreamNonBlocking);
  EXPECT_CUDA(cudaSetDevice(0));
  int device = 5;
  unsigned flags = 5;
  EXPECT_CUDA(cudaStreamGetDevice(there, &device));
  EXPECT_CUDA(cudaStreamGetFlags(there, &flags));
  EXPECT_EQ(device, 1);
  EXPECT_EQ(flags, unsigned{cudaStreamNonBlocking});
  EXPECT_CUDA(cudaStreamGetDevice(nullptr, &device));
  EXPECT_EQ(device, 0);
  EXPECT_EQ(launch(note, 1, 32, there, nullptr, 1), cudaErrorInvalidResourceHandle);
  cudaEvent_t here = event();
  EXPECT_EQ(cudaEventRecord(here, there), cudaErrorInvalidResourceHandle);
  EXPECT_CUDA(cudaEventRecord(here, nullptr));
  EXPECT_CUDA(cudaStreamWaitEvent(there, here));
  cudaStream_t none = nullptr;
  EXPECT_EQ(cudaStreamCreateWithFlags(&none, 2), cudaErrorInvalidValue);
}

TEST_P(StreamInTimeTest, TimesEvents) {
  cudaStream_t work = stream();
  cudaEvent_t start = event(cudaEventDefault);
  cudaEvent_t end = event(cudaEventDefault);
  cudaEvent_t untimed = event(cudaEventDisableTiming);
  float milliseconds = -1;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorInvalidResourceHandle);
  EXPECT_CUDA(cudaEventRecord(start, work));
  EXPECT_CUDA(cudaEventRecord(end, work));
  EXPECT_CUDA(cudaEventRecord(untimed, work));
  EXPECT_CUDA(cudaEventSynchronize(untimed));
  EXPECT_CUDA(cudaEventElapsedTime(&milliseconds, start, end));
  EXPECT_GE(milliseconds, 0.0f);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start, untimed), cudaErrorInvalidResourceHandle);
  EXPECT_CUDA(cudaEventDestroy(start));
  EXPECT_EQ(cudaEventQuery(start), cudaErrorInvalidResourceHandle);
}

// ---- Host functions ----

struct Visit {
  std::thread::id thread;
  int* data;
  int seen;
  cudaError_t answer;
};

void visit(void* argument) {
  auto& visit = *static_cast<Visit*>(argument);
  visit.thread = std::this_thread::get_id();
  visit.seen = *visit.data;
  visit.answer = cudaDeviceSynchronize();
}

TEST_P(StreamInTimeTest, CallsTheHostOnAnotherThreadAfterEarlierWork) {
  int* device = device_copy(std::vector<int>{42});
  int* pinned = pinned_memory<int>(1);
  cudaStream_t work = stream();
  Visit result{{}, pinned, 0, cudaSuccess};
  EXPECT_CUDA(cudaMemcpyAsync(pinned, device, 4, cudaMemcpyDeviceToHost, work));
  EXPECT_CUDA(cudaLaunchHostFunc(work, visit, &result));
  EXPECT_CUDA(cudaStreamSynchronize(work));
  EXPECT_EQ(result.seen, 42);
  EXPECT_NE(result.thread, std::this_thread::get_id());
  EXPECT_EQ(result.answer, cudaErrorNotPermitted);
}

struct Meeting {
  std::mutex mutex;
  std::promise<void> called;
};

void take_mutex(void* argument) {
  auto& meeting = *static_cast<Meeting*>(argument);
  meeting.called.set_value();
  const std::lock_guard lock(meeting.mutex);
}

TEST_F(StreamTest, AHostFunctionMayWaitForAThreadThatMakesACall) {
  settings.execution = Execution::kLazy;
  restart();
  cudaStream_t work = stream();
  Meeting meeting;
  EXPECT_CUDA(cudaLaunchHostFunc(work, take_mutex, &meeting));
  std::thread waiting;
  {
    const std::lock_guard lock(meeting.mutex);
    waiting = std::thread([&] { EXPECT_CUDA(cudaStreamSynchronize(work)); });
    meeting.called.get_future().wait();
    EXPECT_EQ(cudaStreamQuery(work), cudaErrorNotReady);
    EXPECT_CUDA(cudaStreamDestroy(stream()));
  }
  EXPECT_CUDA(cudaStreamSynchronize(work));
  waiting.join();
}

TEST_P(StreamInTimeTest, IsUsedByManyThreads) {
  std::vector<std::thread> threads;
  for (int k = 0; k < 4; ++k) {
    threads.emplace_back([this, k] {
      int* data = device_copy(std::vector<int>(32, k));
      cudaStream_t work = stream();
      int* pinned = pinned_memory<int>(32);
      for (int turn = 0; turn < 10; ++turn) {
        EXPECT_CUDA(cudaMemcpyAsync(pinned, data, 128, cudaMemcpyDeviceToHost, work));
        EXPECT_CUDA(cudaStreamSynchronize(work));
        EXPECT_EQ(pinned[31], k);
      }
      EXPECT_CUDA(cudaFree(data));
      EXPECT_CUDA(cudaFreeHost(pinned));
      EXPECT_CUDA(cudaStreamDestroy(work));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(cuda::live().nothing());
}

}  // namespace
}  // namespace simt
