#include "addon/diagnostics.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/optimizer.h"
#include "addon/promise.h"
#include "math/scalars.h"

namespace mtadam::addon {
namespace {

using HostCopies = std::vector<std::unique_ptr<HostCopy>>;

const NormState* norms_of(const HostCopies& copies, std::size_t term) {
  return reinterpret_cast<const NormState*>(copies[term]->data());
}

/// n, r, s and the count of skipped norms, each terms × layers, row by row.
void put_norms(double* values, const HostCopies& copies, std::size_t layers) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  const std::size_t pairs = copies.size() * layers;
  double *const n = values, *const r = n + pairs, *const s = r + pairs, *const skipped = s + pairs;
  for (std::size_t at = 0; at < pairs; ++at) {
    const NormState& norm = norms_of(copies, at / layers)[at % layers];
    n[at] = norm.occurred == 0 ? kNone : norm.n;
    r[at] = norm.r;
    s[at] = norm.occurred == kOccurred ? norm.s : kNone;
    skipped[at] = static_cast<double>(norm.skipped);
  }
}

/// Step 3 with the norms of each layer: the index of the term whose norm is the anchor; −1 where it is no term's. A
/// norm of the network's unit that a term only shows counts where the layer is part of the unit: at least two terms
/// reach it.
void put_anchors(double* values, const HostCopies& copies, std::size_t layers, Anchor anchor,
                 std::uint32_t anchor_term) {
  Tables tables{};
  tables.term_count = static_cast<std::uint32_t>(copies.size());
  tables.anchor = anchor;
  tables.anchor_term = anchor_term;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    std::uint32_t reached = 0;
    for (std::uint32_t term = 0; term < tables.term_count; ++term) {
      if (norms_of(copies, term)[layer].occurred == kOccurred) reached += 1;
    }
    const std::uint32_t term = anchor_norm(tables, [&](std::uint32_t candidate) {
                                 const NormState& norm = norms_of(copies, candidate)[layer];
                                 const bool counts =
                                     norm.occurred == kOccurred || (norm.occurred == kShown && reached > 1);
                                 return counts ? norm.n : 0;
                               }).term;
    values[layer] = term == kNoTerm ? -1 : term;
  }
}

/// Each pair of terms twice, from the row of the later one; NaN where there are no rows.
void put_cosines(float* values, const HostCopies& rows, std::size_t terms, std::size_t layers) {
  std::fill_n(values, terms * terms * layers, std::numeric_limits<float>::quiet_NaN());
  for (std::size_t later = 0; later < rows.size(); ++later) {
    const float* const row = reinterpret_cast<const float*>(rows[later]->data());
    for (std::size_t earlier = 0; earlier <= later; ++earlier) {
      std::copy_n(row + earlier * layers, layers, values + (later * terms + earlier) * layers);
      std::copy_n(row + earlier * layers, layers, values + (earlier * terms + later) * layers);
    }
  }
}

}  // namespace

struct Diagnostics::Copies {
  HostCopies norms, cosines;

  void wait() const {
    for (const auto& copy : norms) copy->wait();
    for (const auto& copy : cosines) copy->wait();
  }
};

Napi::Function Diagnostics::define(Napi::Env env) {
  return DefineClass(env, "Diagnostics",
                     {InstanceAccessor<&Diagnostics::is_complete>("isComplete"),
                      InstanceMethod<&Diagnostics::arrive>("arrive"), InstanceMethod<&Diagnostics::read>("read")});
}

Diagnostics::Diagnostics(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Diagnostics>(info) {
  const Optimizer& optimizer = unwrap<Optimizer>(info[0]);
  mtadam::Optimizer& engine = optimizer.get();
  terms_ = engine.options().terms;
  layers_ = engine.layout().layer_count();
  anchor_ = engine.options().anchor;
  anchor_term_ = engine.options().anchor_term;
  device_ = optimizer.device();
  guarded(info.Env(), [&] {
    copies_ = std::make_shared<Copies>(Copies{engine.norms_later(), engine.cosines_later()});
  });
}

Napi::Value Diagnostics::is_complete(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), device_->immediate());
}

// A promise, which rejects as read() throws.
Napi::Value Diagnostics::arrive(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto wait = [copies = copies_, device = device_] {
      if (copies != nullptr) copies->wait();
    };
    return promise_of(info.Env(), std::move(wait), [] {});
  });
}

// (values, cosines | null). Waits, and frees the copies.
void Diagnostics::read(const Napi::CallbackInfo& info) {
  if (copies_ == nullptr) throw coded_error(info.Env(), "STATE", "The diagnostics have been read.");
  double* const values = elements<double>(info[0], (4 * terms_ + 1) * layers_);
  float* const cosines = info[1].IsNull() ? nullptr : elements<float>(info[1], terms_ * terms_ * layers_);
  const std::shared_ptr<Copies> copies = std::move(copies_);
  guarded(info.Env(), [&] { copies->wait(); });
  put_norms(values, copies->norms, layers_);
  put_anchors(values + 4 * terms_ * layers_, copies->norms, layers_, anchor_, anchor_term_);
  if (cosines != nullptr) put_cosines(cosines, copies->cosines, terms_, layers_);
}

}  // namespace mtadam::addon
