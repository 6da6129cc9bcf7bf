#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "engine/device.h"

namespace mtadam::addon {

/// The memory of the parameters, sorted by address. A gradient must not overlap it.
class ParameterRanges {
 public:
  struct Range {
    const std::byte* begin;
    const std::byte* end;
    std::uint32_t parameter;
  };
  explicit ParameterRanges(std::vector<Range> ranges);

  /// The first of two neighbours that overlap, or null.
  const Range* first_overlap() const;
  /// The parameter that overlaps begin .. end, or −1.
  std::int64_t overlap(const std::byte* begin, const std::byte* end) const;

 private:
  std::vector<Range> ranges_;
};

/// Addresses that the device has vouched for, so that it is asked about each once. Memory that was freed since goes
/// unnoticed: only another query could tell, and not with certainty.
class KnownRanges {
 public:
  /// Throws Error as Device::check_range.
  void check(const Device& device, const std::byte* begin, std::size_t bytes);

 private:
  std::unordered_map<const std::byte*, std::size_t> known_;  // bytes from there on
};

}  // namespace mtadam::addon
