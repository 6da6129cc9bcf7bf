#include "mpi/watchdog.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "engine/collective.h"

namespace mtadam::mpi {
namespace {

using Clock = std::chrono::steady_clock;

// The launcher ends the other ranks when the first one has ended. Several that ended at once made Open MPI's mpirun
// crash or hang.
constexpr std::chrono::milliseconds kBetweenRanks{400};
constexpr std::uint32_t kLatestRank = 10;

}  // namespace

struct Watchdog::State {
  std::mutex mutex;
  std::condition_variable changed;
  Clock::duration timeout;
  Clock::time_point deadline = Clock::time_point::max();
  std::uint32_t rank = 0;
  std::string call = "connectMpi";
  const char* operation = "";
  bool stopped = false;

  void watch() {
    std::unique_lock<std::mutex> lock(mutex);
    while (!stopped) {
      // wait() without a time would need a newer libstdc++ than the addon may.
      changed.wait_until(lock, std::min(deadline, Clock::now() + std::chrono::hours(1)));
      if (!stopped && Clock::now() >= deadline) give_up();
    }
  }

  [[noreturn]] void give_up() {
    const double seconds = std::chrono::duration<double>(timeout).count();
    std::fprintf(stderr, "ERR_MTADAM_DISTRIBUTED: %s\n", waited_too_long(rank, seconds, call, operation).c_str());
    std::fflush(stderr);
    std::this_thread::sleep_for(kBetweenRanks * std::min(rank, kLatestRank));
    std::_Exit(kTimedOut);
  }
};

Watchdog::Watchdog(double timeout) : state_(new State) {
  state_->timeout = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(timeout));
  std::thread([state = state_] { state->watch(); }).detach();
}

Watchdog::~Watchdog() {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->stopped = true;
  state_->changed.notify_one();
}

void Watchdog::set_rank(std::uint32_t rank) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->rank = rank;
}

void Watchdog::set_call(const std::string& call) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->call = call;
}

void Watchdog::begin(const char* operation) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->operation = operation;
  state_->deadline = Clock::now() + state_->timeout;
  state_->changed.notify_one();
}

void Watchdog::end() {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->deadline = Clock::time_point::max();
  state_->changed.notify_one();
}

}  // namespace mtadam::mpi
