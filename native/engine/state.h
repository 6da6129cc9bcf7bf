#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "engine/device.h"
#include "engine/layout.h"

namespace mtadam {

/// The planes and records that the options need.
struct StateForm {
  bool summed = false;   // one first moment M for all terms
  bool amsgrad = false;  // x beside v (with `summed`, one x for all terms)
  bool mean = false;     // the step is the mean of the terms' steps
  NonFinite non_finite = NonFinite::kSkipTerm;
  bool cosines = false;                       // those between the terms' gradients are taken in each step
  bool network = false;                       // the network is one unit
  bool one_v = false;                         // with `summed`: one second moment V for all terms, too
  bool lagged = false;                        // scales are computed from the norms before the step
  Rounding rounding = Rounding::kStochastic;  // of narrow parameters
};

/// Where the pieces of one term lie in its allocation, in bytes. Offsets of pieces that the form does not need
/// are 0; no such piece starts there.
struct TermPlaces {
  TermPlaces(const Layout& layout, StateForm form, std::size_t ordinal);
  std::size_t norms, clocks, coefficients, partial;
  std::size_t former_norms = 0, former_clocks = 0;
  std::size_t squares = 0, former_squares = 0, network = 0, lagged_norms = 0;
  std::size_t dots = 0, cosines = 0;  // with as many earlier terms as `ordinal` says
  std::size_t m = 0, v = 0, x = 0;
  std::size_t m_codes = 0, v_codes = 0, x_codes = 0;
  std::size_t bytes;
};

/// The counters in Shared::tickets.
inline std::size_t ticket_count(const Layout& layout) { return layout.layer_count() + std::size_t{2}; }

/// Offsets as those of a term, for the state that the terms share.
struct SharedPlaces {
  SharedPlaces(const Layout& layout, StateForm form);
  std::size_t steps, tickets;  // step and first_step
  std::size_t clocks = 0, former_clocks = 0, coefficients = 0, opener = 0, divisors = 0;
  std::size_t former_divisors = 0, joined = 0, ahead = 0;
  std::size_t m = 0, v = 0, x = 0;
  std::size_t m_codes = 0, v_codes = 0, x_codes = 0;
  std::size_t masters = 0;
  std::size_t bytes;
};

/// The optimizer's state on a device: one allocation per term and one shared, so that a term can come or go without
/// a copy. Where both moments are summed, terms have no planes, and the plane of G is an allocation of its own. Moments
/// start at 0, clocks at t = 0 and P₁ = P₂ = 1.
class State {
 public:
  /// Writes the initial values on the stream. `keys`: name_key() per term, where the state is lean.
  State(Device& device, const Layout& layout, StateForm form, std::size_t terms, Stream stream = nullptr,
        const std::vector<std::uint64_t>& keys = {});

  const std::vector<Term>& terms() const { return terms_; }
  const Shared& shared() const { return shared_; }

  /// A fresh term after the others.
  void add_term(Device& device, const Layout& layout, StateForm form, Stream stream = nullptr, std::uint64_t key = 0);
  /// Later terms move up. The shared state does not change.
  void remove_term(std::size_t term);
  /// Makes the plane of G, unless it exists.
  void make_gathered(Device& device, const Layout& layout);

  /// Bytes that a state of this form takes, tables and scratch included; without the plane of G.
  static std::size_t bytes(const Layout& layout, StateForm form, std::size_t terms);

 private:
  std::vector<std::unique_ptr<Memory>> memory_;  // shared, then a piece per term
  std::unique_ptr<Memory> gathered_;
  std::vector<Term> terms_;
  Shared shared_{};
};

}  // namespace mtadam
