#pragma once

#include <atomic>
#include <cstdint>

namespace mtadam::test {

/// How many allocations by operator new succeed before one fails; negative: none fails. failing_new.cpp replaces the
/// operator in the whole program.
extern std::atomic<std::int64_t> allocations_left;

}  // namespace mtadam::test
