#pragma once

namespace mtadam::test {

/// Blocks of each later launch by launches.cpp; 0: as many as there are chunks.
void set_grid(unsigned blocks);

}  // namespace mtadam::test
