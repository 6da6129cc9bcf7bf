#include "cpu/step_plan.h"

#include <gtest/gtest.h>

#include <vector>

#include "cpu/blocks.h"
#include "engine/layout.h"
#include "support.h"

namespace mtadam {
namespace {

using test::Random;

Tables tables_of(const Layout& layout) {
  Tables tables{};
  tables.layers = layout.layers().data();
  tables.layer_count = layout.layer_count();
  tables.chunk_count = layout.chunks().size();
  return tables;
}

/// One layer per length.
Layout layout_of(const std::vector<std::uint64_t>& lengths) {
  std::vector<ParameterShape> parameters;
  for (std::size_t k = 0; k < lengths.size(); ++k) {
    parameters.push_back({lengths[k], static_cast<std::uint32_t>(k), 0, 0});
  }
  return Layout(parameters);
}

StepPlan plan_of(const std::vector<std::uint64_t>& lengths, std::uint32_t terms, unsigned threads) {
  const Layout layout = layout_of(lengths);
  return plan_step(tables_of(layout), terms, threads);
}

void expect_whole(const Layout& layout, const StepPlan& plan) {
  std::vector<int> layers(layout.layer_count());
  for (const WholeLayers& whole : plan.whole) {
    ASSERT_GT(whole.count, 0u);
    for (std::uint32_t k = whole.first; k < whole.first + whole.count; ++k) layers.at(k) += 1;
  }
  for (const CutLayer& cut : plan.cut) {
    layers.at(cut.layer) += 1;
    const std::uint64_t slots = layout.layers()[cut.layer].slots;
    ASSERT_GE(cut.blocks * cut.block, slots) << "layer " << cut.layer;
    ASSERT_LT((cut.blocks - 1) * cut.block, slots) << "layer " << cut.layer;
  }
  ASSERT_EQ(layers, std::vector<int>(layers.size(), 1));
}

TEST(StepPlan, CoversEverySlotOnce) {
  Random random(31);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::uint64_t> lengths;
    for (std::size_t k = 0, count = random.below(40); k < count; ++k) {
      lengths.push_back(random.chance(0.2) ? 0 : random.below(random.chance(0.2) ? 3'000'000 : 30'000));
    }
    const Layout layout = layout_of(lengths);
    for (const unsigned threads : {1u, 2u, 7u, 64u}) {
      SCOPED_TRACE("round " + std::to_string(round) + ", " + std::to_string(threads) + " threads");
      expect_whole(layout, plan_step(tables_of(layout), 1 + static_cast<std::uint32_t>(round % 12), threads));
    }
  }
}

TEST(StepPlan, GivesAThreadWholeLayersWhoseGradientsFitInItsCache) {
  const StepPlan plan = plan_of(std::vector<std::uint64_t>(3000, 3500), 3, 2);
  EXPECT_TRUE(plan.cut.empty());
  for (const WholeLayers& whole : plan.whole) EXPECT_LE(whole.count * kChunkElements * sizeof(float) * 3, kOwnBytes);
  EXPECT_LT(plan.whole.size(), 1000u);  // several per task
}

TEST(StepPlan, GivesAThreadALargerLayerThatFitsInABlock) {
  constexpr std::uint64_t kBlock = kMaxBlockChunks * kChunkElements;
  const auto are_whole = [](std::size_t layers, std::uint64_t length, unsigned threads) {
    const StepPlan plan = plan_of(std::vector<std::uint64_t>(layers, length), 3, threads);
    EXPECT_EQ(plan.cut.size() + plan.whole.size(), layers);
    return plan.cut.empty();
  };
  EXPECT_TRUE(are_whole(16, kBlock, 2));
  EXPECT_FALSE(are_whole(16, kBlock + 1, 2));
  // With fewer than eight per thread, the others would wait for the last one.
  EXPECT_FALSE(are_whole(15, kBlock, 2));
  EXPECT_FALSE(are_whole(16, kBlock, 3));
  EXPECT_FALSE(are_whole(1, 50'000'000, 2));
}

TEST(StepPlan, CutsALayerThatWouldLeaveOtherThreadsIdle) {
  // 64 KiB of gradients: for one thread where there are many layers, for all where there is one.
  EXPECT_EQ(plan_of({16384}, 1, 4).cut.size(), 1u);
  EXPECT_TRUE(plan_of({16384}, 1, 1).cut.empty());
  EXPECT_TRUE(plan_of(std::vector<std::uint64_t>(20, 16384), 1, 4).cut.empty());
}

}  // namespace
}  // namespace mtadam
