#include "test/simt/cuda/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "test/simt/sanitizers.h"

namespace simt::cuda {

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kRedZone = Arena::kGranule;
constexpr int kUnset = 0xff;  // a NaN in every floating-point type
constexpr unsigned char kRedZoneByte = 0xa5;

constexpr std::size_t round_up(std::size_t bytes, std::size_t step) { return (bytes + step - 1) / step * step; }

void* reserve(std::size_t bytes, int protection) {
  void* mapped = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  return mapped;
}

/// Of at most two granules.
bool intact(const char* begin, const char* end) {
  static const std::string expected(2 * Arena::kGranule, static_cast<char>(kRedZoneByte));
  return std::memcmp(begin, expected.data(), static_cast<std::size_t>(end - begin)) == 0;
}

/// An allocation with its red zones; the second fills the last granule up.
std::size_t whole(std::size_t bytes) { return kRedZone + round_up(bytes, Arena::kGranule) + kRedZone; }

}  // namespace

Arena::Arena()
    : base_(static_cast<char*>(reserve(kAddresses, PROT_NONE))),
      owners_(
          static_cast<std::uint32_t*>(reserve(kAddresses / kGranule * sizeof(std::uint32_t), PROT_READ | PROT_WRITE))) {
}

Arena::~Arena() {
  unpoison(base_, used_);
  munmap(base_, kAddresses);
  munmap(owners_, kAddresses / kGranule * sizeof(std::uint32_t));
}

Allocation* Arena::allocate(std::size_t bytes, int device) {
  const Range range = take(whole(bytes));
  if (range.bytes == 0) return nullptr;
  const Unwatched unwatched;
  char* const begin = base_ + range.begin;
  char* const data = begin + kRedZone;
  unpoison(begin, range.bytes);
  std::memset(begin, kRedZoneByte, range.bytes);
  std::memset(data, kUnset, bytes);
  poison(begin, range.bytes);
  unpoison(data, bytes);

  if (unused_.empty()) {
    allocations_.push_back(std::make_unique<Allocation>());
    unused_.push_back(static_cast<std::uint32_t>(allocations_.size()));
  }
  const std::uint32_t owner = unused_.back();
  unused_.pop_back();
  own(range, owner);
  Allocation& allocation = *allocations_[owner - 1];
  allocation = {data, bytes, device};
  live_bytes_ += bytes;
  live_.push_back(&allocation);
  return &allocation;
}

void Arena::free(Allocation& allocation) {
  const Range range = end(allocation);
  quarantine_.push_back(range);
  quarantined_ += range.bytes;
  recycle();
}

void Arena::retire(Allocation& allocation) { drop_pages(end(allocation)); }

Arena::Range Arena::end(Allocation& allocation) {
  const Unwatched unwatched;
  allocation.live = false;
  live_bytes_ -= allocation.bytes;
  live_.erase(std::find(live_.begin(), live_.end(), &allocation));
  // An operation still to come may have been given the target of a copy, which stays poisoned until then.
  unpoison(allocation.data, allocation.bytes);
  std::memset(allocation.data, kUnset, allocation.bytes);
  poison(allocation.data, allocation.bytes);
  return {static_cast<std::size_t>(allocation.data - kRedZone - base_), whole(allocation.bytes)};
}

bool Arena::live(const void* address, std::size_t bytes) const {
  if (!contains(address)) return false;
  const Allocation* allocation = find(address);
  return allocation && allocation->live && allocation->holds(address, bytes);
}

const Allocation* Arena::overrun() const {
  if (under_address_sanitizer()) return nullptr;
  for (const Allocation* allocation : live_) {
    const char* data = allocation->data;
    const char* end = data + allocation->bytes;
    const char* last = data - kRedZone + whole(allocation->bytes);
    if (!intact(data - kRedZone, data) || !intact(end, last)) return allocation;
  }
  return nullptr;
}

// ---- Addresses ----

Arena::Range Arena::take(std::size_t bytes) {
  for (auto free = free_.begin(); free != free_.end(); ++free) {
    if (free->second < bytes) continue;
    const Range taken{free->first, bytes};
    const Range rest{free->first + bytes, free->second - bytes};
    free_.erase(free);
    if (rest.bytes > 0) free_.emplace(rest.begin, rest.bytes);
    return taken;
  }
  if (bytes > kAddresses - used_) return {0, 0};
  const Range taken{used_, bytes};
  const std::size_t mapped = round_up(used_, kPage);
  used_ += bytes;
  const std::size_t needed = round_up(used_, kPage);
  if (needed > mapped) mprotect(base_ + mapped, needed - mapped, PROT_READ | PROT_WRITE);
  return taken;
}

void Arena::recycle() {
  // What was freed last stays even where it alone is more.
  const std::size_t fewest = most_quarantined_ == 0 ? 0 : 1;
  while (quarantined_ > most_quarantined_ && quarantine_.size() > fewest) {
    const Range oldest = quarantine_.front();
    quarantine_.pop_front();
    quarantined_ -= oldest.bytes;
    give_back(oldest);
  }
}

void Arena::drop_pages(Range range) {
  const std::size_t first_page = round_up(range.begin, kPage);
  const std::size_t last_page = (range.begin + range.bytes) / kPage * kPage;
  if (last_page > first_page) madvise(base_ + first_page, last_page - first_page, MADV_DONTNEED);
}

void Arena::own(Range range, std::uint32_t owner) {
  std::fill_n(owners_ + range.begin / kGranule, range.bytes / kGranule, owner);
}

void Arena::give_back(Range range) {
  drop_pages(range);
  unused_.push_back(owners_[range.begin / kGranule]);
  own(range, 0);
  auto after = free_.lower_bound(range.begin);
  if (after != free_.end() && range.begin + range.bytes == after->first) {
    range.bytes += after->second;
    after = free_.erase(after);
  }
  if (after != free_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == range.begin) {
      before->second += range.bytes;
      return;
    }
  }
  free_.emplace(range.begin, range.bytes);
}

// ---- Protection ----

void Arena::show() {
  if (shown_++ == 0 && used_ > 0) mprotect(base_, round_up(used_, kPage), PROT_READ | PROT_WRITE);
}

void Arena::hide() {
  if (--shown_ == 0 && used_ > 0) mprotect(base_, round_up(used_, kPage), PROT_NONE);
}

}  // namespace simt::cuda
