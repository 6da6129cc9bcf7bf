#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace mtadam::nccl {

// NCCL's functions and types, of version 2.14 and later.

using Result = int;
constexpr Result kSuccess = 0;
constexpr Result kInProgress = 7;

using DataType = int;
constexpr DataType kUint8 = 1;
constexpr DataType kFloat32 = 7;

using Reduction = int;
constexpr Reduction kSum = 0;

struct ncclComm;
using Comm = ncclComm*;

struct UniqueId {
  char bytes[128];
};

/// The fields of version 2.14. A later library fills in its own.
struct Config {
  std::size_t size = sizeof(Config);
  unsigned magic = 0xcafebeef;
  unsigned version = 21400;
  int blocking = 0;  // calls return at once; get_async_error() tells when they are done
};

struct Api {
  Result (*get_version)(int* version);
  Result (*get_unique_id)(UniqueId* id);
  Result (*comm_init_rank_config)(Comm* comm, int size, UniqueId id, int rank, Config* config);
  Result (*comm_finalize)(Comm comm);
  Result (*comm_destroy)(Comm comm);
  Result (*comm_abort)(Comm comm);
  Result (*comm_get_async_error)(Comm comm, Result* error);
  const char* (*get_error_string)(Result result);
  const char* (*get_last_error)(Comm comm);
  Result (*group_start)();
  Result (*group_end)();
  Result (*all_gather)(const void* from, void* to, std::size_t count, DataType type, Comm comm, void* stream);
  Result (*reduce_scatter)(const void* from, void* to, std::size_t count, DataType type, Reduction reduction, Comm comm,
                           void* stream);
  Result (*send)(const void* from, std::size_t count, DataType type, int rank, Comm comm, void* stream);
  Result (*receive)(void* to, std::size_t count, DataType type, int rank, Comm comm, void* stream);
};

/// Loads the first library that is there. Throws Error (DISTRIBUTED) where none is, or one that is too old.
Api load(const std::vector<std::string>& libraries);

/// "NCCL 2.27.3"
std::string version_of(const Api& api);

}  // namespace mtadam::nccl
