#include <gtest/gtest.h>

#include <vector>

#include "test/cuda/launches.h"
#include "test/cuda/on_executor.h"
#include "test/simt/executor.h"
#include "test/training.h"

// The same bits for any number of blocks, any number of resident blocks, and any order of blocks and threads.

namespace mtadam {
namespace {

using test::Alignment;
using test::Gradients;
using test::Model;
using test::Random;
using test::same_state;
using test::Snapshot;
using test::Training;

class Order : public test::OnExecutor {
 protected:
  void TearDown() override { test::set_grid(0); }

  static Snapshot train(Training&& training, const std::vector<Gradients>& steps) {
    for (std::size_t step = 0; step < steps.size(); ++step) {
      step % 2 == 1 ? training.step(steps[step]) : training.stream(steps[step]);
    }
    return training.snapshot();
  }
  static Snapshot train(const Model& model, const std::vector<Gradients>& steps) {
    return train(Training(model, open(), Alignment::kAnyhow), steps);
  }
};

TEST_F(Order, ChangesNothing) {
  Random random(91);
  for (const std::uint32_t terms : {3u, 9u}) {
    for (const bool summed : {false, true}) {
      Model model = test::random_model(random, {5, 0, 9000, 300, 4097, 0, 40}, terms);
      model.options.form = {summed, false};
      model.options.form.cosines = true;
      const std::vector<Gradients> steps = test::random_steps(random, model, 2);
      Training on_cpu(model, 1);
      for (const Gradients& gradients : steps) on_cpu.step(gradients);
      const Snapshot expected = on_cpu.snapshot();
      std::uint64_t seed = 0;
      for (const unsigned grid : {0u, 1u, 2u, 5u, 100u}) {
        for (const unsigned resident : {1u, 3u, 16u}) {
          for (const simt::Order order : {simt::Order::kAscending, simt::Order::kDescending, simt::Order::kRandom}) {
            test::set_grid(grid);
            simt::configure({order, ++seed, resident});
            ASSERT_TRUE(same_state(expected, train(model, steps)))
                << terms << " terms, summed " << summed << ", a grid of " << grid << ", " << resident
                << " resident, order " << static_cast<int>(order) << ", seed " << seed;
          }
        }
      }
    }
  }
}

// With one read of each gradient after the first step, also with pairs that come late. Forms 3 to 5 and 9 to 11 have a
// lean state, and from form 6 on the network is one unit.
TEST_F(Order, ChangesNothingWithLaggedScales) {
  Random random(93);
  for (int form = 0; form < 12; ++form) {
    Model model = test::with_lagged_scales(random, test::random_model(random, {5, 0, 9000, 300, 4097, 0, 40}, 4));
    model.options.form.summed = form % 3 > 0;
    model.options.form.one_v = form % 3 > 1;
    model.options.form.amsgrad = false;
    model.options.form.network = form >= 6;
    if (form % 6 >= 3) model = test::with_state(model, form % 6 == 4 ? StateType::kBfloat16 : StateType::k8bit);
    const std::vector<Gradients> steps = test::random_steps(random, model, 4, {0, 0.3, 0.1, 0.1});
    const Snapshot expected = train(Training(model, 1), steps);
    std::uint64_t seed = 0;
    for (const unsigned grid : {0u, 1u, 2u, 5u, 100u}) {
      for (const unsigned resident : {1u, 16u}) {
        test::set_grid(grid);
        simt::configure({simt::Order::kRandom, ++seed, resident});
        ASSERT_TRUE(same_state(expected, train(model, steps)))
            << "form " << form << ", a grid of " << grid << ", " << resident << " resident, seed " << seed;
      }
    }
  }
}

TEST_F(Order, ChangesNothingFromRunToRun) {
  Random random(92);
  Model model = test::random_model(random, {8192, 33, 1}, 3);
  model.options.form.amsgrad = false;
  const std::vector<Gradients> steps = test::random_steps(random, model, 4);
  const Snapshot first = train(model, steps);
  // Each launch uses another order.
  for (int run = 0; run < 5; ++run) EXPECT_TRUE(same_state(first, train(model, steps))) << "run " << run;
}

}  // namespace
}  // namespace mtadam
