#pragma once

// In place of the CUDA toolkit's header of this name: the runtime on host memory, and the launch of kernels there.

#include "test/simt/cuda_runtime.h"
#include "test/simt/launch.h"
