#include "addon/ranges.h"

#include <algorithm>

namespace mtadam::addon {

ParameterRanges::ParameterRanges(std::vector<Range> ranges) : ranges_(std::move(ranges)) {
  ranges_.erase(std::remove_if(ranges_.begin(), ranges_.end(), [](const Range& r) { return r.begin == r.end; }),
                ranges_.end());
  std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
}

const ParameterRanges::Range* ParameterRanges::first_overlap() const {
  for (std::size_t k = 1; k < ranges_.size(); ++k) {
    if (ranges_[k].begin < ranges_[k - 1].end) return &ranges_[k - 1];
  }
  return nullptr;
}

std::int64_t ParameterRanges::overlap(const std::byte* begin, const std::byte* end) const {
  if (begin == end) return -1;
  // Ranges do not overlap each other, so only the last that begins before `end` can reach past `begin`.
  const auto after = std::lower_bound(ranges_.begin(), ranges_.end(), end,
                                      [](const Range& range, const std::byte* to) { return range.begin < to; });
  if (after == ranges_.begin()) return -1;
  const Range& range = *(after - 1);
  return range.end > begin ? static_cast<std::int64_t>(range.parameter) : -1;
}

// Bounds the table for a program that never uses an address twice.
constexpr std::size_t kMostKnown = std::size_t{1} << 16;

void KnownRanges::check(const Device& device, const std::byte* begin, std::size_t bytes) {
  const auto known = known_.find(begin);
  if (known != known_.end() && known->second >= bytes) return;
  device.check_range(begin, bytes);
  if (known_.size() >= kMostKnown) known_.clear();
  known_[begin] = bytes;
}

}  // namespace mtadam::addon
