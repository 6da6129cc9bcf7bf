#include "test/simt/atomics.h"

#include <concepts>
#include <cstdint>
#include <set>
#include <vector>

#include "test/simt/device.h"
#include "test/simt/executor.h"
#include "test/simt/tests/support.h"

namespace simt {
namespace {

class AtomicsTest : public testing::TestWithParam<Order> {
 protected:
  AtomicsTest() { configure({.order = GetParam(), .seed = 5}); }
  ~AtomicsTest() override { configure(Config{}); }
};

INSTANTIATE_TEST_SUITE_P(Orders, AtomicsTest, testing::ValuesIn(kOrders), order_name);

struct Results {
  unsigned sum;
  unsigned long long wide_sum;
  int signed_sum;
  int largest;
  unsigned smallest;
  unsigned long long wide_largest;
  unsigned ones;
  unsigned zeros;
  unsigned wrapped;
  unsigned exchanged;
};

__global__ void combine(Results* results, unsigned* tickets) {
  const unsigned k = blockIdx.x * blockDim.x + threadIdx.x;
  tickets[k] = atomicAdd(&results->sum, 1u);
  atomicAdd(&results->wide_sum, 1ull << 33);
  atomicAdd(&results->signed_sum, -2);
  atomicMax(&results->largest, static_cast<int>(k) - 100);
  atomicMin(&results->smallest, 1000u - k);
  atomicMax(&results->wide_largest, static_cast<unsigned long long>(k) << 40);
  atomicOr(&results->ones, 1u << (k % 20));
  atomicAnd(&results->zeros, ~(1u << (k % 20)));
  atomicInc(&results->wrapped, 6u);
  atomicExch(&results->exchanged, k);
}

TEST_P(AtomicsTest, CombineTheValuesOfAllThreads) {
  Results results{};
  results.largest = -1000;
  results.smallest = 5000;
  results.zeros = ~0u;
  std::vector<unsigned> tickets(200);
  run(combine, 4, 50, &results, tickets.data());
  EXPECT_EQ(results.sum, 200u);
  EXPECT_EQ(results.wide_sum, 200ull << 33);
  EXPECT_EQ(results.signed_sum, -400);
  EXPECT_EQ(results.largest, 99);
  EXPECT_EQ(results.smallest, 801u);
  EXPECT_EQ(results.wide_largest, 199ull << 40);
  EXPECT_EQ(results.ones, 0xfffffu);
  EXPECT_EQ(results.zeros, 0xfff00000u);
  EXPECT_EQ(results.wrapped, 200u % 7);
  EXPECT_LT(results.exchanged, 200u);
  EXPECT_EQ(std::set<unsigned>(tickets.begin(), tickets.end()).size(), 200u);
}

__global__ void count_under_a_lock(unsigned* lock, unsigned* count) {
  if (threadIdx.x % 32 != 0) return;
  while (atomicCAS(lock, 0u, 1u) != 0u) {
  }
  __threadfence();
  *count = *count + 1;
  __threadfence();
  atomicExch(lock, 0u);
}

TEST_P(AtomicsTest, ASpinLockLetsTheOthersRun) {
  unsigned lock = 0;
  unsigned count = 0;
  run(count_under_a_lock, 4, 128, &lock, &count);
  EXPECT_EQ(count, 16u);
}

__global__ void poll_with_an_addition(unsigned* flag, int* value, int* seen) {
  if (threadIdx.x == 40) {
    *value = 42;
    __threadfence();
    atomicExch(flag, 1u);
  }
  if (threadIdx.x == 0) {
    while (atomicAdd(flag, 0u) == 0u) {
    }
    __threadfence();
    *seen = *value;
  }
}

TEST_P(AtomicsTest, PollingWithAnAtomicLetsTheOthersRun) {
  unsigned flag = 0;
  int value = 0;
  int seen = 0;
  run(poll_with_an_addition, 1, 64, &flag, &value, &seen);
  EXPECT_EQ(seen, 42);
}

template <class T>
__global__ void pass_along(T* turn, int* values) {
  const unsigned k = blockIdx.x;
  if (threadIdx.x != 0) return;
  while (load_acquire(turn) != static_cast<T>(k)) __nanosleep(20);
  values[k] = k == 0 ? 1 : values[k - 1] * 2;
  store_release(turn, static_cast<T>(k + 1));
}

TEST_P(AtomicsTest, OrderedAccessesPassDataBetweenBlocks) {
  int turn = 0;
  std::vector<int> values(4);
  run(pass_along<int>, 4, 32, &turn, values.data());
  EXPECT_EQ(values, (std::vector<int>{1, 2, 4, 8}));

  std::uint64_t wide_turn = 0;
  values.assign(4, 0);
  run(pass_along<std::uint64_t>, 4, 32, &wide_turn, values.data());
  EXPECT_EQ(values, (std::vector<int>{1, 2, 4, 8}));
}

__global__ void use_ordered(unsigned* word, unsigned* old) {
  if (threadIdx.x != 0) return;
  store_relaxed(word, 5u);
  old[0] = load_relaxed(word);
  old[1] = add_relaxed(word, 1u);
  old[2] = add_release(word, 2u);
  old[3] = add_acq_rel(word, 3u);
}

TEST_P(AtomicsTest, OrderedAccessesReturnTheOldValue) {
  unsigned word = 0;
  std::vector<unsigned> old(4);
  run(use_ordered, 1, 32, &word, old.data());
  EXPECT_EQ(old, (std::vector<unsigned>{5, 5, 6, 8}));
  EXPECT_EQ(word, 11u);
}

// As with nvcc, there is no such overload.
template <class T>
concept Addable = requires(T* address, T value) { atomicAdd(address, value); };
static_assert(Addable<int> && Addable<unsigned> && Addable<unsigned long long>);
static_assert(!Addable<float> && !Addable<double> && !Addable<unsigned long> && !Addable<short>);

}  // namespace
}  // namespace simt
