#include "engine/state.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "counting_device.h"
#include "cpu/cpu_device.h"

namespace mtadam {
namespace {

using test::CountingDevice;

std::vector<StateForm> all_forms() {
  std::vector<StateForm> forms;
  for (unsigned bits = 0; bits < 128; ++bits) {
    const NonFinite non_finite = (bits & 8) != 0 ? NonFinite::kSkipStep : NonFinite::kSkipTerm;
    forms.push_back({(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, non_finite, (bits & 16) != 0, (bits & 32) != 0,
                     false, (bits & 64) != 0});
    if (!forms.back().summed) continue;
    forms.push_back(forms.back());
    forms.back().one_v = true;
  }
  return forms;
}
const std::vector<StateForm> kForms = all_forms();

std::string name_of(StateForm form) {
  return std::string(form.one_v    ? "both summed"
                     : form.summed ? "summed"
                                   : "per term") +
         (form.amsgrad ? ", amsgrad" : "") + (form.mean ? ", mean" : "") +
         (form.non_finite == NonFinite::kSkipStep ? ", skips steps" : "") + (form.cosines ? ", cosines" : "") +
         (form.network ? ", network" : "") + (form.lagged ? ", lagged" : "");
}

Layout some_layout() { return Layout({{5000, 0, 0}, {0, 1, 0}, {33, 0, 0}, {4096, 2, 0}}); }

struct Piece {
  const std::byte* start;
  std::size_t bytes;
};

template <class T>
void collect(std::vector<Piece>& pieces, const T* start, std::size_t count) {
  if (start != nullptr && count > 0) pieces.push_back({reinterpret_cast<const std::byte*>(start), count * sizeof(T)});
}

std::vector<Piece> planes_of(const State& state, const Layout& layout) {
  std::vector<Piece> planes;
  collect(planes, state.shared().m, layout.plane_elements());
  collect(planes, state.shared().v, layout.plane_elements());
  collect(planes, state.shared().gathered, layout.plane_elements());
  collect(planes, state.shared().x, layout.plane_elements());
  for (const Term& term : state.terms()) {
    for (const float* plane : {term.m, term.v, term.x}) collect(planes, plane, layout.plane_elements());
  }
  return planes;
}

std::vector<Piece> records_of(const State& state, const Layout& layout) {
  std::vector<Piece> records;
  const Shared& shared = state.shared();
  collect(records, shared.step, 1);
  collect(records, shared.tickets, layout.layer_count() + 2);
  collect(records, shared.divisors, layout.tensor_count());
  collect(records, shared.clocks, layout.tensor_count());
  collect(records, shared.former_clocks, layout.tensor_count());
  collect(records, shared.coefficients, layout.tensor_count());
  collect(records, shared.opener, layout.tensor_count());
  collect(records, shared.joined, layout.layer_count());
  collect(records, shared.former_divisors, layout.tensor_count());
  for (std::size_t earlier = 0; earlier < state.terms().size(); ++earlier) {
    const Term& term = state.terms()[earlier];
    collect(records, term.dots, earlier * layout.chunks().size());
    collect(records, term.cosines, (earlier + 1) * layout.layer_count());
    collect(records, term.norms, layout.layer_count());
    collect(records, term.clocks, layout.tensor_count());
    collect(records, term.coefficients, layout.tensor_count());
    collect(records, term.partial, layout.chunks().size());
    collect(records, term.former_norms, layout.layer_count());
    collect(records, term.former_clocks, layout.tensor_count());
    collect(records, term.squares, layout.tensor_count());
    collect(records, term.former_squares, layout.tensor_count());
    collect(records, term.network, 1);
    collect(records, term.lagged_norms, layout.layer_count());
  }
  return records;
}

TEST(State, HasThePiecesOfItsFormAndNoOthers) {
  CpuDevice device(1);
  const Layout layout = some_layout();
  for (const StateForm form : kForms) {
    SCOPED_TRACE(name_of(form));
    const State state(device, layout, form, 3);
    ASSERT_EQ(state.terms().size(), 3u);
    const bool rolls_back = form.network || form.non_finite == NonFinite::kSkipStep;
    for (const Term& term : state.terms()) {
      EXPECT_EQ(term.m != nullptr, !form.summed);
      EXPECT_EQ(term.v != nullptr, !form.one_v);
      EXPECT_EQ(term.x != nullptr, form.amsgrad && !form.summed);
      EXPECT_NE(term.former_norms, nullptr);
      EXPECT_EQ(term.former_clocks != nullptr, rolls_back);
      EXPECT_EQ(term.squares != nullptr, form.network);
      EXPECT_EQ(term.former_squares != nullptr, form.network);
      EXPECT_EQ(term.network != nullptr, form.network);
      EXPECT_EQ(term.lagged_norms != nullptr, form.lagged);
      EXPECT_EQ(term.dots != nullptr, form.cosines);
      EXPECT_EQ(term.cosines != nullptr, form.cosines);
    }
    EXPECT_EQ(state.shared().m != nullptr, form.summed);
    EXPECT_EQ(state.shared().v != nullptr, form.one_v);
    EXPECT_EQ(state.shared().gathered, nullptr);
    EXPECT_EQ(state.shared().x != nullptr, form.amsgrad && form.summed);
    EXPECT_EQ(state.shared().clocks != nullptr, form.summed);
    EXPECT_EQ(state.shared().former_clocks != nullptr, form.one_v || (form.summed && rolls_back));
    EXPECT_EQ(state.shared().joined != nullptr, form.network);
    EXPECT_EQ(state.shared().divisors != nullptr, form.mean);
  }
}

TEST(State, OverlapsNoPieces) {
  CpuDevice device(1);
  const Layout layout = some_layout();
  for (const StateForm form : kForms) {
    SCOPED_TRACE(name_of(form));
    State state(device, layout, form, 12);
    if (form.one_v) state.make_gathered(device, layout);
    std::vector<Piece> pieces = records_of(state, layout);
    for (const Piece& plane : planes_of(state, layout)) {
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(plane.start) % 64, 0u);
      // Every plane can be written; otherwise a sanitizer or a fault tells.
      std::memset(const_cast<std::byte*>(plane.start), 1, plane.bytes);
      pieces.push_back(plane);
    }
    std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.start < b.start; });
    for (std::size_t k = 1; k < pieces.size(); ++k) {
      EXPECT_GE(pieces[k].start, pieces[k - 1].start + pieces[k - 1].bytes);
    }
  }
}

// The cache lines of planes that start at the same offset modulo 4,096 collide.
TEST(State, StartsEachPlaneOnAnotherLineOfAPage) {
  CpuDevice device(1);
  for (const std::uint64_t length : {1, 16, 1024, 5000, 65536}) {
    const Layout layout({{length, 0, 0}});
    for (const StateForm form : kForms) {
      SCOPED_TRACE(name_of(form) + ", " + std::to_string(length));
      State state(device, layout, form, 12);
      if (form.one_v) state.make_gathered(device, layout);
      const std::vector<Piece> planes = planes_of(state, layout);
      std::set<std::uintptr_t> lines;
      for (const Piece& plane : planes) lines.insert(reinterpret_cast<std::uintptr_t>(plane.start) % 4096 / 64);
      EXPECT_EQ(lines.size(), planes.size());
    }
  }
}

TEST(State, TakesTheBytesItAnnouncesAndLittleMoreThanItsPlanes) {
  const Layout layout({{1'000'000, 0, 0}, {3, 1, 0}});
  for (const StateForm form : kForms) {
    for (const std::size_t terms : {1u, 3u, 12u}) {
      SCOPED_TRACE(name_of(form) + ", " + std::to_string(terms) + " terms");
      CountingDevice device;
      const State state(device, layout, form, terms);
      const std::size_t bytes = State::bytes(layout, form, terms);
      EXPECT_EQ(device.allocated(), bytes);
      const std::vector<Piece> pieces = planes_of(state, layout);
      std::size_t needed = 0;
      for (const Piece& piece : pieces) needed += piece.bytes;
      for (const Piece& piece : records_of(state, layout)) needed += (piece.bytes + 63) / 64 * 64;  // whole cache lines
      EXPECT_GE(bytes, needed);
      EXPECT_LE(bytes, needed + (pieces.size() + terms + 1) * 4096) << "a page of staggering per plane is enough";
    }
  }
}

TEST(State, MakesThePlaneOfTheSumOnce) {
  const Layout layout({{1'000'000, 0, 0}, {3, 1, 0}});
  StateForm form{true};
  form.one_v = true;
  CountingDevice device;
  State state(device, layout, form, 3);
  const std::size_t before = device.allocated();
  state.make_gathered(device, layout);
  const float* const gathered = state.shared().gathered;
  ASSERT_NE(gathered, nullptr);
  const std::size_t plane = layout.plane_elements() * sizeof(float), taken = device.allocated() - before;
  EXPECT_GE(taken, plane);
  EXPECT_LE(taken, plane + 2 * 4096);
  state.make_gathered(device, layout);
  EXPECT_EQ(state.shared().gathered, gathered);
  EXPECT_EQ(device.allocated(), before + taken);
}

TEST(State, HasRoomForTheCosinesOfATermAddedAfterAnotherLeft) {
  CpuDevice device(1);
  const Layout layout = some_layout();
  const StateForm form{false, false, false, NonFinite::kSkipTerm, true};
  State state(device, layout, form, 3);
  state.remove_term(0);
  state.add_term(device, layout, form);
  // Otherwise a sanitizer tells.
  for (const Piece& record : records_of(state, layout)) {
    std::memset(const_cast<std::byte*>(record.start), 1, record.bytes);
  }
}

TEST(State, CountsBytesBeyondThirtyTwoBits) {
  constexpr std::uint64_t kHuge = std::uint64_t{1} << 33;
  const Layout layout({{7, 0, 0}, {kHuge, 1, 0}});
  const std::size_t bytes = State::bytes(layout, {false, true}, 3);
  const std::size_t planes = 9 * (kHuge + 16) * sizeof(float);
  EXPECT_GE(bytes, planes);
  EXPECT_LE(bytes, planes + planes / 1000) << "partial sums and records are a small part";
  const TermPlaces places(layout, {false, true}, 2);
  EXPECT_GE(places.v, places.m + kHuge * sizeof(float));
  EXPECT_GE(places.x, places.v + kHuge * sizeof(float));
}

TEST(State, StartsAtZeroWithClocksThatNeverAdvanced) {
  CpuDevice device(1);
  const Layout layout = some_layout();
  for (const StateForm form : kForms) {
    SCOPED_TRACE(name_of(form));
    const State state(device, layout, form, 2);
    std::vector<const Clock*> clocks{state.terms()[0].clocks, state.terms()[1].clocks};
    if (form.summed) clocks.push_back(state.shared().clocks);
    for (const Clock* clock : clocks) {
      for (std::uint32_t tensor = 0; tensor < layout.tensor_count(); ++tensor) {
        EXPECT_EQ(clock[tensor].t, 0);
        EXPECT_EQ(clock[tensor].p1, 1);
        EXPECT_EQ(clock[tensor].p2, 1);
        EXPECT_NE(clock[tensor].step, *state.shared().step);
      }
    }
    for (const Piece& plane : planes_of(state, layout)) {
      EXPECT_TRUE(std::all_of(plane.start, plane.start + plane.bytes, [](std::byte b) { return b == std::byte{0}; }));
    }
    EXPECT_EQ(state.terms()[1].norms[0].occurred, 0u);
  }
}

}  // namespace
}  // namespace mtadam
