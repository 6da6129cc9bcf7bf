#include "engine/state.h"

#include <cstdint>

namespace mtadam {
namespace {

constexpr std::size_t kLine = 64;

// Moment planes that all start at the same offset modulo 4,096 collide in the cache when a loop walks many of them
// at once; starts this many bytes apart cost nothing and took up to 2.4 times off a step of ten terms. An odd
// number of lines, so that 64 planes in a row all start differently.
constexpr std::size_t kStagger = 13 * kLine;
constexpr std::size_t kAliasing = 4096;

std::size_t code_plane_bytes(const Layout& layout) { return layout.code_elements() * code_bytes(layout.state_type()); }

// Hands out places one after another.
class Places {
 public:
  std::size_t take(std::size_t bytes, std::size_t alignment = kLine) {
    end_ = (end_ + alignment - 1) / alignment * alignment;
    const std::size_t place = end_;
    end_ += bytes;
    return place;
  }

  // A plane of float32. `ordinal` numbers the planes that one loop may walk at the same time.
  std::size_t take_plane(std::uint64_t elements, std::size_t ordinal) {
    return take_staggered(elements * sizeof(float), ordinal);
  }

  // The codes of lean tensors and then their exponents; 0 where no tensor is lean.
  std::size_t take_codes(const Layout& layout, std::size_t ordinal) {
    if (layout.code_elements() == 0) return 0;
    const bool exponents = layout.state_type() == StateType::k8bit;
    return take_staggered(code_plane_bytes(layout) + (exponents ? code_blocks(layout.code_elements()) : 0), ordinal);
  }

  // To allocate: places count from the first page that begins in the memory.
  std::size_t bytes() const { return end_ + kAliasing - kLine; }

 private:
  std::size_t take_staggered(std::size_t bytes, std::size_t ordinal) {
    const std::size_t start = ordinal * kStagger % kAliasing;
    end_ += (start + kAliasing - end_ % kAliasing) % kAliasing;
    return take(bytes);
  }

  std::size_t end_ = 0;
};

template <class T>
T* at(const Memory& memory, std::size_t place) {
  const std::size_t past = reinterpret_cast<std::uintptr_t>(memory.data()) % kAliasing;
  return reinterpret_cast<T*>(memory.data() + (kAliasing - past) % kAliasing + place);
}

// Null where the form has no such piece.
template <class T>
T* at_if_any(const Memory& memory, std::size_t place) {
  return place == 0 ? nullptr : at<T>(memory, place);
}

CodePlane codes_at(const Memory& memory, std::size_t place, const Layout& layout) {
  if (place == 0) return {};
  const bool exponents = layout.state_type() == StateType::k8bit;
  return {at<std::byte>(memory, place),
          exponents ? at<std::uint8_t>(memory, place + code_plane_bytes(layout)) : nullptr};
}

template <class SomePlaces>
CodePlanes codes_at(const Memory& memory, const SomePlaces& places, const Layout& layout) {
  return {codes_at(memory, places.m_codes, layout), codes_at(memory, places.v_codes, layout),
          codes_at(memory, places.x_codes, layout)};
}

void start_clocks(Device& device, Clock* clocks, std::size_t count, Stream stream) {
  const std::vector<Clock> fresh(count, Clock{0, 1, 1, 0});
  device.write(clocks, fresh.data(), count * sizeof(Clock), stream);
}

}  // namespace

// Pieces that every form has come first, so that no optional piece starts at offset 0.
TermPlaces::TermPlaces(const Layout& layout, StateForm form, std::size_t ordinal) {
  constexpr std::size_t kPlanes = 3;
  // The shared planes are the first two that a loop walks beside these.
  const std::size_t first = 2 + ordinal * kPlanes;
  Places places;
  norms = places.take(layout.layer_count() * sizeof(NormState));
  clocks = places.take(layout.tensor_count() * sizeof(Clock));
  coefficients = places.take(layout.tensor_count() * sizeof(Coefficients));
  partial = places.take(layout.slot_count() * sizeof(double));
  former_norms = places.take(layout.layer_count() * sizeof(NormState));
  if (keeps_former(form.non_finite, form.network)) {
    former_clocks = places.take(layout.tensor_count() * sizeof(Clock));
  }
  if (form.network) {
    squares = places.take(layout.tensor_count() * sizeof(double));
    former_squares = places.take(layout.tensor_count() * sizeof(double));
    network = places.take(sizeof(NetworkUnit));
  }
  if (form.lagged) lagged_norms = places.take(layout.layer_count() * sizeof(double));
  if (form.cosines) {
    dots = places.take(ordinal * layout.slot_count() * sizeof(double));
    cosines = places.take((ordinal + 1) * layout.layer_count() * sizeof(float));
  }
  if (!form.summed) m = places.take_plane(layout.plane_elements(), first);
  if (!form.one_v) v = places.take_plane(layout.plane_elements(), first + 1);
  if (form.amsgrad && !form.summed) x = places.take_plane(layout.plane_elements(), first + 2);
  if (!form.summed) m_codes = places.take_codes(layout, first);
  if (!form.one_v) v_codes = places.take_codes(layout, first + 1);
  if (form.amsgrad && !form.summed) x_codes = places.take_codes(layout, first + 2);
  bytes = places.bytes();
}

SharedPlaces::SharedPlaces(const Layout& layout, StateForm form) {
  Places places;
  steps = places.take(2 * sizeof(std::uint64_t));
  tickets = places.take(ticket_count(layout) * sizeof(unsigned long long));
  if (form.network) joined = places.take(layout.layer_count() * sizeof(std::uint64_t));
  if (form.network && form.lagged) ahead = places.take(layout.layer_count() * sizeof(std::uint64_t));
  if (form.mean) divisors = places.take(layout.tensor_count() * sizeof(StepDivisor));
  if (form.mean && form.network) former_divisors = places.take(layout.tensor_count() * sizeof(StepDivisor));
  if (form.summed) {
    clocks = places.take(layout.tensor_count() * sizeof(Clock));
    coefficients = places.take(layout.tensor_count() * sizeof(Coefficients));
    opener = places.take(layout.tensor_count() * sizeof(std::uint32_t));
    // discard() takes T back where the moments have not changed yet.
    if (keeps_former(form.non_finite, form.network) || form.one_v) {
      former_clocks = places.take(layout.tensor_count() * sizeof(Clock));
    }
    m = places.take_plane(layout.plane_elements(), 0);
    if (form.amsgrad) x = places.take_plane(layout.plane_elements(), 1);
    if (form.one_v) v = places.take_plane(layout.plane_elements(), 2);
    m_codes = places.take_codes(layout, 0);
    if (form.amsgrad) x_codes = places.take_codes(layout, 1);
    if (form.one_v) v_codes = places.take_codes(layout, 2);
  }
  if (form.rounding == Rounding::kMaster && layout.has_narrow_parameters()) {
    masters = places.take(layout.master_bytes());
  }
  bytes = places.bytes();
}

State::State(Device& device, const Layout& layout, StateForm form, std::size_t terms, Stream stream,
             const std::vector<std::uint64_t>& keys) {
  const SharedPlaces places(layout, form);
  memory_.push_back(device.allocate(places.bytes));
  const Memory& memory = *memory_.back();
  shared_.step = at<std::uint64_t>(memory, places.steps);
  shared_.first_step = shared_.step + 1;
  shared_.tickets = at<unsigned long long>(memory, places.tickets);
  // Clocks that never advanced hold step 0, which must not look like the open one.
  const std::uint64_t steps[] = {1, 1};
  device.write(shared_.step, steps, sizeof steps, stream);
  shared_.clocks = at_if_any<Clock>(memory, places.clocks);
  shared_.former_clocks = at_if_any<Clock>(memory, places.former_clocks);
  shared_.coefficients = at_if_any<Coefficients>(memory, places.coefficients);
  shared_.opener = at_if_any<std::uint32_t>(memory, places.opener);
  shared_.divisors = at_if_any<StepDivisor>(memory, places.divisors);
  shared_.former_divisors = at_if_any<StepDivisor>(memory, places.former_divisors);
  shared_.joined = at_if_any<std::uint64_t>(memory, places.joined);
  shared_.ahead = at_if_any<std::uint64_t>(memory, places.ahead);
  shared_.m = at_if_any<float>(memory, places.m);
  shared_.v = at_if_any<float>(memory, places.v);
  shared_.x = at_if_any<float>(memory, places.x);
  shared_.codes = codes_at(memory, places, layout);
  shared_.masters = at_if_any<std::byte>(memory, places.masters);
  if (form.summed) start_clocks(device, shared_.clocks, layout.tensor_count(), stream);
  for (std::size_t term = 0; term < terms; ++term) {
    add_term(device, layout, form, stream, term < keys.size() ? keys[term] : 0);
  }
}

void State::add_term(Device& device, const Layout& layout, StateForm form, Stream stream, std::uint64_t key) {
  // Both lists grow, or none. By half again at least, as they would by themselves: 65,536 terms may come one by one.
  const auto make_room = [](auto& list) {
    if (list.size() == list.capacity()) list.reserve(list.size() + list.size() / 2 + 1);
  };
  make_room(memory_);
  make_room(terms_);
  const TermPlaces places(layout, form, terms_.size());
  std::unique_ptr<Memory> own = device.allocate(places.bytes);
  const Memory& memory = *own;
  Term term{};
  term.norms = at<NormState>(memory, places.norms);
  term.clocks = at<Clock>(memory, places.clocks);
  term.coefficients = at<Coefficients>(memory, places.coefficients);
  term.partial = at<double>(memory, places.partial);
  term.former_norms = at<NormState>(memory, places.former_norms);
  term.former_clocks = at_if_any<Clock>(memory, places.former_clocks);
  term.squares = at_if_any<double>(memory, places.squares);
  term.former_squares = at_if_any<double>(memory, places.former_squares);
  term.network = at_if_any<NetworkUnit>(memory, places.network);
  term.lagged_norms = at_if_any<double>(memory, places.lagged_norms);
  term.dots = at_if_any<double>(memory, places.dots);
  term.cosines = at_if_any<float>(memory, places.cosines);
  term.m = at_if_any<float>(memory, places.m);
  term.v = at_if_any<float>(memory, places.v);
  term.x = at_if_any<float>(memory, places.x);
  term.codes = codes_at(memory, places, layout);
  term.stream = stream_key(key);
  start_clocks(device, term.clocks, layout.tensor_count(), stream);
  memory_.push_back(std::move(own));
  terms_.push_back(term);
}

void State::remove_term(std::size_t term) {
  const auto offset = static_cast<std::ptrdiff_t>(term);
  terms_.erase(terms_.begin() + offset);
  memory_.erase(memory_.begin() + 1 + offset);
}

void State::make_gathered(Device& device, const Layout& layout) {
  if (gathered_ != nullptr) return;
  Places places;
  const std::size_t place = places.take_plane(layout.gathered_elements(), 3);
  gathered_ = device.allocate(places.bytes());
  shared_.gathered = at<float>(*gathered_, place);
}

std::size_t State::bytes(const Layout& layout, StateForm form, std::size_t terms) {
  std::size_t total = SharedPlaces(layout, form).bytes;
  for (std::size_t term = 0; term < terms; ++term) total += TermPlaces(layout, form, term).bytes;
  return total;
}

}  // namespace mtadam
