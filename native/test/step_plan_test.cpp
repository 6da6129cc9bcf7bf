#include "cpu/step_plan.h"

#include <gtest/gtest.h>

#include <vector>

#include "engine/layout.h"
#include "support.h"

namespace mtadam {
namespace {

using test::Random;
using Part = StepTask::Part;

Tables tables_of(const Layout& layout) {
  Tables tables{};
  tables.layers = layout.layers().data();
  tables.layer_count = layout.layer_count();
  tables.chunk_count = layout.chunks().size();
  return tables;
}

/// A layer per length.
Layout layout_of(const std::vector<std::uint64_t>& lengths) {
  std::vector<ParameterShape> parameters;
  for (std::size_t k = 0; k < lengths.size(); ++k) {
    parameters.push_back({lengths[k], static_cast<std::uint32_t>(k), 0, 0});
  }
  return Layout(parameters);
}

std::vector<StepTask> tasks_of(const std::vector<std::uint64_t>& lengths, std::uint32_t terms, unsigned threads) {
  const Layout layout = layout_of(lengths);
  return plan_step(tables_of(layout), terms, threads).tasks;
}

// What a task of the plan would do to every slot, in the order of the plan.
void expect_whole(const Layout& layout, const StepPlan& plan) {
  std::vector<int> layers(layout.layer_count());
  std::vector<std::uint32_t> norms(plan.norms.size());
  std::vector<std::vector<int>> summed(layout.layer_count()), moved(layout.layer_count());
  for (std::uint32_t k = 0; k < layout.layer_count(); ++k) {
    summed[k].resize(layout.layers()[k].slots);
    moved[k].resize(layout.layers()[k].slots);
  }
  for (const StepTask& task : plan.tasks) {
    ASSERT_GT(task.layers, 0u);
    if (task.part == Part::kLayers) {
      for (std::uint32_t k = task.layer; k < task.layer + task.layers; ++k) layers.at(k) += 1;
      continue;
    }
    ASSERT_LT(task.first, task.last);
    if (task.part == Part::kNorms) {
      if (norms.at(task.gate) == 0) layers.at(task.layer) += 1;
      norms[task.gate] += 1;
    } else {
      // Whoever takes this may wait for norms that others have taken before.
      ASSERT_EQ(norms.at(task.gate), plan.norms[task.gate]);
    }
    std::vector<int>& slots = (task.part == Part::kNorms ? summed : moved).at(task.layer);
    for (std::uint64_t slot = task.first; slot < task.last; ++slot) slots.at(slot) += 1;
  }
  for (std::uint32_t k = 0; k < layout.layer_count(); ++k) {
    ASSERT_EQ(layers[k], 1) << "layer " << k;
    ASSERT_EQ(summed[k], moved[k]) << "layer " << k;
    const bool cut = !summed[k].empty() && summed[k].front() == 1;
    ASSERT_EQ(summed[k], std::vector<int>(summed[k].size(), cut ? 1 : 0)) << "layer " << k;
  }
}

TEST(StepPlan, LeavesNothingOutAndDoesNothingTwice) {
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
  const std::vector<StepTask> tasks = tasks_of(std::vector<std::uint64_t>(3000, 3500), 3, 2);
  for (const StepTask& task : tasks) {
    EXPECT_EQ(task.part, Part::kLayers);
    EXPECT_LE(task.layers * kChunkElements * sizeof(float) * 3, kOwnBytes);
  }
  EXPECT_LT(tasks.size(), 1000u);  // several at a time
}

TEST(StepPlan, CutsALayerThatIsLargerThanThat) {
  for (const StepTask& task : tasks_of({50'000'000}, 3, 2)) EXPECT_NE(task.part, Part::kLayers);
}

TEST(StepPlan, CutsALayerThatWouldLeaveOtherThreadsIdle) {
  // 64 KiB of gradients: one thread's beside many, everybody's when alone.
  EXPECT_EQ(tasks_of({16384}, 1, 4).front().part, Part::kNorms);
  EXPECT_EQ(tasks_of({16384}, 1, 1).front().part, Part::kLayers);
  EXPECT_EQ(tasks_of(std::vector<std::uint64_t>(20, 16384), 1, 4).front().part, Part::kLayers);
}

}  // namespace
}  // namespace mtadam
