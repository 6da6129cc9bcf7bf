#include "test/simt/synchronization.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "test/simt/device.h"
#include "test/simt/executor.h"
#include "test/simt/tests/support.h"

namespace simt {
namespace {

class SynchronizationTest : public testing::TestWithParam<Order> {
 protected:
  SynchronizationTest() { configure({.order = GetParam(), .seed = 3}); }
  ~SynchronizationTest() override { configure(Config{}); }
};

INSTANTIATE_TEST_SUITE_P(Orders, SynchronizationTest, testing::ValuesIn(kOrders), order_name);

bool says(const Error& error, const std::string& text) {
  return std::string(error.what()).find(text) != std::string::npos;
}

// ---- Barriers ----

__global__ void reverse_through_shared(int* data) {
  MTADAM_SHARED(int, tile, 96);
  tile[threadIdx.x] = data[blockIdx.x * 96 + threadIdx.x];
  __syncthreads();
  data[blockIdx.x * 96 + threadIdx.x] = tile[95 - threadIdx.x];
}

TEST_P(SynchronizationTest, ABarrierMakesAllOfTheBlockWait) {
  std::vector<int> data(5 * 96);
  for (std::size_t k = 0; k < data.size(); ++k) data[k] = static_cast<int>(k);
  run(reverse_through_shared, 5, 96, data.data());
  for (int k = 0; k < 5 * 96; ++k) EXPECT_EQ(data[static_cast<std::size_t>(k)], k / 96 * 96 + 95 - k % 96);
}

__global__ void reduce_at_barriers(int threshold, int* out) {
  const int holds = static_cast<int>(threadIdx.x) < threshold;
  const int results[3] = {__syncthreads_count(holds), __syncthreads_and(holds), __syncthreads_or(holds)};
  for (unsigned k = 0; k < 3; ++k) out[threadIdx.x * 3 + k] = results[k];
}

TEST_P(SynchronizationTest, BarriersCountAndCombine) {
  for (const int threshold : {0, 1, 50, 99, 100}) {
    std::vector<int> out(300);
    run(reduce_at_barriers, 1, 100, threshold, out.data());
    for (std::size_t k = 0; k < 100; ++k) {
      EXPECT_EQ(out[3 * k], threshold);
      EXPECT_EQ(out[3 * k + 1], threshold == 100);
      EXPECT_EQ(out[3 * k + 2], threshold > 0);
    }
  }
}

__global__ void wait_at_two_places() {
  if (threadIdx.x < 40) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

TEST_P(SynchronizationTest, BarriersAtTwoPlacesAreAnError) {
  const Error error = error_of([] { run(wait_at_two_places, 1, 64); });
  EXPECT_EQ(error.fault(), Fault::kBarrier);
  EXPECT_NE(error.file().find("synchronization_test.cpp"), std::string::npos);
  EXPECT_EQ(error.block().x, 0u);
  EXPECT_LT(error.thread().x, 40u);
  EXPECT_TRUE(says(error, "threads of one block wait at different barriers"));
  EXPECT_TRUE(says(error, "thread (40,0,0)"));
  EXPECT_TRUE(says(error, ":" + std::to_string(error.line())));
  EXPECT_TRUE(says(error, ":" + std::to_string(error.line() + 2)));
}

__global__ void leave_before_the_barrier() {
  if (threadIdx.x == 17) return;
  __syncthreads();
}

TEST_P(SynchronizationTest, ABarrierThatAThreadHasSkippedIsAnError) {
  const Error error = error_of([] { run(leave_before_the_barrier, 1, 64); });
  EXPECT_EQ(error.fault(), Fault::kBarrier);
  EXPECT_TRUE(says(error, "thread (17,0,0) exited"));
}

__global__ void wait_in_the_second_warp() {
  if (threadIdx.x >= 32) __syncthreads();
}

TEST_P(SynchronizationTest, ABarrierOfSomeWarpsIsAnError) {
  EXPECT_EQ(error_of([] { run(wait_in_the_second_warp, 1, 64); }).fault(), Fault::kBarrier);
}

// ---- Warp operations ----

template <class T>
__global__ void shuffle_all_ways(const T* in, T* out, int argument, int width) {
  const unsigned k = threadIdx.x;
  const T value = in[k];
  out[k] = __shfl_sync(0xffffffffu, value, argument, width);
  out[64 + k] = __shfl_xor_sync(0xffffffffu, value, argument, width);
  out[128 + k] = __shfl_up_sync(0xffffffffu, value, static_cast<unsigned>(argument), width);
  out[192 + k] = __shfl_down_sync(0xffffffffu, value, static_cast<unsigned>(argument), width);
}

/// The source of lane k according to the programming guide.
int source(int way, int k, int argument, int width) {
  const int lane = k % 32;
  const int group = lane / width * width;
  int from = lane;
  if (way == 0) from = group + ((argument % width) + width) % width;
  if (way == 1 && (lane ^ argument) < group + width) from = lane ^ argument;
  if (way == 2 && lane - argument >= group) from = lane - argument;
  if (way == 3 && lane + argument < group + width) from = lane + argument;
  return k / 32 * 32 + from;
}

template <class T>
void expect_shuffles() {
  std::vector<T> in(64);
  for (std::size_t k = 0; k < 64; ++k) in[k] = static_cast<T>(static_cast<T>(k) * 3 + static_cast<T>(1));
  for (const int width : {1, 4, 16, 32}) {
    for (const int argument : {0, 1, 3, 5, 16, 31}) {
      std::vector<T> out(256);
      run(shuffle_all_ways<T>, 1, 64, in.data(), out.data(), argument, width);
      for (int way = 0; way < 4; ++way) {
        for (int k = 0; k < 64; ++k) {
          EXPECT_EQ(out[static_cast<std::size_t>(way * 64 + k)],
                    in[static_cast<std::size_t>(source(way, k, argument, width))])
              << "way " << way << " lane " << k << " argument " << argument << " width " << width;
        }
      }
    }
  }
}

TEST_P(SynchronizationTest, ShufflesValuesOfFourAndEightBytes) {
  expect_shuffles<float>();
  expect_shuffles<double>();
  expect_shuffles<int>();
  expect_shuffles<unsigned>();
  expect_shuffles<unsigned long long>();
}

__global__ void shuffle_in_halves(int* out) {
  const int value = static_cast<int>(threadIdx.x);
  if (threadIdx.x < 16) {
    out[threadIdx.x] = __shfl_sync(0x0000ffffu, value, 3);
  } else {
    out[threadIdx.x] = __shfl_sync(0xffff0000u, value, 20);
  }
}

TEST_P(SynchronizationTest, ShufflesAmongTheLanesOfAMask) {
  std::vector<int> out(32);
  run(shuffle_in_halves, 1, 32, out.data());
  EXPECT_EQ(std::count(out.begin(), out.begin() + 16, 3), 16);
  EXPECT_EQ(std::count(out.begin() + 16, out.end(), 20), 16);
}

__global__ void vote(unsigned bits, unsigned* ballots, int* any, int* all) {
  const unsigned k = threadIdx.x;
  const int holds = static_cast<int>(bits >> k & 1u);
  ballots[k] = __ballot_sync(0xffffffffu, holds);
  any[k] = __any_sync(0xffffffffu, holds);
  all[k] = __all_sync(0xffffffffu, holds);
}

TEST_P(SynchronizationTest, Votes) {
  for (const unsigned bits : {0u, 1u, 0xf0f0f0f0u, 0xffffffffu}) {
    std::vector<unsigned> ballots(32);
    std::vector<int> any(32), all(32);
    run(vote, 1, 32, bits, ballots.data(), any.data(), all.data());
    EXPECT_EQ(std::count(ballots.begin(), ballots.end(), bits), 32);
    EXPECT_EQ(std::count(any.begin(), any.end(), bits != 0), 32);
    EXPECT_EQ(std::count(all.begin(), all.end(), bits == 0xffffffffu), 32);
  }
}

__global__ void pass_on_within_a_warp(int* out) {
  MTADAM_SHARED(int, values, 64);
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncwarp();
  out[threadIdx.x] = values[threadIdx.x ^ 1];
}

TEST_P(SynchronizationTest, AWarpBarrierOrdersItsLanes) {
  std::vector<int> out(64);
  run(pass_on_within_a_warp, 1, 64, out.data());
  for (int k = 0; k < 64; ++k) EXPECT_EQ(out[static_cast<std::size_t>(k)], k ^ 1);
}

__global__ void shuffle_without_own_lane() { __shfl_sync(0xfffffffeu, 1, 1); }
__global__ void shuffle_from_outside_the_mask() {
  if (threadIdx.x < 16) __shfl_sync(0x0000ffffu, 1, 16);
}
__global__ void shuffle_with_lanes_that_are_not() { __shfl_sync(0xffffffffu, 1, 0); }
__global__ void shuffle_in_one_branch() {
  if (threadIdx.x % 2 == 0) __shfl_sync(0xffffffffu, 1, 0);
}
__global__ void shuffle_against_a_barrier() {
  if (threadIdx.x % 2 == 0) {
    __shfl_sync(0xffffffffu, 1, 0);
  } else {
    __syncthreads();
  }
}
__global__ void shuffle_against_a_vote() {
  if (threadIdx.x % 2 == 0) {
    __shfl_sync(0xffffffffu, 1, 0);
  } else {
    __any_sync(0xffffffffu, 1);
  }
}
__global__ void shuffle_with_two_masks() { __shfl_sync(threadIdx.x < 8 ? 0xffffffffu : 0xffffff00u, 1, 9); }

TEST_P(SynchronizationTest, WrongMasksAreErrors) {
  const auto expect = [](void (*kernel)(), unsigned threads, const char* text) {
    const Error error = error_of([&] { run(kernel, 1, threads); });
    EXPECT_EQ(error.fault(), Fault::kWarp);
    EXPECT_NE(error.file().find("synchronization_test.cpp"), std::string::npos);
    EXPECT_TRUE(says(error, text)) << error.what();
  };
  expect(shuffle_without_own_lane, 32, "the calling lane is not in the mask");
  expect(shuffle_from_outside_the_mask, 32, "reads a lane outside its mask");
  expect(shuffle_with_lanes_that_are_not, 40, "names lanes that the block does not have");
  expect(shuffle_in_one_branch, 32, "has exited");
  expect(shuffle_against_a_barrier, 32, "waits at a barrier");
  expect(shuffle_against_a_vote, 32, "at different warp operations");
  expect(shuffle_with_two_masks, 32, "");  // the error depends on which lane comes first
}

// ---- Waiting forever ----

__global__ void half_waits_for_the_other(unsigned* flag) {
  if (threadIdx.x < 16) {
    __syncwarp(0x0000ffffu);
  } else if (threadIdx.x == 16) {
    while (load_acquire(flag) == 0) {
    }
  }
}

TEST_P(SynchronizationTest, SpinningOnAValueThatNeverChangesIsAnError) {
  unsigned flag = 0;
  const Error error = error_of([&] { run(half_waits_for_the_other, 1, 32, &flag); });
  EXPECT_EQ(error.fault(), Fault::kLivelock);
  EXPECT_EQ(error.thread().x, 16u);
  EXPECT_NE(error.file().find("synchronization_test.cpp"), std::string::npos);
}

__global__ void wait_for_lanes_that_wait() {
  if (threadIdx.x < 16) {
    __syncwarp(0x0000ffffu);
    __syncthreads();
  } else if (threadIdx.x < 31) {
    __syncwarp(0x7fff0000u);
    __syncthreads();
  } else {
    __syncthreads();
    __syncwarp(0x7fff0000u | 1u << 31);
  }
}

TEST_P(SynchronizationTest, WaitingForEachOtherIsAnError) {
  const Error error = error_of([] { run(wait_for_lanes_that_wait, 1, 32); });
  EXPECT_TRUE(error.fault() == Fault::kBarrier || error.fault() == Fault::kWarp || error.fault() == Fault::kDeadlock);
}

}  // namespace
}  // namespace simt
