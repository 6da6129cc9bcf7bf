#pragma once

#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>

#include "test/simt/vector_types.h"

namespace simt {

using Where = std::source_location;

/// The rule of the machine that a kernel broke.
enum class Fault {
  kLaunch,         ///< a grid or block that no device takes
  kBarrier,        ///< a barrier that not all threads of the block reach together
  kWarp,           ///< a warp operation that not all lanes of its mask reach together, or a mask that is wrong
  kSharedMemory,   ///< shared memory over budget or written outside its arrays
  kDeadlock,       ///< every thread waits
  kLivelock,       ///< every thread spins and nothing changes
  kAddress,        ///< an access outside the memory that the kernel may touch
  kAlignment,      ///< an access whose address is not a multiple of its width
  kUninitialised,  ///< a read of shared memory that no thread wrote
  kException,      ///< a C++ exception left the kernel
};

/// A kernel's mistake. what() names it, the place in the source, the block and the thread, and for the mistakes of two
/// threads the other one too.
class Error : public std::runtime_error {
 public:
  Error(Fault fault, const std::string& text, std::string file = "", unsigned line = 0, uint3 block = {},
        uint3 thread = {})
      : std::runtime_error(text), fault_(fault), file_(std::move(file)), line_(line), block_(block), thread_(thread) {}

  Fault fault() const { return fault_; }
  /// The last barrier, warp operation or helper of the thread; the access itself where it is known.
  const std::string& file() const { return file_; }
  unsigned line() const { return line_; }
  uint3 block() const { return block_; }
  uint3 thread() const { return thread_; }

 private:
  Fault fault_;
  std::string file_;
  unsigned line_;
  uint3 block_;
  uint3 thread_;
};

}  // namespace simt
