#include "nccl/api.h"

#include <cstring>

#include "engine/errors.h"

#ifndef _WIN32
#  include <dlfcn.h>
#endif

namespace mtadam::nccl {

#ifdef _WIN32

Api load(const std::vector<std::string>&) { throw Error("DISTRIBUTED", "`connectNccl` must be called on Linux."); }

#else

namespace {

constexpr int kOldestVersion = 21400;

// It has threads of its own, so that it is never unloaded.
void* open_first(const std::vector<std::string>& names) {
  std::string reasons;
  for (const std::string& name : names) {
    if (void* const handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
    reasons += std::string(reasons.empty() ? "" : "; ") + dlerror();
  }
  throw Error("DISTRIBUTED", "NCCL could not be loaded (" + reasons +
                                 "). It comes with the package libnccl2 of NVIDIA's repository for Debian and Ubuntu, "
                                 "and with nvidia-nccl-cu12 or nvidia-nccl-cu13 of PyPI: `library` names the file.");
}

template <class Function>
void find(void* library, const char* name, Function& function) {
  void* const symbol = dlsym(library, name);
  if (symbol == nullptr) {
    throw Error("DISTRIBUTED", std::string("The library of NCCL has no ") + name + ".");
  }
  std::memcpy(&function, &symbol, sizeof symbol);
}

}  // namespace

Api load(const std::vector<std::string>& libraries) {
  void* const library = open_first(libraries);
  Api api{};
  find(library, "ncclGetVersion", api.get_version);
  int version = 0;
  api.get_version(&version);
  if (version < kOldestVersion) {
    throw Error("DISTRIBUTED", "NCCL 2.14 or newer is needed; got " + version_of(api) + ".");
  }
  find(library, "ncclGetUniqueId", api.get_unique_id);
  find(library, "ncclCommInitRankConfig", api.comm_init_rank_config);
  find(library, "ncclCommFinalize", api.comm_finalize);
  find(library, "ncclCommDestroy", api.comm_destroy);
  find(library, "ncclCommAbort", api.comm_abort);
  find(library, "ncclCommGetAsyncError", api.comm_get_async_error);
  find(library, "ncclGetErrorString", api.get_error_string);
  find(library, "ncclGetLastError", api.get_last_error);
  find(library, "ncclGroupStart", api.group_start);
  find(library, "ncclGroupEnd", api.group_end);
  find(library, "ncclAllGather", api.all_gather);
  find(library, "ncclReduceScatter", api.reduce_scatter);
  find(library, "ncclSend", api.send);
  find(library, "ncclRecv", api.receive);
  return api;
}

#endif

std::string version_of(const Api& api) {
  int version = 0;
  api.get_version(&version);
  // Up to 2.8, the major version counted thousands.
  const int major = version < 10000 ? version / 1000 : version / 10000;
  const int minor = version < 10000 ? version / 100 % 10 : version / 100 % 100;
  return "NCCL " + std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(version % 100);
}

}  // namespace mtadam::nccl
