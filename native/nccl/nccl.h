#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/collective.h"
#include "engine/device.h"

namespace mtadam::nccl {

/// What the ranks of a communicator have in common: ncclUniqueId.
using Id = std::array<char, 128>;

/// Makes an id, for one communicator. Throws Error (DISTRIBUTED) where the library cannot be loaded or has no network.
Id make_id(const std::vector<std::string>& libraries);

struct Member {
  std::vector<std::string> libraries;  // the first that is there is used
  Id id;
  std::uint32_t rank, size;
  std::shared_ptr<Device> device;
  double timeout;  // seconds
};

/// Waits for the other ranks. A collective that takes longer than the time-out, or fails on another rank, is aborted:
/// work behind it on its stream goes on with undefined values, and every later call throws Error (DISTRIBUTED). All
/// calls but check() come from the thread that opens it. Throws Error (DISTRIBUTED).
std::shared_ptr<Collective> open(const Member& member);

}  // namespace mtadam::nccl
