#pragma once

#include <string>

#include "cuda/cuda.h"

namespace mtadam::cuda {

/// Throws Error (DRIVER) where there is no driver or one that is older than the runtime needs.
void check_driver();

/// Throws Error (NO_DEVICE, DRIVER) unless there is such a device and this build runs on it. Touches no device.
void check_index(int index);

}  // namespace mtadam::cuda
