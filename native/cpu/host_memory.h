#pragma once

#include <memory>

#include "engine/device.h"

namespace mtadam {

/// Zeroed, page-aligned memory of the host. Throws Error (OUT_OF_MEMORY).
std::unique_ptr<Memory> allocate_host(std::size_t bytes);

}  // namespace mtadam
