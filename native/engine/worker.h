#pragma once

#include <functional>
#include <memory>

namespace mtadam {

/// A thread that runs jobs one after another, in the order in which they are posted.
class Worker {
 public:
  Worker();
  /// Does not wait: jobs that are posted still run, and the thread ends after them.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// `job` must not throw, and owns all that it uses: it may outlive the worker.
  void post(std::function<void()> job);
  /// Returns when all jobs have ended. On the worker's own thread, at once.
  void wait();

 private:
  struct State;
  const std::shared_ptr<State> state_;  // shared with the thread
};

}  // namespace mtadam
