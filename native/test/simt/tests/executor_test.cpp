#include "test/simt/executor.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "test/simt/device.h"
#include "test/simt/tests/support.h"

namespace simt {
namespace {

class ExecutorTest : public testing::Test {
 protected:
  ExecutorTest() { configure(Config{}); }
  ~ExecutorTest() override { configure(Config{}); }

  static void configure_order(Order order, unsigned resident_blocks = 4, std::uint64_t seed = 1) {
    configure({.order = order, .seed = seed, .resident_blocks = resident_blocks});
  }
};

unsigned linear(uint3 index, dim3 size) { return index.x + size.x * (index.y + size.y * index.z); }

__global__ void write_indices(unsigned* out) {
  const unsigned block = linear(blockIdx, gridDim);
  const unsigned thread = linear(threadIdx, blockDim);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 10000 + thread;
}

TEST_F(ExecutorTest, RunsEveryThreadOfEveryBlockOnceInEveryOrder) {
  const dim3 grid(3, 2, 4);
  const dim3 block(8, 5, 2);
  const unsigned threads = 80;
  for (const Order order : kOrders) {
    for (const unsigned resident : {1u, 2u, 7u, 100u}) {
      configure_order(order, resident);
      std::vector<unsigned> out(24 * threads, ~0u);
      run(write_indices, grid, block, out.data());
      for (unsigned k = 0; k < out.size(); ++k) EXPECT_EQ(out[k], k / threads * 10000 + k % threads);
    }
  }
}

__global__ void write_lanes(int* lanes) {
  lanes[threadIdx.x] = static_cast<int>(current_thread->lane) + 100 * static_cast<int>(current_thread->warp);
  lanes[threadIdx.x] += 1000 * warpSize;
}

TEST_F(ExecutorTest, DividesABlockIntoWarps) {
  std::vector<int> lanes(70);
  run(write_lanes, 1, 70, lanes.data());
  for (int k = 0; k < 70; ++k) EXPECT_EQ(lanes[static_cast<std::size_t>(k)], k % 32 + 100 * (k / 32) + 32000);
}

__global__ void note_block(unsigned* order, unsigned* count) {
  if (threadIdx.x == 0) order[atomicAdd(count, 1u)] = blockIdx.x;
}

std::vector<unsigned> block_order() {
  std::vector<unsigned> order(16);
  unsigned count = 0;
  run(note_block, 16, 32, order.data(), &count);
  return order;
}

TEST_F(ExecutorTest, RunsBlocksInTheConfiguredOrder) {
  std::vector<unsigned> ascending(16);
  for (unsigned k = 0; k < 16; ++k) ascending[k] = k;
  const std::vector<unsigned> descending(ascending.rbegin(), ascending.rend());

  configure_order(Order::kAscending, 1);
  EXPECT_EQ(block_order(), ascending);
  configure_order(Order::kDescending, 1);
  EXPECT_EQ(block_order(), descending);
  configure_order(Order::kRandom, 1);
  const std::vector<unsigned> random = block_order();
  EXPECT_NE(random, ascending);
  EXPECT_TRUE(std::is_permutation(random.begin(), random.end(), ascending.begin()));
}

TEST_F(ExecutorTest, RepeatsTheOrderOfASeed) {
  configure_order(Order::kRandom, 4, 7);
  const std::vector<unsigned> first = block_order();
  const std::vector<unsigned> second = block_order();
  configure_order(Order::kRandom, 4, 7);
  EXPECT_EQ(block_order(), first);
  EXPECT_EQ(block_order(), second);
  EXPECT_NE(first, second);
  configure_order(Order::kRandom, 4, 8);
  EXPECT_NE(block_order(), first);
}

__global__ void wait_for_the_other(unsigned* arrived) {
  if (threadIdx.x != 0) return;
  add_release(arrived, 1u);
  while (load_acquire(arrived) < gridDim.x) {
  }
}

TEST_F(ExecutorTest, KeepsAsManyBlocksResidentAsConfigured) {
  unsigned arrived = 0;
  configure_order(Order::kAscending, 4);
  run(wait_for_the_other, 4, 32, &arrived);
  EXPECT_EQ(arrived, 4u);

  arrived = 0;
  configure_order(Order::kAscending, 3);
  EXPECT_EQ(error_of([&] { run(wait_for_the_other, 4, 32, &arrived); }).fault(), Fault::kLivelock);
  EXPECT_EQ(arrived, 3u);
}

struct Arguments {
  int values[20];
};

__global__ void sum_arguments(Arguments arguments, short last, double* out) {
  double sum = last;
  for (const int value : arguments.values) sum += value;
  arguments.values[0] = 1000;  // each thread has a copy of its own
  out[threadIdx.x] = sum;
}

TEST_F(ExecutorTest, GivesEachThreadItsArguments) {
  Arguments arguments{};
  for (int k = 0; k < 20; ++k) arguments.values[k] = k;
  std::vector<double> out(64);
  run(sum_arguments, 1, 64, arguments, 5, out.data());
  for (const double sum : out) EXPECT_EQ(sum, 195);
  EXPECT_EQ(arguments.values[0], 0);
}

__global__ void nothing() {}

TEST_F(ExecutorTest, RejectsLaunchesThatNoDeviceAccepts) {
  for (const auto& [grid, block] : std::vector<std::pair<dim3, dim3>>{{0, 32},
                                                                      {1, 0},
                                                                      {1, 1025},
                                                                      {1, {32, 33}},
                                                                      {1, {1, 1, 65}},
                                                                      {{1, 65536}, 1},
                                                                      {{1, 1, 65536}, 1},
                                                                      {0x80000000u, 1}}) {
    EXPECT_FALSE(fits(grid, block));
    EXPECT_EQ(error_of([&, grid = grid, block = block] { run(nothing, grid, block); }).fault(), Fault::kLaunch);
  }
  EXPECT_TRUE(fits({0x7fffffffu, 65535, 65535}, {4, 4, 64}));
}

__global__ void launch_from_a_kernel() { run(nothing, 1, 1); }

TEST_F(ExecutorTest, RejectsALaunchFromAKernel) {
  const Error error = error_of([] { run(launch_from_a_kernel, 1, 1); });
  EXPECT_EQ(error.fault(), Fault::kException);
  EXPECT_NE(std::string(error.what()).find("a kernel launches a kernel"), std::string::npos);
}

__global__ void throw_from_thread_five() {
  __syncthreads();
  if (threadIdx.x == 5) throw std::runtime_error("five is too much");
  __syncthreads();
}

__global__ void catch_inside(int* caught) {
  try {
    throw threadIdx.x;
  } catch (const unsigned thread) {
    caught[thread] = 1;
  }
}

TEST_F(ExecutorTest, EndsALaunchThatThrows) {
  const Error error = error_of([] { run(throw_from_thread_five, 2, 64); });
  EXPECT_EQ(error.fault(), Fault::kException);
  EXPECT_EQ(error.thread().x, 5u);
  EXPECT_NE(std::string(error.what()).find("five is too much"), std::string::npos);

  std::vector<int> caught(64);
  run(catch_inside, 1, 64, caught.data());
  EXPECT_EQ(std::count(caught.begin(), caught.end(), 1), 64);
}

__global__ void use_much_stack(int* out) {
  volatile char room[100 << 10];
  room[0] = 1;
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = room[0];
}

TEST_F(ExecutorTest, HasLargeEnoughStacks) {
  std::vector<int> out(128);
  run(use_much_stack, 2, 64, out.data());
  EXPECT_EQ(std::count(out.begin(), out.end(), 1), 128);
}

__global__ void barrier_and_shuffle() {
  __syncthreads();
  __shfl_xor_sync(~0u, 1, 1);
}

TEST_F(ExecutorTest, Counts) {
  reset_stats();
  run(barrier_and_shuffle, 3, 64);
  run(nothing, 1, 1);
  EXPECT_EQ(stats().launches, 2u);
  EXPECT_EQ(stats().threads, 193u);
  EXPECT_EQ(stats().barriers, 192u);
  EXPECT_EQ(stats().warp_operations, 192u);
  EXPECT_GE(stats().switches, 3 * 192u);
}

__global__ void add_in_turns(int* sum, int turns) {
  MTADAM_SHARED(int, parts, 64);
  for (int turn = 0; turn < turns; ++turn) {
    parts[threadIdx.x] = 1;
    __syncthreads();
    if (threadIdx.x == 0) {
      int total = 0;
      for (const int part : parts) total += part;
      *sum += total;
    }
    __syncthreads();
  }
}

TEST_F(ExecutorTest, RunsOnSeveralHostThreadsAtOnce) {
  constexpr int kThreads = 4;
  std::vector<int> sums(kThreads);
  std::vector<std::thread> threads;
  for (int k = 0; k < kThreads; ++k) {
    threads.emplace_back([&sums, k] {
      for (int launch = 0; launch < 5; ++launch) run(add_in_turns, 1, 64, &sums[static_cast<std::size_t>(k)], 10);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(std::count(sums.begin(), sums.end(), 3200), kThreads);
}

}  // namespace
}  // namespace simt
