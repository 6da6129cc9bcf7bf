#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/exchange.h"
#include "ranks.h"
#include "training.h"

// Several ranks, as threads, take the steps of one process.

namespace mtadam::test {

inline const std::vector<std::uint64_t> kExchanged{9001, 1, 4096, 0, 12289, 5, 8191};

struct Trial {
  Model model;
  std::vector<std::vector<Gradients>> steps;  // by rank: gradients whose sum is that of the step
  std::vector<Gradients> sums;
  Sharing sharing;
  bool reduced = false;   // ranks get the sums
  bool streamed = false;  // term by term
  bool placed = false;    // arrays of the ranks lie in memory of their devices

  bool has_masters() const { return model.options.form.rounding == Rounding::kMaster; }
};

inline void take(const Trial& trial, Training& training, const Gradients& gradients) {
  trial.streamed ? training.stream(gradients) : training.step(gradients);
}

/// θ after every step, and masters and the state at the end. One process takes the sums in float32.
struct Outcome {
  std::vector<std::vector<std::vector<float>>> theta;
  std::vector<std::vector<float>> masters;
  Snapshot end;
};

inline Outcome alone(const Trial& trial) {
  Training training(with_wide_gradients(trial.model), 2);
  Outcome outcome;
  for (const Gradients& gradients : trial.sums) {
    take(trial, training, gradients);
    outcome.theta.push_back(training.theta());
  }
  outcome.end = training.snapshot();
  if (trial.has_masters()) outcome.masters = training.masters();
  return outcome;
}

inline std::vector<Outcome> together(
    const Trial& trial, Threads& threads, std::size_t ranks,
    const std::function<std::shared_ptr<Device>(std::uint32_t)>& open = [](std::uint32_t rank) {
      return std::make_shared<CpuDevice>(1 + rank % 2, "");
    }) {
  std::vector<Outcome> outcomes(ranks);
  if (trial.placed) threads.use_devices();
  threads.run([&](std::shared_ptr<Collective> collective) {
    const std::uint32_t rank = collective->rank();
    Sharing sharing = trial.sharing;
    sharing.collective = std::move(collective);
    Training training(trial.model, open(rank), kAlignments[rank % 3], sharing);
    training.set_reduced(trial.reduced);
    for (const Gradients& gradients : trial.reduced ? trial.sums : trial.steps[rank]) {
      take(trial, training, gradients);
      outcomes[rank].theta.push_back(training.theta());
    }
    outcomes[rank].end = training.snapshot();
    if (trial.has_masters()) outcomes[rank].masters = training.masters();
  });
  return outcomes;
}

inline testing::AssertionResult same(const Outcome& expected, const Outcome& actual) {
  for (std::size_t step = 0; step < expected.theta.size(); ++step) {
    for (std::size_t tensor = 0; tensor < expected.theta[step].size(); ++tensor) {
      const auto result = same_bits(expected.theta[step][tensor], actual.theta[step][tensor]);
      if (!result) return testing::AssertionFailure() << "step " << step << ": " << result.message();
    }
  }
  for (std::size_t tensor = 0; tensor < expected.masters.size(); ++tensor) {
    const auto result = same_bits(expected.masters[tensor], actual.masters[tensor]);
    if (!result) return testing::AssertionFailure() << "master " << tensor << ": " << result.message();
  }
  return same_state(expected.end, actual.end);
}

/// The sum of the ranks' values as the stand-in's reduce_scatter() or as Reduction::kOrdered adds them.
inline float sum_of(std::vector<float> values, bool ordered) {
  if (!ordered) {
    float sum = 0;
    for (const float value : values) sum += value;
    return sum;
  }
  while (values.size() > 1) {
    std::vector<float> next;
    for (std::size_t k = 0; k < values.size(); k += 2) {
      next.push_back(k + 1 < values.size() ? values[k] + values[k + 1] : values[k]);
    }
    values = next;
  }
  return values[0];
}

/// The nearest value that the type has.
inline float as_type(ElementType type, float value) {
  return type == ElementType::kFloat32 ? value : decoded(type, nearest(type, value));
}

/// Shares the gradients out: a different multiple of each on every rank.
inline void share_out(Trial& trial, const std::vector<Gradients>& steps, std::size_t ranks) {
  const float factors[] = {0.7f, 1.1f, 0.3f, 0.9f, 1.3f};
  trial.steps.assign(ranks, steps);
  trial.sums = steps;
  for (std::size_t step = 0; step < steps.size(); ++step) {
    for (std::size_t term = 0; term < steps[step].size(); ++term) {
      for (std::size_t tensor = 0; tensor < steps[step][term].size(); ++tensor) {
        if (!steps[step][term][tensor]) continue;
        for (std::size_t k = 0; k < steps[step][term][tensor]->size(); ++k) {
          std::vector<float> values;
          for (std::size_t rank = 0; rank < ranks; ++rank) {
            float& value = (*trial.steps[rank][step][term][tensor])[k];
            value = as_type(trial.model.parameters[tensor].gradient, value * factors[rank]);
            values.push_back(value);
          }
          float& sum = (*trial.sums[step][term][tensor])[k];
          sum = sum_of(values, trial.sharing.reduction == Reduction::kOrdered);
          if (trial.reduced) sum = as_type(trial.model.parameters[tensor].gradient, sum);
        }
      }
    }
  }
}

inline Model random_exchanged_model(Random& random, std::uint32_t terms, bool streamed) {
  Model model = with_units(random, with_one_v(random, random_model(random, kExchanged, terms)));
  if (streamed || model.options.form.lagged) return model;
  model = with_options_of_whole_steps(random, model);
  return model;
}

}  // namespace mtadam::test
