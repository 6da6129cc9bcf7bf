#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "test/cuda/on_device.h"
#include "test/training.h"

// With lagged scales a step takes one launch once its terms have come before, and has the same bits as on the CPU. That
// also holds where the launch finds a pair that has no norm yet. Where the network is one unit, it is between two small
// ones.

namespace mtadam {
namespace {

using test::Gradients;
using test::Model;
using test::Random;
using test::same_bits;
using test::same_state;
using test::Training;

using LaggedScales = test::OnDevice;

/// Of every form that has kernels.
Model random_lagged_model(Random& random, const std::vector<std::uint64_t>& lengths, std::uint32_t terms) {
  Model model = test::with_lagged_scales(random, test::random_model(random, lengths, terms));
  model = test::with_one_v(random, model);
  model.options.form.non_finite = random.chance(0.8) ? NonFinite::kSkipElement : NonFinite::kPropagate;
  model.options.form.network = random.chance(0.4);
  model.options.rest = random.chance(0.7);
  model.options.anchor = random.pick<Anchor>({Anchor::kFirst, Anchor::kMax, Anchor::kMean, Anchor::kTerm});
  model.options.anchor_term = static_cast<std::uint32_t>(random.below(terms));
  return model;
}

/// Lean moments, narrow gradients, narrow parameters, or several of these.
Model with_codes(Random& random, Model model) {
  model =
      test::with_state(model, random.pick<StateType>({StateType::kFloat32, StateType::kBfloat16, StateType::k8bit}));
  const bool gradients = random.chance(0.5), parameters = random.chance(0.5);
  if (gradients || (!parameters && model.state_type == StateType::kFloat32)) {
    model = test::with_narrow_gradients(random, model);
  }
  if (!parameters) return model;
  const auto rounding = random.pick<Rounding>({Rounding::kStochastic, Rounding::kNearest, Rounding::kMaster});
  return test::with_narrow_parameters(random, model, rounding);
}

void change_options(Random& random, Model& model, const std::vector<Training*>& trainings) {
  for (GroupOptions& group : model.groups) {
    group.lr = random.between(1e-4, 1e-2);
    group.beta1 = random.pick<double>({0.9, 0.5, 0});
    group.beta2 = random.pick<double>({0.999, 0.9});
    group.weight_decay = random.pick<double>({0, 1e-2});
    group.maximize = random.chance(0.3);
  }
  for (double& weight : model.weights) weight = random.chance(0.2) ? 0 : random.between(0, 3);
  for (Training* const training : trainings) {
    training->set_groups(model.groups);
    training->optimizer().set_weights(0, model.weights);
  }
}

/// How many launches calls take.
using Launches = std::function<std::uint64_t(const std::function<void()>&)>;

/// What the calls of a random training did.
struct Reached {
  int one_launch = 0, one_launch_of_term = 0;          // that read gradients once
  int three_launches = 0, three_launches_of_term = 0;  // as well, where the network is one unit
  int late = 0, discarded = 0, shared_layer = 0, restored = 0, coupled = 0;
  test::FormCounts forms;
};

void expect_often(const Reached& reached) {
  for (const int times :
       {reached.one_launch, reached.one_launch_of_term, reached.three_launches, reached.three_launches_of_term,
        reached.late, reached.discarded, reached.shared_layer, reached.restored, reached.coupled}) {
    EXPECT_GT(times, 4);
  }
}

class RandomTraining {
 public:
  RandomTraining(Random& random, const Model& model, std::shared_ptr<Device> device, Reached& reached)
      : random_(random),
        model_(model),
        reached_(reached),
        on_cpu_(model, 1),
        on_cuda_(model, std::move(device), random.pick(test::kAlignments)) {
    reached.forms.add(model.options.form);
    for (const GroupOptions& group : model.groups) reached.coupled += group.weight_decay != 0 && !group.decoupled;
    reached.shared_layer += model.layer_count() < model.parameters.size();
  }

  void step(const Gradients& gradients, const Launches& launches) {
    if (random_.chance(0.3)) change_options(random_, model_, {&on_cpu_, &on_cuda_});
    count_late(gradients);
    if (random_.chance(0.5)) {
      on_cpu_.step(gradients);
      const std::uint64_t count = launches([&] { on_cuda_.step(gradients); });
      reached_.one_launch += count == 1;
      reached_.three_launches += count == 3;
      return;
    }
    std::vector<std::uint32_t> order(model_.options.terms);
    std::iota(order.begin(), order.end(), 0u);
    for (std::size_t k = order.size(); k > 1; --k) std::swap(order[k - 1], order[random_.below(k)]);
    if (random_.chance(0.3)) order.pop_back();
    for (const std::uint32_t term : order) {
      on_cpu_.accumulate(term, gradients);
      const std::uint64_t count = launches([&] { on_cuda_.accumulate(term, gradients); });
      reached_.one_launch_of_term += count == 1;
      reached_.three_launches_of_term += count == 3;
    }
    const bool discards = random_.chance(0.2);
    reached_.discarded += discards;
    for (Training* const training : {&on_cpu_, &on_cuda_}) {
      discards ? training->optimizer().discard() : training->optimizer().update();
    }
  }

  /// Restores some pairs as if they had never come, behind the back of the graphs.
  void forget() {
    const auto term = static_cast<std::uint32_t>(random_.below(model_.options.terms));
    for (Training* const training : {&on_cpu_, &on_cuda_}) {
      Optimizer& optimizer = training->optimizer();
      std::vector<SavedClock> clocks(model_.parameters.size(), {0, 1, 1});
      optimizer.begin_restore();
      optimizer.restore_clocks(term, clocks);
      optimizer.restore_norms(term, std::vector<SavedNorm>(optimizer.layout().layer_count(), {0, false, 0}));
      optimizer.end_restore(3, true);
    }
    reached_.restored += 1;
  }

  testing::AssertionResult same() const {
    testing::AssertionResult result = same_state(on_cpu_.snapshot(), on_cuda_.snapshot());
    if (model_.options.form.rounding != Rounding::kMaster) return result;
    const std::vector<std::vector<float>> one = on_cpu_.masters(), other = on_cuda_.masters();
    for (std::size_t k = 0; result && k < one.size(); ++k) result = same_bits(one[k], other[k]);
    return result;
  }
  Training& on_cpu() { return on_cpu_; }
  Training& on_cuda() { return on_cuda_; }
  Model& model() { return model_; }

 private:
  void count_late(const Gradients& gradients) {
    for (std::uint32_t term = 0; term < model_.options.terms; ++term) {
      const std::vector<Clock> clocks = on_cpu_.optimizer().clocks(term);
      const bool came = std::any_of(clocks.begin(), clocks.end(), [](const Clock& clock) { return clock.t > 0; });
      for (std::size_t tensor = 0; tensor < clocks.size(); ++tensor) {
        reached_.late += came && gradients[term][tensor] && clocks[tensor].t == 0;
      }
    }
  }

  Random& random_;
  Model model_;
  Reached& reached_;
  Training on_cpu_, on_cuda_;
};

/// Steps and terms of a random training, which may come late.
void train(Random& random, RandomTraining& training, const Launches& launches) {
  const test::Mishaps mishaps =
      random.chance(0.5) ? test::Mishaps{0.1, 0.2, 0.05, 0.1, 0.1} : test::Mishaps{0, 0.05, 0, 0};
  for (int step = 0; step < 6; ++step) {
    training.step(test::random_gradients(random, training.model(), mishaps), launches);
    ASSERT_TRUE(training.same()) << "step " << step;
    if (random.chance(0.05)) training.forget();
  }
}

TEST_F(LaggedScales, HaveTheSameBitsInOneLaunch) {
  Random random(141);
  Reached reached;
  const int count = rounds(160);
  for (int round = 0; round < count; ++round) {
    std::vector<std::uint64_t> lengths(1 + random.below(6));
    for (std::uint64_t& length : lengths) {
      length = random.pick<std::uint64_t>({0, 1 + random.below(8), 250 + random.below(300), 4090 + random.below(300)});
    }
    const auto terms = static_cast<std::uint32_t>(1 + random.below(8));
    RandomTraining training(random, random_lagged_model(random, lengths, terms), open(), reached);
    SCOPED_TRACE(std::to_string(terms) + " terms, round " + std::to_string(round));
    ASSERT_NO_FATAL_FAILURE(train(random, training, launches_of));
  }
  if (count < 40) return;
  EXPECT_TRUE(reached.forms.all());
  expect_often(reached);
}

TEST_F(LaggedScales, HaveTheSameBitsInOneLaunchWithCodes) {
  Random random(145);
  Reached reached;
  int states[3] = {}, gradients = 0, parameters = 0, masters = 0;
  const int count = rounds(120);
  for (int round = 0; round < count; ++round) {
    // Tensors with a lean state, those that are too small for one, and segments, blocks and words that are not whole.
    std::vector<std::uint64_t> lengths(1 + random.below(4));
    for (std::uint64_t& length : lengths) {
      length = random.pick<std::uint64_t>({0, 1 + random.below(60), 250 + random.below(300), 4096 + random.below(300),
                                           4096 + random.below(300), 8000 + random.below(300)});
    }
    const auto terms = static_cast<std::uint32_t>(1 + random.below(8));
    const Model model = with_codes(random, random_lagged_model(random, lengths, terms));
    states[static_cast<int>(model.state_type)] += 1;
    gradients += model.parameters[0].gradient != ElementType::kFloat32;
    parameters += model.parameters[0].type != ElementType::kFloat32;
    masters += model.options.form.rounding == Rounding::kMaster;
    RandomTraining training(random, model, open(), reached);
    SCOPED_TRACE(std::to_string(terms) + " terms, round " + std::to_string(round));
    ASSERT_NO_FATAL_FAILURE(train(random, training, launches_of));
  }
  if (count < 40) return;
  EXPECT_TRUE(reached.forms.all());
  expect_often(reached);
  for (const int times : {states[0], states[1], states[2], gradients, parameters, masters}) EXPECT_GT(times, 4);
}

TEST_F(LaggedScales, HaveTheSameBitsInGraphs) {
  Random random(142);
  Reached reached;
  const int count = rounds(24);
  for (int round = 0; round < count; ++round) {
    const auto terms = static_cast<std::uint32_t>(1 + round % 8);
    Model model = random_lagged_model(random, {5, 0, 8200, 300}, terms);
    if (round % 2 != 0) model = with_codes(random, model);
    RandomTraining training(random, model, open(), reached);
    const Gradients gradients = test::random_gradients(random, training.model(), {0.1, 0.2, 0, 0.1});
    Training &on_cpu = training.on_cpu(), &on_cuda = training.on_cuda();
    on_cpu.step(gradients);
    on_cuda.step(gradients);
    std::unique_ptr<CapturedStep> step;
    EXPECT_EQ(launches_of([&] { step = on_cuda.capture(); }), training.model().options.form.network ? 3u : 1u);
    for (int turn = 0; turn < 6; ++turn) {
      if (turn == 3) training.forget();
      change_options(random, training.model(), {&on_cpu, &on_cuda});
      on_cpu.step_again();
      turn % 3 == 1 ? on_cuda.step_again() : on_cuda.replay(*step);
      ASSERT_TRUE(training.same()) << terms << " terms, round " << round << ", turn " << turn;
    }
  }
}

TEST_F(LaggedScales, TakeOneLaunchForTermsThatHaveComeBefore) {
  Random random(143);
  Model model = test::with_lagged_scales(random, test::random_model(random, {5, 4099, 300}, 3));
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  Training training(model, open());
  Optimizer& optimizer = training.optimizer();
  const auto of_step = [&] { return launches_of([&] { training.step(gradients); }); };
  const auto of_term = [&](std::uint32_t term) { return launches_of([&] { training.accumulate(term, gradients); }); };
  EXPECT_EQ(of_term(1), 2u);
  optimizer.discard();
  EXPECT_EQ(of_term(1), 1u);
  EXPECT_EQ(of_term(0), 2u);
  EXPECT_EQ(launches_of([&] { optimizer.update(); }), 1u);
  training.place(gradients);
  std::unique_ptr<CapturedStep> step;
  EXPECT_EQ(launches_of([&] { step = training.capture(); }), 2u) << "the third term has not come";
  EXPECT_EQ(of_step(), 2u);
  EXPECT_EQ(of_step(), 1u);
  EXPECT_EQ(of_term(2), 1u);
  optimizer.update();
  EXPECT_EQ(launches_of([&] { step = training.capture(); }), 1u);
  optimizer.begin_restore();
  optimizer.end_restore(3, true);
  EXPECT_EQ(launches_of([&] { training.capture(); }), 2u);
  training.replay(*step);
  EXPECT_EQ(launches_of([&] { training.capture(); }), 1u) << "the replay's terms are known";
  training.add_term(1);
  Gradients more = gradients;
  more.push_back({{}, {}, {}});
  const auto of_more = [&] { return launches_of([&] { training.step(more); }); };
  EXPECT_EQ(of_more(), 2u);
  EXPECT_EQ(of_more(), 1u);
  more[3] = gradients[0];
  EXPECT_EQ(of_more(), 2u) << "the new term had no gradient before";
  EXPECT_EQ(of_more(), 1u);
  training.remove_term(3);
  EXPECT_EQ(of_step(), 2u);
  EXPECT_EQ(of_step(), 1u);
  optimizer.begin_restore();
  optimizer.end_restore(3, true);
  EXPECT_EQ(of_step(), 2u);
  EXPECT_EQ(of_step(), 1u);
}

TEST_F(LaggedScales, TakeTwoLaunchesWhereThereIsNoKernelForOne) {
  Random random(144);
  const auto launches = [&](const Model& model, std::uint64_t cache_bytes = 0) {
    const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
    Training training(model, open(cache_bytes));
    training.step(gradients);
    return launches_of([&] { training.step(gradients); });
  };
  const auto model_of = [&](std::uint32_t terms) {
    return test::with_lagged_scales(random, test::random_model(random, {4200, 300}, terms));
  };
  EXPECT_EQ(launches(model_of(8)), 1u);
  EXPECT_EQ(launches(model_of(9)), 2u);
  Model model = model_of(2);
  model.options.form.network = true;
  const std::uint64_t gradients = 2 * (4200 + 300) * sizeof(float);
  EXPECT_EQ(launches(model, gradients), 2u) << "the cache serves the second read";
  EXPECT_EQ(launches(model, gradients - 1), 3u) << "one, and two small ones";
  EXPECT_EQ(launches(model_of(2), gradients), 1u);
  model.parameters[0].gradient = ElementType::kBfloat16;
  const std::uint64_t narrow = 2 * (4200 * 2 + 300 * sizeof(float));
  EXPECT_EQ(launches(model, narrow), 2u);
  EXPECT_EQ(launches(model, narrow - 1), 3u);
  model = model_of(2);
  model.options.form.cosines = true;
  EXPECT_EQ(launches(model), 3u);
  EXPECT_EQ(launches(test::with_state(model_of(8), StateType::kBfloat16)), 1u);
  EXPECT_EQ(launches(test::with_state(model_of(9), StateType::kBfloat16)), 2u);
  model = model_of(2);
  model.parameters[0].gradient = ElementType::kBfloat16;
  EXPECT_EQ(launches(model), 1u);
  Model large = test::with_lagged_scales(random, test::random_model(random, std::vector<std::uint64_t>(257, 3), 2));
  for (ParameterShape& shape : large.parameters) shape.layer = 0;
  EXPECT_EQ(launches(large), 2u);
  large.parameters.back().layer = 1;
  EXPECT_EQ(launches(large), 1u);
}

}  // namespace
}  // namespace mtadam
