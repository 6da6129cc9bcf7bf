#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "test/cuda/on_device.h"
#include "test/training.h"

// The CPU device and the kernels give the same bits for any model, options, gradients and addresses, with steps at once
// or term by term.

namespace mtadam {
namespace {

using test::Alignment;
using test::Gradients;
using test::kAlignments;
using test::Model;
using test::Random;
using test::same_state;
using test::Training;

using SameBits = test::OnDevice;

constexpr test::Mishaps kWithHuge{0.1, 0.15, 0.05, 0.05, 0.1};

std::vector<std::uint64_t> random_lengths(Random& random) {
  std::vector<std::uint64_t> lengths(1 + random.below(7));
  for (std::uint64_t& length : lengths) {
    length = random.pick<std::uint64_t>({0, 1 + random.below(8), 20 + random.below(50), 4090 + random.below(10)});
  }
  return lengths;
}

/// Counts what the random models of a test covered, so that it fails if its generator no longer reaches an option.
struct Reached {
  int summed = 0, one_v = 0, amsgrad = 0, initial_norm = 0, gradient_scale = 0, shared_layer = 0, weight_0 = 0;
  int coupled = 0, decoupled = 0, maximize = 0, two_groups = 0, absent = 0, not_finite = 0, looped = 0;
  int network = 0, lagged = 0;
  int one_clock = 0, several_clocks = 0;  // of the terms that take part in a tensor's step
  int too_large = 0;                      // norms that are finite, but leave float32

  void add(const Model& model, const std::vector<Gradients>& steps) {
    summed += model.options.form.summed;
    one_v += model.options.form.one_v;
    amsgrad += model.options.form.amsgrad;
    initial_norm += model.options.initial_norm != 0;
    gradient_scale += model.gradient_scale != 1;
    shared_layer += model.layer_count() < model.parameters.size();
    network += model.options.form.network;
    lagged += model.options.form.lagged;
    looped += model.options.terms > 8;
    for (const double weight : model.weights) weight_0 += weight == 0;
    for (const ParameterShape& shape : model.parameters) {
      const GroupOptions& group = model.groups[shape.group];
      coupled += group.weight_decay != 0 && !group.decoupled;
      decoupled += group.weight_decay != 0 && group.decoupled;
      maximize += group.maximize;
      two_groups += shape.group != model.parameters[0].group;
    }
    for (const Gradients& gradients : steps) {
      for (const auto& term : gradients) {
        for (const auto& gradient : term) add(gradient);
      }
    }
  }

  /// After a step.
  void add_clocks(Optimizer& optimizer, const Model& model) {
    std::vector<std::vector<Clock>> clocks;
    for (std::uint32_t term = 0; term < model.options.terms; ++term) clocks.push_back(optimizer.clocks(term));
    for (std::size_t tensor = 0; tensor < model.parameters.size(); ++tensor) {
      std::uint64_t last = 0;
      for (const auto& term : clocks) last = std::max(last, term[tensor].step);
      std::vector<double> products;
      for (const auto& term : clocks) {
        if (last > 0 && term[tensor].step == last) products.push_back(term[tensor].p2);
      }
      if (products.size() < 2) continue;
      const bool alike = std::count(products.begin(), products.end(), products[0]) == std::ssize(products);
      (alike ? one_clock : several_clocks) += 1;
    }
  }

  /// After the last step.
  void add_skipped(Optimizer& optimizer, const Model& model, const std::vector<Gradients>& steps) {
    for (std::uint32_t term = 0; term < model.options.terms; ++term) {
      const std::vector<NormState> norms = optimizer.norm_states(term);
      for (std::uint32_t layer = 0; layer < norms.size(); ++layer) {
        std::uint64_t spoiled = 0;
        for (const Gradients& gradients : steps) spoiled += is_not_finite(gradients[term], model, layer);
        too_large += norms[layer].skipped > spoiled;
      }
    }
  }

  void expect_all() const {
    EXPECT_GT(summed, 0);
    EXPECT_GT(one_v, 0);
    EXPECT_GT(amsgrad, 0);
    EXPECT_GT(initial_norm, 0);
    EXPECT_GT(gradient_scale, 0);
    EXPECT_GT(shared_layer, 0);
    EXPECT_GT(weight_0, 0);
    EXPECT_GT(coupled, 0);
    EXPECT_GT(decoupled, 0);
    EXPECT_GT(maximize, 0);
    EXPECT_GT(two_groups, 0);
    EXPECT_GT(absent, 0);
    EXPECT_GT(not_finite, 0);
    EXPECT_GT(looped, 0);
    EXPECT_GT(network, 0);
    EXPECT_GT(lagged, 0);
    EXPECT_GT(one_clock, 0);
    EXPECT_GT(several_clocks, 0);
    EXPECT_GT(too_large, 0);
  }

 private:
  static bool is_not_finite(const std::vector<std::optional<std::vector<float>>>& gradients, const Model& model,
                            std::uint32_t layer) {
    for (std::size_t tensor = 0; tensor < gradients.size(); ++tensor) {
      if (model.parameters[tensor].layer != layer || !gradients[tensor]) continue;
      for (const float value : *gradients[tensor]) {
        if (!std::isfinite(value)) return true;
      }
    }
    return false;
  }

  void add(const std::optional<std::vector<float>>& gradient) {
    absent += !gradient;
    if (!gradient) return;
    for (const float value : *gradient) not_finite += !std::isfinite(value);
  }
};

/// Takes the same steps in both trainings; in the second, some at once and some term by term.
testing::AssertionResult same_steps(Training& expected, Training& actual, const std::vector<Gradients>& steps,
                                    Random& random) {
  for (std::size_t step = 0; step < steps.size(); ++step) {
    expected.step(steps[step]);
    random.chance(0.5) ? actual.step(steps[step]) : actual.stream(steps[step]);
    const testing::AssertionResult same = same_state(expected.snapshot(), actual.snapshot());
    if (!same) return testing::AssertionFailure() << "step " << step << ": " << same.message();
  }
  return testing::AssertionSuccess();
}

TEST_F(SameBits, InRandomTrainings) {
  Random random(71);
  Reached reached;
  const int count = rounds(240);
  for (int round = 0; round < count; ++round) {
    const auto terms = static_cast<std::uint32_t>(1 + random.below(12));
    Model model = test::with_units(random, test::random_model(random, random_lengths(random), terms));
    model = test::with_one_v(random, model);
    const std::vector<Gradients> steps = test::random_steps(random, model, 4, kWithHuge);
    reached.add(model, steps);
    Training on_cpu(model, 1), on_cuda(model, open(), random.pick(kAlignments));
    ASSERT_TRUE(same_steps(on_cpu, on_cuda, steps, random)) << terms << " terms, round " << round;
    reached.add_clocks(on_cpu.optimizer(), model);
    reached.add_skipped(on_cpu.optimizer(), model, steps);
  }
  if (count > 50) reached.expect_all();
}

// Kernels fetch the parts of 32 terms ahead of a chunk and read those of further terms where they use them.
TEST_F(SameBits, WithMoreTermsThanAreFetchedAhead) {
  Random random(77);
  const int count = rounds(12);
  for (int round = 0; round < count; ++round) {
    const std::uint32_t terms = std::array{33u, 32u, 70u}[static_cast<std::size_t>(round % 3)];
    Model model = test::random_model(random, {5, 4099, 70}, terms);
    model.options.form.summed = round / 3 % 2 != 0;
    model.options.form.amsgrad = round / 6 != 0;
    const std::vector<Gradients> steps = test::random_steps(random, model, 3, {0, 0.5, 0, 0});
    model.options.form.one_v = model.options.form.summed && random.chance(0.5);
    Training on_cpu(model, 1), on_cuda(model, open(), random.pick(kAlignments));
    ASSERT_TRUE(same_steps(on_cpu, on_cuda, steps, random)) << terms << " terms, round " << round;
  }
}

// Anchors that need all norms; roll-backs, by the block that happens to end the last layer. With these, steps at once
// and term by term differ.
TEST_F(SameBits, WithTheOptionsOfWholeSteps) {
  Random random(76);
  const int count = rounds(60);
  for (int round = 0; round < count; ++round) {
    const auto terms = static_cast<std::uint32_t>(1 + random.below(10));
    Model model = test::with_options_of_whole_steps(random, test::random_model(random, random_lengths(random), terms));
    model = test::with_one_v(random, test::with_units(random, model));
    if (round % 8 == 0) model.options.form.non_finite = NonFinite::kPropagate;
    const bool at_once = model.options.form.non_finite == NonFinite::kSkipStep || random.chance(0.5);
    Training on_cpu(model, 1), on_cuda(model, open(), random.pick(kAlignments));
    for (const Gradients& gradients : test::random_steps(random, model, 5, {0.1, 0.15, 0.05, 0.02, 0.05})) {
      for (Training* const training : {&on_cpu, &on_cuda}) {
        at_once ? training->step(gradients) : training->stream(gradients);
      }
      ASSERT_TRUE(same_state(on_cpu.snapshot(), on_cuda.snapshot())) << terms << " terms, round " << round;
    }
  }
}

/// Changes the gradients of a training: zeros for long enough that a norm sinks below the floor; absence for a while; a
/// step without any term; the smallest and largest gradients of float32.
class Fate {
 public:
  explicit Fate(Random& random) : random_(random) {}

  Gradients gradients(const Model& model) {
    Gradients all = test::random_gradients(random_, model, {0.02, 0.05, 0.02, 0.005});
    terms_.resize(model.options.terms);
    const bool none = random_.chance(0.03);
    steps_without_terms += none;
    for (std::uint32_t term = 0; term < model.options.terms; ++term) {
      Term& fate = terms_[term];
      if (fate.left == 0) {
        fate.mood = random_.pick<Mood>({Mood::kLively, Mood::kLively, Mood::kSilent, Mood::kAbsent});
        fate.left = 1 + random_.below(random_.chance(0.3) ? 250 : 20);
        fate.scale = random_.chance(0.2) ? std::fabs(random_.of_magnitude(-90, 90)) : 1;
        extremes += fate.scale != 1;
      }
      fate.left -= 1;
      for (std::optional<std::vector<float>>& gradient : all[term]) {
        if (none || fate.mood == Mood::kAbsent) gradient.reset();
        if (!gradient) continue;
        for (float& value : *gradient) value = fate.mood == Mood::kSilent ? 0 : value * fate.scale;
      }
    }
    return all;
  }
  void remove_term(std::uint32_t term) {
    // Before the first gradients there are none.
    if (term < terms_.size()) terms_.erase(terms_.begin() + term);
  }

  int steps_without_terms = 0, extremes = 0;

 private:
  enum class Mood { kLively, kSilent, kAbsent };
  struct Term {
    Mood mood = Mood::kLively;
    std::uint64_t left = 0;  // steps
    float scale = 1;
  };

  Random& random_;
  std::vector<Term> terms_;
};

// The situations in the table of docs/algorithm.md that take more than a few steps: terms (also the anchor) that fall
// silent and return; terms that come and go; gradients of micro-batches.
TEST_F(SameBits, WhenTermsFallSilentComeAndGo) {
  Random random(78);
  int starved = 0, returned = 0, added = 0, removed = 0, summed_up = 0, across_groups = 0, without = 0, extremes = 0;
  const int count = rounds(10);
  // With time for one round only, the checker looks for races, not for sinking norms.
  const int steps = count > 1 ? 300 : 50;
  for (int round = 0; round < count; ++round) {
    Model model = test::random_model(random, {5, 0, 33, 1, 70}, static_cast<std::uint32_t>(2 + random.below(3)));
    const bool at_once = round % 2 == 0;
    if (at_once) model = test::with_options_of_whole_steps(random, model);
    model = test::with_one_v(random, test::with_units(random, model));
    for (const ParameterShape& a : model.parameters) {
      for (const ParameterShape& b : model.parameters) across_groups += a.layer == b.layer && a.group != b.group;
    }
    Training on_cpu(model, 1), on_cuda(model, open(), random.pick(kAlignments));
    Fate fate(random);
    std::vector<double> norms;
    for (int step = 0; step < steps; ++step) {
      if (model.options.terms < 6 && random.chance(0.02)) {
        const double weight = random.between(0.1, 3);
        for (Training* const training : {&on_cpu, &on_cuda}) training->add_term(weight);
        model.options.terms += 1;
        norms.clear();
        ++added;
      } else if (model.options.terms > 2 && model.options.anchor != Anchor::kTerm && random.chance(0.02)) {
        const auto term = static_cast<std::uint32_t>(random.below(model.options.terms));
        for (Training* const training : {&on_cpu, &on_cuda}) training->remove_term(term);
        model.options.terms -= 1;
        fate.remove_term(term);
        norms.clear();
        ++removed;
      }
      const Gradients gradients = fate.gradients(model);
      const bool micro_batches = random.chance(0.1);
      const Gradients more = micro_batches ? fate.gradients(model) : Gradients{};
      for (Training* const training : {&on_cpu, &on_cuda}) {
        if (micro_batches) {
          training->place(gradients);
          training->add(more);
          training->step_again();
        } else if (at_once) {
          training->step(gradients);
        } else {
          training->stream(gradients);
        }
      }
      summed_up += micro_batches;
      const test::Snapshot expected = on_cpu.snapshot();
      ASSERT_TRUE(same_state(expected, on_cuda.snapshot())) << "round " << round << ", step " << step;
      for (std::size_t k = 0; k < norms.size(); k += 2) {  // n, occurred
        starved += norms[k] > 1e-10 && expected.norms[k] <= 1e-10;
        returned += norms[k] <= 1e-10 && norms[k + 1] != 0 && expected.norms[k] > 1e-10;
      }
      norms = expected.norms;
    }
    without += fate.steps_without_terms;
    extremes += fate.extremes;
  }
  if (count < 5) return;
  for (const int reached : {starved, returned, added, removed, summed_up, across_groups, without, extremes}) {
    EXPECT_GT(reached, 0);
  }
}

TEST_F(SameBits, WhereMomentsDecayToTheEdgeOfTheFlush) {
  Random random(79);
  const float edge = 0x1p-126f;
  int at_edge = 0;
  for (const std::uint32_t terms : {1, 2, 3, 4, 5, 8, 9}) {
    for (unsigned form = 0; form < 12; ++form) {
      SCOPED_TRACE(std::to_string(terms) + " terms, form " + std::to_string(form));
      Model model = test::random_model(random, {70, 5}, terms);
      model.options.form = {(form & 1) != 0 || form >= 8, (form & 2) != 0};
      model.options.form.one_v = form >= 8;
      for (GroupOptions& group : model.groups) group.weight_decay = 0;
      Training on_cpu(model, 1), on_cuda(model, open(), random.pick(kAlignments));
      test::bring_to_the_flush(random, model, {&on_cpu, &on_cuda});
      const Gradients silent = test::random_gradients(random, model, {0, 0, 1, 0});
      for (Training* const training : {&on_cpu, &on_cuda}) {
        (form & 4) != 0 || form == 9 || form == 11 ? training->step(silent) : training->stream(silent);
      }
      const test::Snapshot expected = on_cpu.snapshot();
      ASSERT_TRUE(same_state(expected, on_cuda.snapshot()));
      for (const auto& plane : expected.planes)
        at_edge += static_cast<int>(std::count(plane.begin(), plane.end(), edge));
    }
  }
  EXPECT_GT(at_edge, 1000);
}

TEST_F(SameBits, WithThousandsOfTensors) {
  Random random(73);
  std::vector<std::uint64_t> lengths(static_cast<std::size_t>(rounds(2000)));
  for (std::uint64_t& length : lengths) length = random.below(9);
  const Model model = test::random_model(random, lengths, 2);
  Training on_cpu(model, 1), on_cuda(model, open(), Alignment::kAnyhow);
  ASSERT_TRUE(same_steps(on_cpu, on_cuda, test::random_steps(random, model, 2), random));
}

}  // namespace
}  // namespace mtadam
