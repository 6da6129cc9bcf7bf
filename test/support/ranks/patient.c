// To be preloaded under MPICH: a rank that waits for others sleeps. MPICH spins instead, so that four ranks on two cores take
// five times as long.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

typedef unsigned Progress(void* worker);

// UCX's, which MPICH calls until what it waits for has come; returns whether anything has.
unsigned ucp_worker_progress(void* worker) {
  static Progress* real;
  static __thread int idle;
  if (!real) real = (Progress*)dlsym(RTLD_NEXT, "ucp_worker_progress");
  unsigned count = real(worker);
  if (count > 0) idle = 0;
  else if (++idle > 20) usleep(20);
  return count;
}
