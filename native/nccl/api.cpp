#include "nccl/api.h"

#include "engine/errors.h"
#include "engine/shared_library.h"

namespace mtadam::nccl {

#ifdef _WIN32

Api load(const std::vector<std::string>&) { throw Error("DISTRIBUTED", "`connectNccl` must be called on Linux."); }

#else

namespace {

constexpr int kOldestVersion = 21400;

template <class Function>
void find(const SharedLibrary& library, const char* name, Function& function) {
  if (library.set(function, name)) return;
  throw Error("DISTRIBUTED", std::string("The library of NCCL has no ") + name + ".");
}

}  // namespace

Api load(const std::vector<std::string>& libraries) {
  const SharedLibrary library(libraries, RTLD_NOW | RTLD_LOCAL);
  if (!library.is_open()) {
    throw Error("DISTRIBUTED", "NCCL could not be loaded (" + library.reasons() +
                                   "). It comes with the package libnccl2 of NVIDIA's repository for Debian and "
                                   "Ubuntu, and with nvidia-nccl-cu12 or nvidia-nccl-cu13 of PyPI: `library` names the "
                                   "file.");
  }
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
