#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/collective.h"
#include "math/state_codes.h"

namespace mtadam {

/// 64-bit FNV-1a of the bytes of values.
class Hash {
 public:
  template <class T>
  Hash& add(const T& value) {
    return add(&value, sizeof value);
  }
  Hash& add(const void* bytes, std::size_t count) {
    value_ = fnv1a(bytes, count, value_);
    return *this;
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = kFnvStart;
};

/// What a rank says of a call, for comparison with the other ranks.
struct Agreement {
  std::string call;         // its name, at most 31 bytes
  std::uint64_t optimizer;  // a hash of what the optimizer is
  std::uint64_t values;     // a hash of what the call is given
};

/// To be called before anything else is exchanged. `version`: of the package, of which 63 bytes are compared. Throws
/// Error (DISTRIBUTED) on every rank unless all ranks have the same one.
void agree_on_version(Collective& collective, const std::string& version);

/// Throws Error (DISTRIBUTED) on every rank unless all ranks make this call with equal values.
void agree(Collective& collective, const Agreement& own);

/// Throws Error (DISTRIBUTED) on every rank unless all ranks have the same parameters. `hash`: of this rank's.
void compare_parameters(Collective& collective, std::uint64_t hash);

}  // namespace mtadam
