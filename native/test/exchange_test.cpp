#include "engine/exchange.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>

#include "engine/errors.h"
#include "exchange_trial.h"

// Several ranks, as threads, take the steps of one process: θ has the same bits after every step on every rank, and the
// whole state at the end.

namespace mtadam {
namespace {

using test::Fault;
using test::Gradients;
using test::Model;
using test::Outcome;
using test::Random;
using test::same_state;
using test::share_out;
using test::Snapshot;
using test::Threads;
using test::Training;
using test::Trial;

TEST(Exchange, TakesTheStepsOfOneProcess) {
  int shared = 0, streamed = 0, network = 0, lagged = 0, cosines = 0, skips_step = 0, one_v = 0, amsgrad = 0, lean = 0,
      placed = 0, narrow = 0, rounded = 0, mastered = 0;
  for (std::uint64_t seed = 0; seed < 48; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    const std::size_t ranks = 1 + seed % 5;
    Trial trial;
    trial.streamed = random.chance(0.4);
    trial.reduced = random.chance(0.3);
    trial.model = test::random_exchanged_model(random, 1 + static_cast<std::uint32_t>(random.below(4)), trial.streamed);
    trial.sharing.state = random.chance(0.8);
    trial.model = test::with_state(
        trial.model, random.pick<StateType>({StateType::kFloat32, StateType::kBfloat16, StateType::k8bit}));
    if (random.chance(0.4)) trial.model = test::with_narrow_gradients(random, trial.model);
    if (random.chance(0.5)) {
      const auto rounding = random.pick<Rounding>({Rounding::kStochastic, Rounding::kMaster});
      trial.model = test::with_narrow_parameters(random, trial.model, rounding);
    }
    trial.sharing.reduction = random.chance(0.5) ? Reduction::kOrdered : Reduction::kLibrary;
    trial.sharing.staging_bytes = random.pick<std::size_t>({1, 200000, 1 << 20});
    trial.placed = random.chance(0.5);
    share_out(trial, test::random_steps(random, trial.model, 4), ranks);
    Threads threads(static_cast<std::uint32_t>(ranks));
    const Outcome expected = alone(trial);
    for (const Outcome& outcome : together(trial, threads, ranks)) ASSERT_TRUE(same(expected, outcome));
    const StateForm& form = trial.model.options.form;
    shared += trial.sharing.state;
    streamed += trial.streamed;
    network += form.network;
    lagged += form.lagged;
    cosines += form.cosines;
    skips_step += form.non_finite == NonFinite::kSkipStep;
    one_v += form.one_v;
    amsgrad += form.amsgrad;
    lean += trial.sharing.state && trial.model.state_type != StateType::kFloat32;
    placed += trial.placed;
    narrow += trial.model.parameters[0].gradient != ElementType::kFloat32;
    if (!trial.sharing.state || trial.model.parameters[0].type == ElementType::kFloat32) continue;
    (trial.has_masters() ? mastered : rounded) += 1;
  }
  for (const int count : {shared, streamed, network, lagged, cosines, skips_step, one_v, amsgrad, lean, placed, narrow,
                          rounded, mastered}) {
    EXPECT_GT(count, 3);
  }
}

// Where each tensor of a model begins in one array that has them one after another in the order of slots.
std::vector<std::size_t> starts_in_order(const Layout& layout) {
  std::vector<std::size_t> starts(layout.tensor_count());
  std::size_t next = 0;
  for (const std::uint32_t tensor : layout.members()) {
    starts[tensor] = next;
    next += layout.tensors()[tensor].length;
  }
  return starts;
}

// On one rank, which has some array one element longer: then nothing is sent from where it lies.
enum class Gap { kNone, kParameters, kGradients };

TEST(Exchange, SendsWhatLiesInTheOrderOfSlotsFromThere) {
  for (std::uint64_t seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    const std::uint32_t ranks = 1 + static_cast<std::uint32_t>(seed % 4), terms = 2;
    Trial trial;
    trial.model = test::random_model(random, test::kExchanged, terms);
    trial.sharing.state = random.chance(0.7);
    trial.sharing.reduction = random.chance(0.5) ? Reduction::kOrdered : Reduction::kLibrary;
    const bool in_pieces = random.chance(0.2);
    if (in_pieces) trial.sharing.staging_bytes = 1;
    const Gap gap = random.pick<Gap>({Gap::kNone, Gap::kNone, Gap::kParameters, Gap::kGradients});
    share_out(trial, test::random_steps(random, trial.model, 3, {0, 0, 0, 0}), ranks);
    const Outcome expected = alone(trial);
    Threads threads(ranks);
    threads.run([&](std::shared_ptr<Collective> collective) {
      const std::uint32_t rank = collective->rank();
      const auto device = std::make_shared<CpuDevice>(1, "");
      Layout layout(trial.model.parameters);
      const std::vector<std::size_t> starts = starts_in_order(layout);
      const std::uint32_t last = layout.members().back();
      const std::size_t elements = starts[last] + layout.tensors()[last].length + 1;
      const auto moved = [&](std::uint32_t tensor, Gap where) {
        return starts[tensor] + (rank == 0 && tensor == last && gap == where);
      };
      std::vector<float> theta(elements);
      auto addresses = std::make_unique<AddressTable>(device, 1, layout.tensor_count());
      for (std::uint32_t tensor = 0; tensor < layout.tensor_count(); ++tensor) {
        float* const place = theta.data() + moved(tensor, Gap::kParameters);
        std::copy(trial.model.theta[tensor].begin(), trial.model.theta[tensor].end(), place);
        addresses->set(0, tensor, place);
      }
      Sharing sharing = trial.sharing;
      sharing.collective = collective;
      Optimizer optimizer(device, layout, trial.model.options, std::move(addresses), sharing);
      optimizer.set_groups(trial.model.groups);
      optimizer.set_weights(0, trial.model.weights);
      std::vector<std::vector<float>> gradients(terms, std::vector<float>(elements));
      for (std::size_t step = 0; step < trial.sums.size(); ++step) {
        AddressTable table(device, terms, layout.tensor_count());
        for (std::uint32_t term = 0; term < terms; ++term) {
          for (std::uint32_t tensor = 0; tensor < layout.tensor_count(); ++tensor) {
            const std::vector<float>& values = *trial.steps[rank][step][term][tensor];
            float* const place = gradients[term].data() + moved(tensor, Gap::kGradients);
            std::copy(values.begin(), values.end(), place);
            table.set(term, tensor, place);
          }
        }
        const std::vector<std::vector<float>> given = gradients;
        optimizer.step(table, {trial.model.gradient_scale}, nullptr);
        EXPECT_EQ(gradients, given);
        for (std::uint32_t tensor = 0; tensor < layout.tensor_count(); ++tensor) {
          const float* const place = theta.data() + moved(tensor, Gap::kParameters);
          const std::vector<float> actual(place, place + layout.tensors()[tensor].length);
          ASSERT_TRUE(test::same_bits(expected.theta[step][tensor], actual));
        }
      }
      const bool whole = ranks == 1 || !in_pieces;
      EXPECT_EQ(threads.sent_from(rank, theta.data()),
                trial.sharing.state && whole && (rank > 0 || gap != Gap::kParameters));
      for (const std::vector<float>& term : gradients) {
        EXPECT_EQ(threads.sent_from(rank, term.data()), whole && (rank > 0 || gap != Gap::kGradients));
      }
    });
  }
}

TEST(Exchange, RanksMayOwnNothing) {
  Random random(1);
  Trial trial;
  trial.model = test::random_model(random, {5000}, 2);
  trial.sharing.state = true;
  share_out(trial, test::random_steps(random, trial.model, 3), 5);
  Threads threads(5);
  const Outcome expected = alone(trial);
  for (const Outcome& outcome : together(trial, threads, 5)) EXPECT_TRUE(same(expected, outcome));
}

// A comparison that has never failed is none.
TEST(Exchange, FaultsAreFound) {
  Random random(2);
  Trial trial;
  trial.model = test::random_model(random, test::kExchanged, 3);
  trial.model.weights = {1, 2, 3};
  trial.sharing.state = true;
  share_out(trial, test::random_steps(random, trial.model, 3, {0, 0, 0, 0}), 3);
  const Outcome expected = alone(trial);
  for (const Fault fault :
       {Fault::kNone, Fault::kNoExchange, Fault::kFloat32Sums, Fault::kOneChunkLess, Fault::kTermsSwapped}) {
    SCOPED_TRACE(static_cast<int>(fault));
    Threads threads(3, fault, Layout(trial.model.parameters).slot_count() * sizeof(double));
    bool all = true;
    for (const Outcome& outcome : together(trial, threads, 3)) all = all && same(expected, outcome);
    EXPECT_EQ(all, fault == Fault::kNone);
  }
}

TEST(Exchange, Bfloat16RoundsEachGradientOnceAndAddsInFloat32) {
  Model model;
  model.parameters = {{4, 0, 0}};
  model.theta = {{0, 0, 0, 0}};
  model.groups = {test::default_group()};
  model.weights = {1};
  const float inexact = 1 + 0x1p-8f;  // between 1 and 1 + 2⁻⁷: to even, 1
  const std::vector<std::vector<float>> local{{inexact, 1 + 0x1p-7f, -3, 0}, {0x1p-20f, 1 + 3 * 0x1p-8f, 5, 0}};
  const std::vector<float> sum{1 + 0x1p-20f, (1 + 0x1p-7f) + (1 + 0x1p-6f), 2, 0};
  Training expected(model, 1);
  expected.step({{sum}});
  const Snapshot end = expected.snapshot();
  for (const bool placed : {false, true}) {
    Threads threads(2);
    if (placed) threads.use_devices();
    threads.run([&](std::shared_ptr<Collective> collective) {
      const std::uint32_t rank = collective->rank();
      Sharing sharing{std::move(collective), true};
      sharing.wire = Wire::kBfloat16;
      Training training(model, std::make_shared<CpuDevice>(1, ""), test::Alignment::kVectors, sharing);
      training.step({{local[rank]}});
      EXPECT_TRUE(same_state(end, training.snapshot()));
    });
  }
}

/// The message of the error that every rank must throw.
std::string refusal(std::uint32_t ranks, const std::function<void(std::shared_ptr<Collective>)>& body) {
  std::vector<std::string> messages(ranks);
  Threads threads(ranks);
  threads.run([&](std::shared_ptr<Collective> collective) {
    const std::uint32_t rank = collective->rank();
    try {
      body(std::move(collective));
    } catch (const Error& error) {
      messages[rank] = error.code() + ": " + error.what();
    }
  });
  for (const std::string& message : messages) EXPECT_EQ(message, messages[0]);
  return messages[0];
}

TEST(Exchange, RanksWithAnotherVersionAreRefusedOnAllRanks) {
  const auto with = [](const std::string& version) {
    return refusal(3, [&](std::shared_ptr<Collective> collective) {
      agree_on_version(*collective, collective->rank() == 1 ? version : "1.10.0");
    });
  };
  EXPECT_EQ(with("1.1.0"),
            "DISTRIBUTED: All ranks must have the same version of mtadam; got 1.10.0 in rank 0 and 1.1.0 in rank 1.");
  EXPECT_EQ(with("1.10.0"), "");
}

TEST(Exchange, RanksThatDifferAreRefusedOnAllRanks) {
  Random random(3);
  const Model model = test::random_model(random, {5000, 70}, 2);
  const auto with = [&](Model changed, std::shared_ptr<Collective> collective) {
    return std::make_unique<Training>(changed, std::make_shared<CpuDevice>(1, ""), test::Alignment::kVectors,
                                      Sharing{std::move(collective), true});
  };
  // Draws of a lean state depend on names.
  const std::function<void(Model&)> changes[] = {
      [](Model& other) { other.options.balance = 0.25; },
      [](Model& other) { other.parameters[0].key += 1; },
      [](Model& other) { other.parameters[1].type = ElementType::kBfloat16; },
      [](Model& other) { other.options.form.rounding = Rounding::kNearest; },
      [](Model& other) {
        other.options.term_keys = {1, 2};
      },
  };
  for (const auto& change : changes) {
    EXPECT_EQ(refusal(3,
                      [&](std::shared_ptr<Collective> collective) {
                        Model changed = model;
                        if (collective->rank() == 2) change(changed);
                        with(changed, collective);
                      }),
              "DISTRIBUTED: All ranks must have optimizers with the same parameters, terms and options; got rank 0 "
              "`new MTAdam` and rank 2 `new MTAdam` of different ones.");
  }
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  EXPECT_EQ(refusal(3,
                    [&](std::shared_ptr<Collective> collective) {
                      const bool other = collective->rank() == 1;
                      const auto training = with(model, std::move(collective));
                      other ? training->accumulate(0, gradients) : training->step(gradients);
                    }),
            "DISTRIBUTED: All ranks must make the same calls in the same order; got rank 0 `step` and rank 1 "
            "`accumulate`.");
  EXPECT_EQ(refusal(2,
                    [&](std::shared_ptr<Collective> collective) {
                      Gradients own = gradients;
                      if (collective->rank() == 1) own[1][0].reset();
                      with(model, std::move(collective))->step(own);
                    }),
            "DISTRIBUTED: All ranks must give a call the same options, weights and present gradients at the same "
            "iteration; got different ones in rank 0 `step` and rank 1 `step`.");
}

TEST(Exchange, RanksThatStartWithOtherParametersAreRefusedOnAllRanks) {
  Random random(9);
  const Model model = test::random_model(random, {5000, 71}, 2);
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  // Of one element, the first or the last; and the signs of two elements that lie in the highest bits of words.
  const std::vector<std::vector<std::size_t>> changes{{0}, {70}, {1, 3}};
  for (const std::vector<std::size_t>& changed : changes) {
    EXPECT_EQ(refusal(3,
                      [&](std::shared_ptr<Collective> collective) {
                        Model own = model;
                        if (collective->rank() == 2) {
                          for (const std::size_t k : changed) own.theta[1][k] = -own.theta[1][k];
                        }
                        Training training(own, std::make_shared<CpuDevice>(1, ""), test::Alignment::kVectors,
                                          Sharing{std::move(collective), true});
                        const Snapshot before = training.snapshot();
                        try {
                          training.accumulate(0, gradients);
                        } catch (const Error&) {
                          EXPECT_TRUE(same_state(before, training.snapshot()));
                          throw;
                        }
                      }),
              "DISTRIBUTED: All ranks must have the same parameters when they begin to train; got different ones in "
              "rank 0 and rank 2.");
  }
}

TEST(Exchange, ARefusedStepChangesNothing) {
  Random random(4);
  const Model model = test::random_model(random, {5000, 70}, 2);
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  Threads threads(2);
  threads.run([&](std::shared_ptr<Collective> collective) {
    const std::uint32_t rank = collective->rank();
    Training training(model, std::make_shared<CpuDevice>(1, ""), test::Alignment::kVectors,
                      Sharing{std::move(collective), true});
    training.step(gradients);
    const Snapshot before = training.snapshot();
    Gradients own = gradients;
    if (rank == 1) own[1][0].reset();
    EXPECT_THROW(training.step(own), Error);
    EXPECT_TRUE(same_state(before, training.snapshot()));
    training.step(gradients);
  });
}

// ---- A term that travels while its caller goes on ----

/// Ends the use of a term's gradients, as a caller may once accumulate() has returned.
void overwrite_gradients(const Model& model, const Training& training, std::uint32_t term) {
  for (std::uint32_t tensor = 0; tensor < model.parameters.size(); ++tensor) {
    const ParameterShape& shape = model.parameters[tensor];
    float* const g = training.gradient(term, tensor);
    if (g != nullptr) std::memset(static_cast<void*>(g), 0xff, shape.length * element_bytes(shape.gradient));
  }
}

/// Steps of several ranks whose terms come one at a time.
Trial streamed_trial(Random& random, std::size_t ranks, std::uint32_t terms) {
  Trial trial;
  trial.streamed = true;
  trial.model = test::random_exchanged_model(random, terms, true);
  trial.model = test::with_state(trial.model,
                                 random.pick<StateType>({StateType::kFloat32, StateType::kBfloat16, StateType::k8bit}));
  if (random.chance(0.4)) trial.model = test::with_narrow_gradients(random, trial.model);
  trial.sharing.state = random.chance(0.6);
  trial.sharing.reduction = random.chance(0.5) ? Reduction::kOrdered : Reduction::kLibrary;
  trial.sharing.staging_bytes = random.pick<std::size_t>({1, 200000, 1 << 20});
  share_out(trial, test::random_steps(random, trial.model, 3), ranks);
  return trial;
}

std::unique_ptr<Training> training_of(const Trial& trial, std::shared_ptr<Collective> collective) {
  Sharing sharing = trial.sharing;
  sharing.collective = std::move(collective);
  return std::make_unique<Training>(trial.model, std::make_shared<CpuDevice>(1, ""), test::Alignment::kVectors,
                                    sharing);
}

// Whoever does not wait for an exchange comes too early, since each takes a while.
TEST(Exchange, TakesTheStepsOfOneProcessWhileTheCallerGoesOn) {
  int shared = 0, one_v = 0, lagged = 0, network = 0, narrow = 0;
  for (std::uint64_t seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(100 + seed);
    const auto ranks = static_cast<std::uint32_t>(2 + seed % 3),
               terms = static_cast<std::uint32_t>(1 + random.below(3));
    const Trial trial = streamed_trial(random, ranks, terms);
    const Outcome expected = alone(trial);
    Threads threads(ranks);
    threads.use_workers(std::chrono::milliseconds(1));
    threads.run([&](std::shared_ptr<Collective> collective) {
      const std::uint32_t rank = collective->rank();
      const auto training = training_of(trial, std::move(collective));
      Outcome outcome;
      for (const Gradients& gradients : trial.steps[rank]) {
        for (std::uint32_t term = 0; term < terms; ++term) {
          training->accumulate(term, gradients);
          EXPECT_TRUE(training->optimizer().is_accumulated(term));
          overwrite_gradients(trial.model, *training, term);
        }
        training->optimizer().update();
        outcome.theta.push_back(training->theta());
      }
      outcome.end = training->snapshot();
      EXPECT_TRUE(same(expected, outcome));
    });
    if (testing::Test::HasFailure()) return;
    shared += trial.sharing.state;
    one_v += trial.model.options.form.one_v;
    lagged += trial.model.options.form.lagged;
    network += trial.model.options.form.network;
    narrow += trial.model.parameters[0].gradient != ElementType::kFloat32;
  }
  for (const int count : {shared, one_v, lagged, network, narrow}) EXPECT_GT(count, 2);
}

// Rank 1 begins with a term only when rank 0 has returned from it: otherwise, both would wait for ever.
TEST(Exchange, ATermReturnsBeforeTheOthersHaveCome) {
  for (const bool state : {false, true}) {
    Random random(11);
    Trial trial = streamed_trial(random, 2, 3);
    trial.sharing.state = state;
    const Outcome expected = alone(trial);
    std::atomic<std::uint32_t> returned{0};
    Threads threads(2);
    threads.use_workers();
    threads.run([&](std::shared_ptr<Collective> collective) {
      const std::uint32_t rank = collective->rank();
      const auto training = training_of(trial, std::move(collective));
      std::uint32_t calls = 0;
      for (const Gradients& gradients : trial.steps[rank]) {
        for (std::uint32_t term = 0; term < 3; ++term) {
          calls += 1;
          while (rank == 1 && returned < calls) returned.wait(calls - 1);
          training->accumulate(term, gradients);
          if (rank == 1) continue;
          // Calls for gradients alone do not wait either.
          training->zero();
          training->add(gradients);
          returned = calls;
          returned.notify_all();
        }
        training->optimizer().update();
      }
      EXPECT_TRUE(same_state(expected.end, training->snapshot()));
    });
  }
}

TEST(Exchange, AnErrorOfATermComesWithTheNextCall) {
  Random random(12);
  const Model model = test::random_model(random, {5000, 70}, 2);
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  Training alone(model, 1);
  const Snapshot expected = [&] {
    Gradients doubled = gradients;
    for (auto& term : doubled) {
      for (auto& tensor : term) {
        for (float& value : *tensor) value *= 2;
      }
    }
    alone.stream(doubled);
    return alone.snapshot();
  }();
  Threads threads(2);
  threads.use_workers();
  threads.run([&](std::shared_ptr<Collective> collective) {
    const std::uint32_t rank = collective->rank();
    Training training(model, std::make_shared<CpuDevice>(1, ""), test::Alignment::kVectors,
                      Sharing{std::move(collective), true});
    training.accumulate(0, gradients);
    training.optimizer().settle();
    Gradients own = gradients;
    if (rank == 1) own[1][0].reset();
    training.accumulate(1, own);
    try {
      training.optimizer().update();
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), "DISTRIBUTED");
      EXPECT_STREQ(error.what(),
                   "All ranks must give a call the same options, weights and present gradients at the same iteration; "
                   "got different ones in rank 0 `accumulate` and rank 1 `accumulate`.");
    }
    EXPECT_TRUE(training.optimizer().is_accumulated(0));
    EXPECT_FALSE(training.optimizer().is_accumulated(1));
    training.accumulate(1, gradients);
    training.optimizer().update();
    EXPECT_TRUE(same_state(expected, training.snapshot()));
  });
}

// The ranks get to the exchanges of both in one order.
TEST(Exchange, TwoOptimizersMayHaveATermUnderWayEach) {
  Random random(13);
  const Trial first = streamed_trial(random, 2, 2), second = streamed_trial(random, 2, 2);
  const Outcome expected[] = {alone(first), alone(second)};
  Threads threads(2);
  threads.use_workers(std::chrono::milliseconds(1));
  threads.run([&](std::shared_ptr<Collective> collective) {
    const std::uint32_t rank = collective->rank();
    const auto one = training_of(first, collective), other = training_of(second, collective);
    for (std::size_t step = 0; step < first.sums.size(); ++step) {
      for (std::uint32_t term = 0; term < 2; ++term) {
        one->accumulate(term, first.steps[rank][step]);
        other->accumulate(term, second.steps[rank][step]);
      }
      other->optimizer().update();
      one->optimizer().update();
    }
    EXPECT_TRUE(same_state(expected[0].end, one->snapshot()));
    EXPECT_TRUE(same_state(expected[1].end, other->snapshot()));
  });
}

// The exchange goes on in memory of its own.
TEST(Exchange, AnOptimizerMayBeFreedWithATermUnderWay) {
  Random random(14);
  const Trial trial = streamed_trial(random, 2, 2);
  const Outcome expected = alone(trial);
  Threads threads(2);
  threads.use_workers(std::chrono::milliseconds(1));
  threads.run([&](std::shared_ptr<Collective> collective) {
    const std::uint32_t rank = collective->rank();
    training_of(trial, collective)->accumulate(0, trial.steps[rank][0]);
    const auto training = training_of(trial, std::move(collective));
    for (const Gradients& gradients : trial.steps[rank]) training->stream(gradients);
    EXPECT_TRUE(same_state(expected.end, training->snapshot()));
    training->accumulate(0, trial.steps[rank][0]);
  });
}

/// Calls body(kind, range, bytes per value) for what is stored of every moment.
template <class Body>
void for_stored(const Model& model, Training& training, const Body& body) {
  const Layout& layout = training.optimizer().layout();
  for (const auto& [plane, term] : training.planes()) {
    for (std::uint32_t tensor = 0; tensor < layout.tensor_count(); ++tensor) {
      const std::uint64_t length = model.parameters[tensor].length;
      if (!layout.tensors()[tensor].lean) {
        body(Stored::kFloats, PlaneRange{plane, term, tensor, 0, length}, sizeof(float));
        continue;
      }
      body(Stored::kCodes, PlaneRange{plane, term, tensor, 0, length}, std::size_t{code_bytes(model.state_type)});
      if (model.state_type != StateType::k8bit) continue;
      body(Stored::kExponents, PlaneRange{plane, term, tensor, 0, code_blocks(length)}, std::size_t{1});
    }
  }
}

std::vector<std::vector<std::uint8_t>> stored(const Model& model, Training& training) {
  std::vector<std::vector<std::uint8_t>> all;
  for_stored(model, training, [&](Stored kind, const PlaneRange& range, std::size_t bytes) {
    all.emplace_back(range.count * bytes);
    training.optimizer().read_stored(kind, range, all.back().data());
  });
  return all;
}

constexpr StateType kStateTypes[] = {StateType::kFloat32, StateType::kBfloat16, StateType::k8bit};

/// With moments of this type for each term, and no other form.
Model model_with(Random& random, std::uint32_t terms, StateType type) {
  Model model = test::random_model(random, test::kExchanged, terms);
  model.options.form = {};
  return test::with_state(model, type);
}

// In two pieces, which end within a chunk.
template <class Write>
void in_pieces(std::uint64_t count, std::uint64_t unit, const Write& write) {
  const std::uint64_t half = count / 2 / unit * unit;
  write(0, half);
  write(half, count - half);
}

// Rounded from float32 as one process rounds, and then as stored.
TEST(Exchange, WritesAStateThatAnyNumberOfRanksRead) {
  for (const StateType type : kStateTypes) {
    SCOPED_TRACE(static_cast<int>(type));
    Random random(5);
    const Model model = model_with(random, 2, type);
    const std::vector<Gradients> steps = test::random_steps(random, model, 2);
    Training source(model, 1), rounded(model, 1);
    source.step(steps[0]);
    const Snapshot state = source.snapshot();
    const auto write_rounded = [&](Training& training) {
      std::size_t index = 0;
      for (const auto& [plane, term] : training.planes()) {
        for (std::uint32_t tensor = 0; tensor < model.parameters.size(); ++tensor) {
          const std::vector<float>& values = state.planes[index++];
          in_pieces(values.size(), kCodeBlock,
                    [&, plane = plane, term = term](std::uint64_t first, std::uint64_t count) {
                      training.optimizer().write_plane({plane, term, tensor, first, count}, values.data() + first);
                    });
        }
      }
    };
    write_rounded(rounded);
    const auto rounded_planes = rounded.snapshot().planes;
    const auto rounded_codes = stored(model, rounded);
    const auto codes = stored(model, source);
    Threads threads(5);  // a tensor is shared out in its middle
    threads.run([&](std::shared_ptr<Collective> collective) {
      Training training(model, std::make_shared<CpuDevice>(1, ""), test::Alignment::kVectors,
                        Sharing{std::move(collective), true});
      write_rounded(training);
      EXPECT_EQ(rounded_codes, stored(model, training));
      EXPECT_EQ(rounded_planes, training.snapshot().planes);
      std::size_t index = 0;
      for_stored(model, training, [&](Stored kind, const PlaneRange& range, std::size_t bytes) {
        const std::uint8_t* const values = codes[index++].data();
        in_pieces(range.count, 1, [&](std::uint64_t first, std::uint64_t count) {
          PlaneRange piece = range;
          piece.first = first;
          piece.count = count;
          training.optimizer().write_stored(kind, piece, values + first * bytes);
        });
      });
      EXPECT_EQ(codes, stored(model, training));
    });
  }
}

// A rank reads what it has without the others; the parts of all ranks are the whole.
TEST(Exchange, EachRankReadsItsPartOfTheStateAlone) {
  for (const StateType type : kStateTypes) {
    SCOPED_TRACE(static_cast<int>(type));
    Random random(10);
    const Model model = model_with(random, 1, type);
    const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
    Training source(model, 1);
    source.step(gradients);
    std::vector<std::vector<std::uint8_t>> whole = stored(model, source), parts = whole;
    for (std::vector<std::uint8_t>& values : parts) std::fill(values.begin(), values.end(), std::uint8_t{0});
    Threads threads(3);
    threads.run([&](std::shared_ptr<Collective> collective) {
      Training training(model, std::make_shared<CpuDevice>(1, ""), test::Alignment::kVectors,
                        Sharing{std::move(collective), true});
      training.set_reduced(true);
      training.step(gradients);
      std::size_t index = 0;
      for_stored(model, training, [&](Stored kind, PlaneRange range, std::size_t bytes) {
        const Slots own = training.optimizer().own_elements(range.tensor);
        const std::uint64_t unit = kind == Stored::kExponents ? kCodeBlock : 1;
        range.first = own.first / unit;
        range.count = (own.end + unit - 1) / unit - range.first;
        // Ranks write to different bytes.
        std::uint8_t* const to = parts[index++].data() + range.first * bytes;
        if (range.count != 0) training.optimizer().read_own(kind, range, to);
      });
    });
    EXPECT_EQ(whole, parts);
  }
}

TEST(Exchange, DiscardsAnOpenStepAndZeroesWholeGradients) {
  Random random(6);
  Model model = test::random_model(random, test::kExchanged, 2);
  const std::pair<StateForm, StateType> kinds[] = {{{true, true}, StateType::kFloat32},
                                                   {{true, true}, StateType::kBfloat16},
                                                   {{}, StateType::kFloat32},
                                                   {{}, StateType::k8bit}};
  for (const auto& [form, type] : kinds) {
    model.options.form = form;
    model = test::with_narrow_gradients(random, test::with_state(model, type));
    const Gradients gradients = test::narrowed(random, model, test::random_gradients(random, model, {0, 0, 0, 0}));
    Training expected(model, 1);
    expected.accumulate(0, gradients);
    expected.optimizer().discard();
    const Snapshot end = expected.snapshot();
    Threads threads(3);
    threads.run([&](std::shared_ptr<Collective> collective) {
      Training training(model, std::make_shared<CpuDevice>(1, ""), test::Alignment::kVectors,
                        Sharing{std::move(collective), true});
      training.set_reduced(true);
      training.accumulate(0, gradients);
      training.optimizer().discard();
      EXPECT_TRUE(same_state(end, training.snapshot()));
      training.place(gradients);
      training.zero();
      for (std::uint32_t tensor = 0; tensor < model.parameters.size(); ++tensor) {
        const auto* const bytes = reinterpret_cast<const std::uint8_t*>(training.gradient(1, tensor));
        const std::size_t count = model.theta[tensor].size() * element_bytes(model.parameters[tensor].gradient);
        for (std::size_t k = 0; k < count; ++k) ASSERT_EQ(bytes[k], 0);
      }
    });
  }
}

TEST(Exchange, TermsComeAndGo) {
  Random random(7);
  const Model model = test::random_model(random, test::kExchanged, 2);
  Model three = model;
  three.options.terms = 3;
  const std::vector<Gradients> steps = test::random_steps(random, three, 3);
  const auto train = [&](Training& training) {
    training.step({steps[0][0], steps[0][1]});
    training.add_term(0.5);
    training.step(steps[1]);
    training.remove_term(1);
    training.step({steps[2][0], steps[2][2]});
  };
  Training expected(model, 1);
  train(expected);
  const Snapshot end = expected.snapshot();
  Threads threads(2);
  threads.run([&](std::shared_ptr<Collective> collective) {
    Training training(model, std::make_shared<CpuDevice>(1, ""), test::Alignment::kVectors,
                      Sharing{std::move(collective), true});
    training.set_reduced(true);
    train(training);
    EXPECT_TRUE(same_state(end, training.snapshot()));
  });
}

// The table of docs/distributed.md: 4·I + 4 bytes per parameter, or 8·I, times (R − 1)/R; the sums of squares, and
// hashes.
TEST(Exchange, SendsWhatTheTableSays) {
  constexpr std::size_t kRanks = 4, kTerms = 3, kChunks = 8;
  Model model;
  model.options.terms = kTerms;
  model.parameters = {{kChunks * kChunkElements, 0, 0}};
  model.theta.emplace_back(kChunks * kChunkElements);
  model.groups = {test::default_group()};
  model.weights = {1, 1, 1};
  Random random(8);
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  const auto received = [&](bool state, Wire wire) {
    std::vector<std::size_t> bytes(kRanks);
    Threads threads(kRanks);
    threads.run([&](std::shared_ptr<Collective> collective) {
      const std::uint32_t rank = collective->rank();
      Sharing sharing{std::move(collective), state, Reduction::kOrdered, wire};
      Training training(model, std::make_shared<CpuDevice>(1, ""), test::Alignment::kVectors, sharing);
      training.step(gradients);
      const std::size_t before = threads.received(rank);
      training.step(gradients);
      bytes[rank] = threads.received(rank) - before;
    });
    for (const std::size_t count : bytes) EXPECT_EQ(count, bytes[0]);
    return bytes[0];
  };
  constexpr std::size_t kHashes = 48 * (kRanks - 1);
  // Elements times (R − 1)/R.
  constexpr std::size_t kOthers = kChunks * kChunkElements * (kRanks - 1) / kRanks;
  constexpr std::size_t kSquares = kTerms * sizeof(double) * kOthers / kChunkElements;
  EXPECT_EQ(received(false, Wire::kFloat32), 8 * kTerms * kOthers + kHashes);
  EXPECT_EQ(received(true, Wire::kFloat32), (4 * kTerms + 4) * kOthers + kSquares + kHashes);
  EXPECT_EQ(received(true, Wire::kBfloat16), (2 * kTerms + 4) * kOthers + kSquares + kHashes);
}

// Bytes of moments per rank: a part of the whole, up to a chunk per plane.
TEST(Exchange, EachRankHasItsPartOfTheState) {
  const std::vector<ParameterShape> parameters{{1 << 20, 0, 0}, {4096, 1, 0}, {4095, 2, 0}};
  for (const StateType type : kStateTypes) {
    const auto elements = [](const Layout& layout) { return layout.plane_elements() + layout.code_elements(); };
    const std::uint64_t whole = elements(Layout(parameters, type));
    std::uint64_t sum = 0, codes = 0;
    for (std::uint64_t rank = 0; rank < 4; ++rank) {
      Layout layout(parameters, type);
      const std::uint64_t part = (layout.slot_count() + 3) / 4;
      layout.own(std::min(layout.slot_count(), rank * part), std::min(layout.slot_count(), (rank + 1) * part));
      EXPECT_LE(elements(layout), whole / 4 + 2 * kChunkElements);
      EXPECT_EQ(layout.gathered_elements(), elements(layout));
      sum += elements(layout);
      codes += layout.code_elements();
    }
    EXPECT_EQ(sum, whole);
    EXPECT_EQ(codes, Layout(parameters, type).code_elements());
  }
}

}  // namespace
}  // namespace mtadam
