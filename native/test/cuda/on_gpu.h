#pragma once

namespace mtadam::test {

/// Makes every later loop of the tests this many times shorter, for checkers that slow them down.
void divide_rounds(int by);

}  // namespace mtadam::test
