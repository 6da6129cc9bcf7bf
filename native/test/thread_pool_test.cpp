#include "cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <deque>
#include <limits>
#include <numeric>
#include <span>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(_M_X64)
#  include <immintrin.h>
#  define MTADAM_TEST_MXCSR 1
#endif

namespace mtadam {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

const std::vector<unsigned> kThreads{1, 2, 7, 64};

// Plain counters on purpose: if two threads run one task, or a task ends after run(), the thread sanitizer reports a
// race.
testing::AssertionResult runs_each_once(ThreadPool& pool, std::size_t count) {
  std::vector<int> runs(count, 0);
  pool.run(count, [&](std::size_t k) noexcept { runs.at(k) += 1; });
  for (std::size_t k = 0; k < count; ++k) {
    if (runs[k] != 1) {
      return testing::AssertionFailure() << "task " << k << " of " << count << " ran " << runs[k] << " times on "
                                         << pool.threads() << " threads";
    }
  }
  return testing::AssertionSuccess();
}

// A task that ends when `all` tasks have begun, so that as many threads must take part, or after some time, so that a
// pool that lacks threads fails instead of hanging.
class Meeting {
 public:
  explicit Meeting(int all) : all_(all) {}

  bool attend() noexcept {
    arrived_.fetch_add(1);
    const steady_clock::time_point limit = steady_clock::now() + seconds(10);
    while (arrived_.load() < all_) {
      if (steady_clock::now() > limit) return false;
      std::this_thread::yield();
    }
    return true;
  }

 private:
  const int all_;
  std::atomic<int> arrived_{0};
};

testing::AssertionResult all_threads_meet(ThreadPool& pool) {
  const int all = static_cast<int>(pool.threads());
  Meeting meeting(all);
  std::atomic<int> met{0};
  pool.run(pool.threads(), [&](std::size_t) noexcept { met += meeting.attend() ? 1 : 0; });
  if (met == all) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "only " << met << " of " << all << " threads took part";
}

TEST(ThreadPool, RunsEveryTaskExactlyOnce) {
  for (const unsigned threads : kThreads) {
    ThreadPool pool(threads);
    for (const std::size_t count : {0, 1, 2, 3, 6, 7, 8, 63, 64, 65, 1000, 100'000}) {
      EXPECT_TRUE(runs_each_once(pool, count));
    }
  }
}

TEST(ThreadPool, HasAtLeastOneThread) {
  ThreadPool pool(0);
  EXPECT_EQ(pool.threads(), 1u);
  EXPECT_TRUE(runs_each_once(pool, 100));
}

TEST(ThreadPool, RunsThousandsOfJobsInARow) {
  for (const unsigned threads : kThreads) {
    ThreadPool pool(threads);
    for (int job = 0; job < 5000; ++job) {
      ASSERT_TRUE(runs_each_once(pool, 1 + static_cast<std::size_t>(job % 9))) << "job " << job;
      // Long enough for some workers to fall asleep, and for others to be about to when the next job comes.
      if (job % 500 == 0) std::this_thread::sleep_for(milliseconds(1));
      if (job % 50 == 0) std::this_thread::sleep_for(std::chrono::microseconds(job % 7 * 10));
    }
  }
}

// Jobs that are over before the workers have woken, which then join the next job late.
TEST(ThreadPool, RunsTasksOnceWhenWorkersComeLate) {
  ThreadPool pool(3);
  std::vector<int> runs(16, 0);
  for (int job = 0; job < 50'000; ++job) {
    const std::size_t count = job % 2 == 0 ? 2 : runs.size();
    std::fill(runs.begin(), runs.end(), 0);
    pool.run(count, [&](std::size_t k) noexcept { runs[k] += 1; });
    const std::ptrdiff_t once = std::count(runs.begin(), runs.end(), 1);
    ASSERT_EQ(once, static_cast<std::ptrdiff_t>(count)) << "job " << job;
  }
}

TEST(ThreadPool, UsesAllThreadsForAJobThatNeedsThem) {
  for (const unsigned threads : kThreads) {
    ThreadPool pool(threads);
    EXPECT_TRUE(all_threads_meet(pool)) << "at the first job";
    EXPECT_TRUE(all_threads_meet(pool)) << "while awake";
    std::this_thread::sleep_for(milliseconds(30));
    EXPECT_TRUE(all_threads_meet(pool)) << "from sleep";
    EXPECT_TRUE(runs_each_once(pool, 3));
    EXPECT_TRUE(all_threads_meet(pool)) << "after a job that did not need them all";
  }
}

TEST(ThreadPool, EndsWithoutAJob) {
  for (int round = 0; round < 500; ++round) {
    for (const unsigned threads : kThreads) ThreadPool pool(threads);
  }
}

TEST(ThreadPool, EndsRightAfterAJob) {
  for (int round = 0; round < 100; ++round) {
    for (const unsigned threads : {2u, 7u}) {
      ThreadPool pool(threads);
      for (int job = 0; job <= round % 3; ++job) ASSERT_TRUE(runs_each_once(pool, 2 + static_cast<std::size_t>(round)));
      if (round % 10 == 0) std::this_thread::sleep_for(milliseconds(2));
    }
  }
}

TEST(ThreadPool, TakesJobsFromTwoCallersAtOnce) {
  for (const unsigned threads : {1u, 2u, 7u}) {
    ThreadPool pool(threads);
    std::atomic<int> failures{0};
    const auto caller = [&] {
      for (int job = 0; job < 2000; ++job) {
        if (!runs_each_once(pool, static_cast<std::size_t>(job % 17))) failures += 1;
      }
    };
    std::thread other(caller);
    caller();
    other.join();
    EXPECT_EQ(failures, 0);
  }
}

// ---- The floating-point environment

// Runs a job on all threads of the pool and returns how many tasks saw an environment other than the default.
int tasks_under_another_environment(ThreadPool& pool, std::size_t count) {
  Meeting meeting(static_cast<int>(count));
  std::atomic<int> other{0};
  pool.run(count, [&](std::size_t) noexcept {
    bool is_default = meeting.attend();
    volatile float smallest_normal = std::numeric_limits<float>::min();
    is_default = is_default && smallest_normal / 2 != 0;  // results are not flushed
    volatile float smallest = std::numeric_limits<float>::denorm_min();
    is_default = is_default && smallest * 0x1p100f != 0;  // operands are not zeroed
    volatile float third = 1.0f;
    is_default = is_default && third / 3.0f == 0x1.555556p-2f;  // to nearest, which here is up
    is_default = is_default && -third / 3.0f == -0x1.555556p-2f;
    other += is_default ? 0 : 1;
  });
  return other;
}

TEST(ThreadPool, RunsTasksWithRoundingToNearestForAnyCaller) {
  for (const int rounding : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    for (const unsigned threads : {1u, 4u}) {
      ThreadPool pool(threads);
      ASSERT_EQ(std::fesetround(rounding), 0);
      const int first = tasks_under_another_environment(pool, threads);  // starts the workers
      const int again = tasks_under_another_environment(pool, threads);
      const int alone = tasks_under_another_environment(pool, 1);
      const int after = std::fegetround();
      std::fesetround(FE_TONEAREST);
      EXPECT_EQ(first, 0);
      EXPECT_EQ(again, 0);
      EXPECT_EQ(alone, 0);
      EXPECT_EQ(after, rounding) << "the caller's rounding is the caller's";
    }
  }
}

#if defined(MTADAM_TEST_MXCSR)

constexpr unsigned kFlushToZero = 0x8000;
constexpr unsigned kDenormalsAreZero = 0x0040;
constexpr unsigned kFlags = 0x003f;  // status flags, set by operations

TEST(ThreadPool, RunsTasksWithSubnormalsForACallerThatFlushesThem) {
  const unsigned saved = _mm_getcsr();
  for (const unsigned mode : {kFlushToZero, kDenormalsAreZero, kFlushToZero | kDenormalsAreZero}) {
    for (const unsigned threads : {1u, 4u}) {
      ThreadPool pool(threads);
      const unsigned set = (saved & ~kFlags) | mode;
      _mm_setcsr(set);
      const int first = tasks_under_another_environment(pool, threads);  // the workers inherit the flushing
      const int again = tasks_under_another_environment(pool, threads);
      const int alone = tasks_under_another_environment(pool, 1);
      const unsigned after = _mm_getcsr();
      _mm_setcsr(saved);
      EXPECT_EQ(first, 0);
      EXPECT_EQ(again, 0);
      EXPECT_EQ(alone, 0);
      EXPECT_EQ(after & ~kFlags, set) << "the caller's mode is the caller's";
    }
  }
}

TEST(ThreadPool, RunsTasksWithSubnormalsWhenTheCallerBeginsToFlushLater) {
  const unsigned saved = _mm_getcsr();
  ThreadPool pool(4);
  EXPECT_EQ(tasks_under_another_environment(pool, 4), 0);
  _mm_setcsr(saved | kFlushToZero | kDenormalsAreZero);
  const int flushed = tasks_under_another_environment(pool, 4);
  _mm_setcsr(saved);
  EXPECT_EQ(flushed, 0);
}

#endif

// ---- Stages

TEST(ThreadPool, RunsEveryTaskOfEveryStageOnce) {
  // No task, one, fewer than threads, many; and more stages than one line of counters has.
  std::vector<Stage> stages{{5}, {0}, {1, true}, {300, true}, {63}, {0, true}, {64}, {2}, {1000}, {7, true}};
  stages.insert(stages.end(), 20, Stage{9, true});
  for (const unsigned threads : kThreads) {
    ThreadPool pool(threads);
    // Fewer and fewer stages: counters left by longer jobs must have no effect.
    for (std::size_t count = stages.size(); count > 0; --count) {
      std::vector<std::vector<int>> runs;
      for (std::size_t stage = 0; stage < count; ++stage) runs.emplace_back(stages[stage].tasks, 0);
      pool.run(std::span(stages).first(count), [&](std::size_t stage, std::size_t k) noexcept { runs[stage][k] += 1; });
      for (std::size_t stage = 0; stage < count; ++stage) {
        ASSERT_EQ(runs[stage], std::vector<int>(stages[stage].tasks, 1)) << "stage " << stage << " of " << count;
      }
    }
  }
}

// A task may rely on this: tasks of earlier stages are done or running, with any number of threads.
TEST(ThreadPool, LetsATaskWaitForTheStageBefore) {
  for (const unsigned threads : kThreads) {
    ThreadPool pool(threads);
    const std::vector<Stage> stages(40, Stage{3});
    for (int round = 0; round < 20; ++round) {
      std::vector<std::atomic<int>> done(stages.size());
      pool.run(stages, [&](std::size_t stage, std::size_t) noexcept {
        while (stage > 0 && done[stage - 1].load() < 3) std::this_thread::yield();
        done[stage].fetch_add(1);
      });
      EXPECT_EQ(done.back().load(), 3);
    }
  }
}

// So a thread finds its data in its caches, from the stage or the job before.
TEST(ThreadPool, GivesAThreadTheSameShareAgain) {
  for (const unsigned threads : kThreads) {
    ThreadPool pool(threads);
    const std::vector<Stage> stages{{threads}, {threads, true}};
    std::vector<std::thread::id> owners;
    for (int job = 0; job < 3; ++job) {
      // No thread finishes a stage before all have begun it, so none steals.
      std::vector<std::vector<std::thread::id>> ran(stages.size(), std::vector<std::thread::id>(threads));
      std::deque<Meeting> meeting;
      for (std::size_t k = 0; k < stages.size(); ++k) meeting.emplace_back(static_cast<int>(threads));
      pool.run(stages, [&](std::size_t stage, std::size_t k) noexcept {
        ran[stage][k] = std::this_thread::get_id();
        meeting[stage].attend();
      });
      if (job == 0) owners = ran[0];
      EXPECT_EQ(ran, std::vector(stages.size(), owners)) << threads << " threads, job " << job;
    }
    EXPECT_EQ(owners.front(), std::this_thread::get_id());
  }
}

// Stages overlap, so many small ones use as many threads as one large one.
TEST(ThreadPool, UsesAllThreadsForStagesOfOneTask) {
  for (const unsigned threads : kThreads) {
    ThreadPool pool(threads);
    const std::vector<Stage> stages(threads, Stage{1});
    for (int job = 0; job < 3; ++job) {
      std::this_thread::sleep_for(milliseconds(10));  // waking a thread takes a system call
      Meeting meeting(static_cast<int>(threads));
      std::atomic<unsigned> met{0};
      pool.run(stages, [&](std::size_t, std::size_t) noexcept { met += meeting.attend() ? 1 : 0; });
      EXPECT_EQ(met, threads) << "job " << job;
    }
  }
}

TEST(ThreadPool, RunsAStageBackwardsIfAsked) {
  ThreadPool pool(1);
  std::vector<std::size_t> order;
  const std::vector<Stage> stages{{3}, {3, true}};
  pool.run(stages, [&](std::size_t, std::size_t k) noexcept { order.push_back(k); });
  EXPECT_EQ(order, (std::vector<std::size_t>{0, 1, 2, 2, 1, 0}));
  // Each thread runs its own share: here the other is still at its first task.
  ThreadPool two(2);
  order.clear();
  std::atomic<int> done{0};
  const Stage stage{6, true};
  two.run({&stage, 1}, [&](std::size_t, std::size_t k) noexcept {
    if (k < 3) {
      order.push_back(k);
      done += 1;
    } else {
      while (done < 3) std::this_thread::yield();
    }
  });
  EXPECT_EQ(order, (std::vector<std::size_t>{2, 1, 0}));
}

}  // namespace
}  // namespace mtadam
