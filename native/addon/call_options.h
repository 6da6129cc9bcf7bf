#pragma once

#include <napi.h>

#include <cstdint>
#include <vector>

#include "engine/optimizer.h"

namespace mtadam::addon {

/// The options of one call in the Float64Array that packValues (lib/call-options.ts) fills. Valid until JavaScript runs
/// again.
class CallOptions {
 public:
  /// Throws (DTYPE, LENGTH) unless the array has the options for the terms and groups of this engine.
  CallOptions(const Napi::Value& values, const mtadam::Optimizer& engine);

  double gradient_scale() const { return values_[0]; }
  double weight(std::uint32_t term) const { return values_[1 + term]; }
  std::vector<double> weights() const;
  std::vector<GroupOptions> groups() const;

 private:
  const double* values_;  // gradientScale, the weights, the groups
  std::uint32_t terms_, groups_;
};

}  // namespace mtadam::addon
