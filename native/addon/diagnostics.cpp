#include "addon/diagnostics.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/promise.h"

namespace mtadam::addon {
namespace {

using HostCopies = std::vector<std::unique_ptr<HostCopy>>;

/// Where the values of the norms go: blocks of terms × layers, row by row.
struct Blocks {
  Blocks(double* start, std::size_t terms, std::size_t layer_count)
      : n(start),
        r(n + terms * layer_count),
        s(r + terms * layer_count),
        skipped(s + terms * layer_count),
        layers(layer_count) {}

  double *n, *r, *s, *skipped;
  std::size_t layers;

  void put(std::size_t term, const NormState* norms) const {
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const NormState& norm = norms[layer];
      const std::size_t at = term * layers + layer;
      const bool occurred = norm.occurred != 0;
      n[at] = occurred ? norm.n : std::numeric_limits<double>::quiet_NaN();
      r[at] = norm.r;
      s[at] = occurred ? norm.s : std::numeric_limits<double>::quiet_NaN();
      skipped[at] = static_cast<double>(norm.skipped);
    }
  }
};

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

Napi::Value watch_norms(mtadam::Optimizer& engine, std::shared_ptr<mtadam::Device> device,
                        const Napi::CallbackInfo& info) {
  const std::size_t layers = engine.layout().layer_count();
  const std::size_t terms = engine.options().terms;
  const bool with_cosines = !info[1].IsNull();
  elements<double>(info[0], 4 * terms * layers);
  if (with_cosines) elements<float>(info[1], terms * terms * layers);
  struct Copies {
    HostCopies norms, cosines;
  };
  const auto copies = std::make_shared<Copies>(Copies{engine.norms_later(), engine.cosines_later()});
  Napi::ObjectReference cosines_array;
  if (with_cosines) cosines_array = Napi::Persistent(info[1].As<Napi::Object>());
  auto finish = [copies, terms, layers, with_cosines, values = Napi::Persistent(info[0].As<Napi::Object>()),
                 cosines = std::move(cosines_array)] {
    const Blocks blocks(elements<double>(values.Value(), 4 * terms * layers), terms, layers);
    for (std::size_t term = 0; term < terms; ++term) {
      blocks.put(term, reinterpret_cast<const NormState*>(copies->norms[term]->data()));
    }
    if (!with_cosines) return;
    put_cosines(elements<float>(cosines.Value(), terms * terms * layers), copies->cosines, terms, layers);
  };
  if (device->immediate()) {
    finish();
    return info.Env().Undefined();
  }
  auto wait = [copies, device = std::move(device)] {
    for (const auto& copy : copies->norms) copy->wait();
    for (const auto& copy : copies->cosines) copy->wait();
  };
  return promise_of(info.Env(), std::move(wait), std::move(finish));
}

}  // namespace mtadam::addon
