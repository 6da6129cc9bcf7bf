#include <cstdint>
#include <functional>
#include <new>

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

/// How many moments are summed over terms, 0 to 2.
class OutOfMemory : public testing::TestWithParam<int> {
 protected:
  Model model() const {
    Random random(7);
    Model model = test::random_model(random, {5000, 300, 7}, 3);
    model.options.form = {GetParam() > 0, true};
    model.options.form.one_v = GetParam() > 1;
    model.weights = {1, 2, 0.5};
    return model;
  }
};

TEST_P(OutOfMemory, ChangesNothing) {
  const Model model = this->model();
  Random random(8);
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  for (const Call& call : calls()) {
    SCOPED_TRACE(call.name);
    Training expected(model, 1);
    expected.step(gradients);
    call.body(expected);
    std::int64_t n = 0;
    for (;; ++n) {
      SCOPED_TRACE(n);
      Training training(model, 1);
      training.step(gradients);
      const test::Snapshot before = training.snapshot();
      Optimizer& optimizer = training.optimizer();
      if (!fails(n, [&] { call.body(training); })) break;
      ASSERT_EQ(optimizer.options().terms, model.options.terms);
      ASSERT_EQ(optimizer.completed(), 1);
      ASSERT_TRUE(optimizer.is_whole());
      ASSERT_TRUE(test::same_state(before, training.snapshot()));
      call.body(training);
      const std::uint32_t terms = optimizer.options().terms;
      ASSERT_EQ(terms, expected.optimizer().options().terms);
      for (std::uint32_t term = 0; term < terms; ++term) {
        ASSERT_EQ(optimizer.clocks(term)[0].p2, expected.optimizer().clocks(term)[0].p2);
      }
    }
    EXPECT_GT(n, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Moments, OutOfMemory, testing::Range(0, 3));

}  // namespace
}  // namespace mtadam
