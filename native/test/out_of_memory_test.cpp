#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <tuple>

#include "engine/errors.h"
#include "failing_new.h"
#include "training.h"

// Each allocation of each call fails in turn. A failed call must change nothing and succeed when it is repeated.

namespace mtadam {
namespace {

using test::Gradients;
using test::Model;
using test::Random;
using test::Training;

/// Whether `call` runs out of memory if its n-th allocation fails.
bool fails(std::int64_t n, const std::function<void()>& call) {
  bool failed = false;
  test::allocations_left = n;
  try {
    call();
  } catch (const std::bad_alloc&) {
    failed = true;
  } catch (const Error& error) {
    failed = error.code() == "OUT_OF_MEMORY";
  }
  test::allocations_left = -1;
  return failed;
}

struct Call {
  const char* name;
  std::function<void(Training&)> body;
};

const std::vector<Call>& calls() {
  static const std::vector<Call> all{
      {"step", [](Training& training) { training.step_again(); }},
      {"accumulate", [](Training& training) { training.accumulate_again(0); }},
      {"add_term", [](Training& training) { training.optimizer().add_term(); }},
      {"remove_term", [](Training& training) { training.optimizer().remove_term(1); }},
      {"set_groups",
       [](Training& training) {
         training.set_groups({test::default_group(), test::default_group()});
       }},
      {"clocks", [](Training& training) { training.optimizer().clocks(0); }},
      {"norms_later", [](Training& training) { training.optimizer().norms_later(); }},
  };
  return all;
}

/// How many moments are summed over terms, 0 to 2, and the number of threads. With one, the calls come after a step.
/// With two, a step comes first, and also computes cosines: the first job that is large enough for both threads.
class OutOfMemory : public testing::TestWithParam<std::tuple<int, unsigned>> {
 protected:
  static int summed() { return std::get<0>(GetParam()); }
  static unsigned threads() { return std::get<1>(GetParam()); }

  Model model() const {
    Random random(7);
    Model model = test::random_model(random, {5000, 300, 7}, 3);
    model.options.form = {summed() > 0, summed() != 1};
    model.options.form.one_v = summed() > 1;
    model.options.form.cosines = threads() > 1;
    model.weights = {1, 2, 0.5};
    return model;
  }

  static std::unique_ptr<Training> begin(const Model& model, const Gradients& gradients) {
    auto training = std::make_unique<Training>(model, threads());
    training->place(gradients);
    if (threads() == 1) training->step_again();
    return training;
  }
};

TEST_P(OutOfMemory, ChangesNothing) {
  const Model model = this->model();
  Random random(8);
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  for (const Call& call : calls()) {
    SCOPED_TRACE(call.name);
    const auto expected = begin(model, gradients);
    call.body(*expected);
    std::int64_t n = 0;
    for (;; ++n) {
      SCOPED_TRACE(n);
      const auto training = begin(model, gradients);
      const test::Snapshot before = training->snapshot();
      Optimizer& optimizer = training->optimizer();
      const std::int64_t completed = optimizer.completed();
      if (!fails(n, [&] { call.body(*training); })) break;
      ASSERT_EQ(optimizer.options().terms, model.options.terms);
      ASSERT_EQ(optimizer.completed(), completed);
      ASSERT_TRUE(optimizer.is_whole());
      ASSERT_TRUE(test::same_state(before, training->snapshot()));
      call.body(*training);
      const std::uint32_t terms = optimizer.options().terms;
      ASSERT_EQ(terms, expected->optimizer().options().terms);
      for (std::uint32_t term = 0; term < terms; ++term) {
        ASSERT_EQ(optimizer.clocks(term)[0].p2, expected->optimizer().clocks(term)[0].p2);
      }
    }
    EXPECT_GT(n, 0);
  }
}

TEST_P(OutOfMemory, LeavesAStepOpenThatCannotBeDiscarded) {
  const Model model = this->model();
  Random random(9);
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  const auto opened = [&] {
    auto training = begin(model, gradients);
    training->accumulate_again(1);
    return training;
  };
  const auto expected = opened();
  expected->optimizer().discard();
  for (std::int64_t n = 0;; ++n) {
    SCOPED_TRACE(n);
    const auto training = opened();
    Optimizer& optimizer = training->optimizer();
    if (!fails(n, [&] { optimizer.discard(); })) {
      EXPECT_GT(n, 0);
      return;
    }
    ASSERT_TRUE(optimizer.is_whole());
    ASSERT_TRUE(optimizer.is_open());
    optimizer.discard();
    ASSERT_TRUE(test::same_state(expected->snapshot(), training->snapshot()));
  }
}

INSTANTIATE_TEST_SUITE_P(Moments, OutOfMemory, testing::Combine(testing::Range(0, 3), testing::Values(1u, 2u)));

}  // namespace
}  // namespace mtadam
