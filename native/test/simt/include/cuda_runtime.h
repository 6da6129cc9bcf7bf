#pragma once

// In place of the CUDA toolkit's header of this name: the device language and the runtime, on the host.

#include "test/simt/cuda_runtime.h"
#include "test/simt/device.h"
