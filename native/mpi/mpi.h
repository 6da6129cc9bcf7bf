#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/collective.h"

namespace mtadam::mpi {

/// All processes that an MPI launcher has started. All calls come from the thread that opened it.
class World : public Collective {
 public:
  /// What the library says of itself, e.g. "Open MPI v4.1.4".
  virtual std::string library() const = 0;
  /// Ends MPI in this process; waits for the other ranks. Later calls throw Error (DISTRIBUTED).
  virtual void close() = 0;
};

/// Loads the first library that is there, with the ABI of Open MPI or of MPICH, and initializes MPI. A call that waits
/// for other ranks longer than `timeout` seconds ends the process with the exit code kTimedOut. Throws Error
/// (DISTRIBUTED) where the library cannot be loaded or MPI has been initialized before.
std::shared_ptr<World> open(const std::vector<std::string>& libraries, double timeout);

}  // namespace mtadam::mpi
