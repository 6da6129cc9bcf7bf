#pragma once

#include <string>

#include "test/ptx/library.h"

namespace mtadam::test {

/// The kernels that the tests of the CUDA device run here, as nvcc compiled them for this program's architecture.
ptx::Library& kernels_as_ptx();

/// A PTX file of this program's architecture: "update", or with another name what CMakeLists.txt made of it.
std::string ptx_path(const std::string& name);

}  // namespace mtadam::test
