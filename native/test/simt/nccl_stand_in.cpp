// A library with the functions of NCCL that native/nccl uses, for processes of this machine whose device memory is host
// memory: they exchange data through shared memory. Work is enqueued on streams by the function that stand_in_use() is
// given. It refuses what NCCL leaves undefined: calls that differ between ranks, and a communicator that has been
// destroyed. It proves nothing of NCCL's own order of sums, speed or deadlocks.
//   NCCL_STAND_IN_FAIL=ncclAllGather:3   the third call of the function fails
//   NCCL_STAND_IN_VERSION=21200          the version that it says it has

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

constexpr int kMostRanks = 8;
constexpr std::size_t kPiece = std::size_t{64} << 10;

enum Result {
  kSuccess = 0,
  kCudaError = 1,
  kInvalidArgument = 4,
  kInvalidUsage = 5,
  kRemoteError = 6,
  kInProgress = 7
};

struct Shared {
  std::atomic<int> arrived, phase;
  std::atomic<int> pids[kMostRanks];
  std::atomic<bool> gone[kMostRanks];
  std::atomic<std::uint64_t> statements[kMostRanks];
  std::atomic<std::size_t> counts[kMostRanks][kMostRanks];
  char pieces[kMostRanks][kPiece];
};

struct Group {
  Shared* shared = nullptr;
  int rank = 0, size = 1;
  std::atomic<int> state{kInProgress};  // until all ranks have joined
  std::atomic<bool> asked{true};        // since the last call
  std::atomic<bool> aborted{false};

  ~Group() {
    if (shared != nullptr) munmap(shared, sizeof(Shared));
  }

  /// False, and the communicator has failed, where a rank is gone.
  bool meet() {
    const int phase = shared->phase;
    if (++shared->arrived == size) {
      shared->arrived = 0;
      shared->phase += 1;
      return true;
    }
    while (shared->phase == phase) {
      if (aborted) return false;
      for (int other = 0; other < size; ++other) {
        const int pid = shared->pids[other];
        if (!shared->gone[other] && (pid == 0 || kill(pid, 0) == 0 || errno != ESRCH)) continue;
        state = kRemoteError;
        return false;
      }
      usleep(50);
    }
    return true;
  }

  /// Whether all ranks make the same call.
  bool agree(std::uint64_t statement) {
    shared->statements[rank] = statement;
    if (!meet()) return false;
    const bool same = std::all_of(shared->statements, shared->statements + size,
                                  [&](const std::atomic<std::uint64_t>& other) { return other == statement; });
    if (!meet()) return false;
    if (!same) state = kInvalidUsage;
    return same;
  }

  /// Shows `bytes` bytes of `from`, where it is not null, to the others, and calls body(offset, bytes) for each piece.
  template <class Body>
  bool show(const void* from, std::size_t bytes, const Body& body) {
    for (std::size_t done = 0; done < bytes; done += kPiece) {
      const std::size_t count = std::min(kPiece, bytes - done);
      if (from != nullptr) std::memcpy(shared->pieces[rank], static_cast<const char*>(from) + done, count);
      if (!meet()) return false;
      body(done, count);
      if (!meet()) return false;
    }
    return true;
  }
};

int (*launch)(void* stream, void (*function)(void*), void* data) = nullptr;

std::mutex mutex;
std::set<void*> live;
thread_local int depth = 0;

struct Message {
  const void* from;
  void* to;
  std::size_t bytes;
  int peer;
};
thread_local std::vector<Message> sent, received;

/// Whether this is the call that must fail.
bool fails(const char* function) {
  static const char* const asked = std::getenv("NCCL_STAND_IN_FAIL");
  static std::atomic<int> calls{0};
  if (asked == nullptr) return false;
  const std::string text = asked;
  const std::size_t colon = text.find(':');
  return text.substr(0, colon) == function && ++calls == std::atoi(text.c_str() + colon + 1);
}

}  // namespace

struct ncclComm {
  std::shared_ptr<Group> group;
  void* stream = nullptr;  // of the group of calls that is open
};

namespace {

ncclComm* checked(ncclComm* comm) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (live.count(comm) != 0) return comm;
  std::fprintf(stderr, "the stand-in of NCCL: the communicator has been destroyed\n");
  std::_Exit(86);
}

/// Enqueues work. As with NCCL, the communicator is in progress until it is asked once more.
int enqueue(ncclComm* comm, void* stream, std::function<void(Group&)> work) {
  struct Job {
    std::shared_ptr<Group> group;
    std::function<void(Group&)> work;
  };
  auto job = std::make_unique<Job>(Job{comm->group, std::move(work)});
  const auto run = [](void* data) {
    const std::unique_ptr<Job> own(static_cast<Job*>(data));
    Group& group = *own->group;
    if (!group.aborted && group.state == kSuccess) own->work(group);
  };
  comm->group->asked = false;
  if (launch(stream, run, job.release()) != 0) return kCudaError;
  return kInProgress;
}

void remove(ncclComm* comm) {
  comm->group->aborted = true;
  comm->group->shared->gone[comm->group->rank] = true;
  const std::lock_guard<std::mutex> lock(mutex);
  live.erase(comm);
  delete comm;
}

}  // namespace

struct ncclUniqueId {
  char name[128];
};

struct ncclConfig {
  std::size_t size;
  unsigned magic, version;
  int blocking;
};

/// `function`: cudaLaunchHostFunc.
EXPORTED void stand_in_use(int (*function)(void*, void (*)(void*), void*)) { launch = function; }

EXPORTED int ncclGetVersion(int* version) {
  const char* const asked = std::getenv("NCCL_STAND_IN_VERSION");
  *version = asked == nullptr ? 22703 : std::atoi(asked);
  return kSuccess;
}

EXPORTED int ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<int> count{0};
  *id = {};
  std::snprintf(id->name, sizeof id->name, "/nccl_stand_in.%d.%d", getpid(), ++count);
  return kSuccess;
}

EXPORTED int ncclCommInitRankConfig(ncclComm** comm, int size, ncclUniqueId id, int rank, ncclConfig* config) {
  if (config->size != sizeof *config || config->magic != 0xcafebeef || config->version != 21400 ||
      config->blocking != 0 || size > kMostRanks || rank < 0 || rank >= size) {
    return kInvalidArgument;
  }
  if (fails("ncclCommInitRankConfig")) return kCudaError;
  const int file = shm_open(id.name, O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, sizeof(Shared)) != 0) return kCudaError;
  void* const memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return kCudaError;
  const auto group = std::make_shared<Group>();
  group->shared = static_cast<Shared*>(memory);
  group->shared->pids[rank] = getpid();
  group->rank = rank;
  group->size = size;
  *comm = new ncclComm{group};
  {
    const std::lock_guard<std::mutex> lock(mutex);
    live.insert(*comm);
  }
  std::thread([group, id] {
    if (!group->meet()) return;
    if (group->rank == 0) shm_unlink(id.name);
    group->state = kSuccess;
  }).detach();
  return kInProgress;
}

EXPORTED int ncclCommFinalize(ncclComm* comm) {
  checked(comm);
  return kSuccess;
}

EXPORTED int ncclCommDestroy(ncclComm* comm) {
  remove(checked(comm));
  return kSuccess;
}

EXPORTED int ncclCommAbort(ncclComm* comm) {
  remove(checked(comm));
  return kSuccess;
}

EXPORTED int ncclCommGetAsyncError(ncclComm* comm, int* error) {
  Group& group = *checked(comm)->group;
  *error = group.state;
  if (!group.asked.exchange(true) && *error == kSuccess) *error = kInProgress;
  return kSuccess;
}

EXPORTED const char* ncclGetErrorString(int error) {
  switch (error) {
    case kSuccess:
      return "no error";
    case kCudaError:
      return "unhandled cuda error";
    case kInvalidArgument:
      return "invalid argument";
    case kInvalidUsage:
      return "invalid usage";
    case kRemoteError:
      return "remote process exited or there was a network error";
    default:
      return "unknown result code";
  }
}

EXPORTED const char* ncclGetLastError(ncclComm*) { return ""; }

EXPORTED int ncclGroupStart() {
  depth += 1;
  return kSuccess;
}

EXPORTED int ncclAllGather(const void* from, void* to, std::size_t count, int type, ncclComm* comm, void* stream) {
  checked(comm);
  if (fails("ncclAllGather")) return kCudaError;
  if (type != 1) return kInvalidArgument;
  return enqueue(comm, stream, [=](Group& group) {
    if (!group.agree(4 * count + 1)) return;
    group.show(from, count, [&](std::size_t offset, std::size_t bytes) {
      for (int rank = 0; rank < group.size; ++rank) {
        std::memcpy(static_cast<char*>(to) + static_cast<std::size_t>(rank) * count + offset,
                    group.shared->pieces[rank], bytes);
      }
    });
  });
}

EXPORTED int ncclReduceScatter(const void* from, void* to, std::size_t count, int type, int operation, ncclComm* comm,
                               void* stream) {
  checked(comm);
  if (fails("ncclReduceScatter")) return kCudaError;
  if (type != 7 || operation != 0) return kInvalidArgument;
  return enqueue(comm, stream, [=](Group& group) {
    if (!group.agree(4 * count + 2)) return;
    // As a ring adds: from the rank after the owner on.
    for (int owner = 0; owner < group.size; ++owner) {
      const float* const part = static_cast<const float*>(from) + static_cast<std::size_t>(owner) * count;
      const bool met = group.show(part, count * sizeof(float), [&](std::size_t offset, std::size_t bytes) {
        if (owner != group.rank) return;
        for (std::size_t k = 0; k < bytes; k += sizeof(float)) {
          float sum = 0;
          for (int after = 1; after <= group.size; ++after) {
            float value;
            std::memcpy(&value, group.shared->pieces[(owner + after) % group.size] + k, sizeof value);
            sum = after == 1 ? value : sum + value;
          }
          std::memcpy(static_cast<char*>(to) + offset + k, &sum, sizeof sum);
        }
      });
      if (!met) return;
    }
  });
}

EXPORTED int ncclSend(const void* from, std::size_t count, int type, int peer, ncclComm* comm, void* stream) {
  if (depth == 0 || type != 1) return kInvalidUsage;
  checked(comm)->stream = stream;
  if (fails("ncclSend")) return kCudaError;
  sent.push_back({from, nullptr, count, peer});
  return kSuccess;
}

EXPORTED int ncclRecv(void* to, std::size_t count, int type, int peer, ncclComm* comm, void* stream) {
  if (depth == 0 || type != 1) return kInvalidUsage;
  checked(comm)->stream = stream;
  received.push_back({comm, to, count, peer});
  return kSuccess;
}

EXPORTED int ncclGroupEnd() {
  depth -= 1;
  if (depth > 0 || received.empty()) return kSuccess;
  // A receive also names its communicator.
  auto* const comm = checked(static_cast<ncclComm*>(const_cast<void*>(received[0].from)));
  void* const stream = comm->stream;
  comm->stream = nullptr;
  const auto work = [outgoing = std::move(sent), incoming = std::move(received)](Group& group) {
    for (const Message& message : outgoing) group.shared->counts[group.rank][message.peer] = message.bytes;
    if (!group.agree(3)) return;
    for (int source = 0; source < group.size; ++source) {
      for (int target = 0; target < group.size; ++target) {
        const void* from = nullptr;
        void* to = nullptr;
        for (const Message& message : outgoing) {
          if (source == group.rank && message.peer == target) from = message.from;
        }
        for (const Message& message : incoming) {
          if (target == group.rank && message.peer == source) to = message.to;
        }
        const std::size_t count = group.shared->counts[source][target];
        const bool met = group.show(from, count, [&](std::size_t offset, std::size_t bytes) {
          if (to != nullptr) std::memcpy(static_cast<char*>(to) + offset, group.shared->pieces[source], bytes);
        });
        if (!met) return;
      }
    }
  };
  sent.clear();
  received.clear();
  return enqueue(comm, stream, work);
}
