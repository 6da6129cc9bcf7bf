#include "cpu/host_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <thread>
#include <vector>

#include "support.h"

namespace mtadam {
namespace {

using test::Random;

constexpr std::size_t kMiB = std::size_t{1} << 20;

std::uintptr_t address(const Memory& memory) { return reinterpret_cast<std::uintptr_t>(memory.data()); }

TEST(HostHeap, AllocatesZeroedMemoryThatStartsOnALine) {
  HostHeap heap;
  // Around a line, a page, and the sizes from which an array has pages of its own.
  for (const std::size_t bytes :
       {std::size_t{0}, std::size_t{1}, std::size_t{63}, std::size_t{64}, std::size_t{65}, std::size_t{4096},
        std::size_t{4097}, kMiB / 2 - 1, kMiB / 2, 2 * kMiB - 1, 2 * kMiB, 4 * kMiB - 1, 4 * kMiB, 4 * kMiB + 1}) {
    for (int round = 0; round < 2; ++round) {  // the second may get the memory of the first
      const std::unique_ptr<Memory> memory = heap.allocate(bytes);
      ASSERT_NE(memory->data(), nullptr);
      EXPECT_EQ(address(*memory) % 64, 0u) << bytes;
      ASSERT_EQ(memory->size(), bytes);
      EXPECT_TRUE(std::all_of(memory->data(), memory->data() + bytes, [](std::byte b) { return b == std::byte{0}; }));
      std::fill_n(memory->data(), bytes, std::byte{0xff});
    }
  }
}

TEST(HostHeap, AllocatesNoByteTwice) {
  HostHeap heap;
  Random random(61);
  std::vector<std::unique_ptr<Memory>> live;
  for (int round = 0; round < 3000; ++round) {
    if (!live.empty() && random.chance(0.4)) {
      std::swap(live[random.below(live.size())], live.back());
      live.pop_back();
      continue;
    }
    const std::size_t most = random.chance(0.05) ? 5 * kMiB : 40'000;
    live.push_back(heap.allocate(static_cast<std::size_t>(random.below(most))));
    Memory& memory = *live.back();
    ASSERT_TRUE(
        std::all_of(memory.data(), memory.data() + memory.size(), [](std::byte b) { return b == std::byte{0}; }));
    std::fill_n(memory.data(), memory.size(), std::byte{1});
  }
  std::sort(live.begin(), live.end(), [](const auto& a, const auto& b) { return a->data() < b->data(); });
  for (std::size_t k = 1; k < live.size(); ++k) {
    EXPECT_LE(live[k - 1]->data() + live[k - 1]->size(), live[k]->data());
  }
}

// So that a step over thousands of tensors uses few pages.
TEST(HostHeap, PlacesSmallArraysNextToEachOther) {
  HostHeap heap;
  std::vector<std::unique_ptr<Memory>> arrays;
  int neighbours = 0;
  for (int k = 0; k < 1000; ++k) {
    arrays.push_back(heap.allocate(14'000));
    if (k > 0 && address(*arrays[k]) == address(*arrays[k - 1]) + 14'016) neighbours += 1;
  }
  EXPECT_GT(neighbours, 980);  // the others begin slabs
}

TEST(HostHeap, StartsLargeArraysAtDifferentOffsetsInAPage) {
  HostHeap heap;
  std::vector<std::unique_ptr<Memory>> arrays;
  std::vector<std::uintptr_t> places;
  for (int k = 0; k < 16; ++k) {
    arrays.push_back(heap.allocate(8 * kMiB));
    places.push_back(address(*arrays.back()) % 4096);
  }
  std::sort(places.begin(), places.end());
  EXPECT_EQ(std::unique(places.begin(), places.end()), places.end());
}

// Small arrays that stay must not keep the memory of others in use: freed parts of a slab are reused.
TEST(HostHeap, ReusesMemoryFreedAroundArraysThatStay) {
  HostHeap heap;
  std::set<std::uintptr_t> pages;
  std::vector<std::unique_ptr<Memory>> kept;
  for (int round = 0; round < 200; ++round) {
    std::vector<std::unique_ptr<Memory>> passing;
    for (int k = 0; k < 5; ++k) passing.push_back(heap.allocate(400 * 1024));
    kept.push_back(heap.allocate(64));
    for (const auto& memory : passing) pages.insert(address(*memory) / kMiB);
  }
  EXPECT_LE(pages.size(), 10u);  // MiB in which any array began
}

TEST(HostHeap, JoinsNeighboursThatAreFreed) {
  HostHeap heap;
  std::vector<std::unique_ptr<Memory>> arrays;
  for (int k = 0; k < 8; ++k) arrays.push_back(heap.allocate(4096));
  const std::uintptr_t begin = address(*arrays[1]);
  for (const int k : {1, 4, 2, 3, 5, 6}) arrays[static_cast<std::size_t>(k)].reset();
  EXPECT_EQ(address(*heap.allocate(6 * 4096)), begin);
}

TEST(HostHeap, LeavesItsMemoryValidWhenDestroyed) {
  std::vector<std::unique_ptr<Memory>> left;
  {
    HostHeap heap;
    for (const std::size_t bytes : {std::size_t{100}, std::size_t{5000}, 5 * kMiB})
      left.push_back(heap.allocate(bytes));
  }
  for (const std::unique_ptr<Memory>& memory : left) std::fill_n(memory->data(), memory->size(), std::byte{1});
  std::thread([&left] { left.clear(); }).join();
}

TEST(HostHeap, AllocatesForSeveralThreadsAtOnce) {
  HostHeap heap;
  const auto work = [&heap] {
    std::vector<std::unique_ptr<Memory>> arrays;
    for (int k = 0; k < 500; ++k) {
      arrays.push_back(heap.allocate(3000));
      std::fill_n(arrays.back()->data(), 3000, std::byte{1});
      if (k % 3 == 0) arrays.erase(arrays.begin());
    }
  };
  std::thread other(work);
  work();
  other.join();
}

}  // namespace
}  // namespace mtadam
