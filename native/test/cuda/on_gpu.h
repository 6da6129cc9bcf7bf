#pragma once

namespace mtadam::test {

/// Every loop of the tests to come is this many times shorter: a checker that watches each access is as much slower.
void divide_rounds(int by);

}  // namespace mtadam::test
