#pragma once

#include <cstdint>
#include <string>

namespace mtadam::mpi {

/// The exit code of a process that waited too long for another rank.
constexpr int kTimedOut = 70;

/// Ends the process when a call of MPI takes longer than the time-out: a blocked call cannot be cancelled.
class Watchdog {
 public:
  /// `timeout`: seconds.
  explicit Watchdog(double timeout);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  void set_rank(std::uint32_t rank);
  /// The call of this package that the next calls of MPI belong to.
  void set_call(const std::string& call);
  void begin(const char* operation);
  void end();

 private:
  struct State;
  State* const state_;  // never freed: the thread may outlive the destructors of the process
};

/// Watches one call of MPI.
class Watched {
 public:
  Watched(Watchdog& watchdog, const char* operation) : watchdog_(watchdog) { watchdog_.begin(operation); }
  ~Watched() { watchdog_.end(); }
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;

 private:
  Watchdog& watchdog_;
};

}  // namespace mtadam::mpi
