#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/collective.h"

namespace mtadam::mpi {

/// All processes that an MPI launcher has started. All calls come from the thread that opens it, or from worker(),
/// which there is where the library grants MPI_THREAD_SERIALIZED and there are other ranks.
///
/// Loads the first library that is there, with the ABI of Open MPI or of MPICH, and initializes MPI. A call that waits
/// for other ranks longer than `timeout` seconds ends the process with the exit code kTimedOut. Throws Error
/// (DISTRIBUTED) where the library cannot be loaded or MPI has been initialized before.
std::shared_ptr<Collective> open(const std::vector<std::string>& libraries, double timeout);

}  // namespace mtadam::mpi
