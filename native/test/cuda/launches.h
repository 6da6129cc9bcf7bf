#pragma once

namespace mtadam::test {

/// Blocks of each launch to come by launches.cpp; 0: as many as there are chunks to work on.
void set_grid(unsigned blocks);

}  // namespace mtadam::test
