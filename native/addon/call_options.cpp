#include "addon/call_options.h"

#include "addon/arguments.h"

namespace mtadam::addon {
namespace {

constexpr std::size_t kGroupValues = 8;

}  // namespace

CallOptions::CallOptions(const Napi::Value& values, const mtadam::Optimizer& engine)
    : terms_(engine.options().terms), groups_(engine.options().groups) {
  values_ = elements<double>(values, 1 + terms_ + groups_ * kGroupValues);
}

std::vector<double> CallOptions::weights() const { return {values_ + 1, values_ + 1 + terms_}; }

std::vector<GroupOptions> CallOptions::groups() const {
  std::vector<GroupOptions> groups;
  groups.reserve(groups_);
  const double* at = values_ + 1 + terms_;
  for (std::uint32_t group = 0; group < groups_; ++group, at += kGroupValues) {
    groups.push_back({at[0], at[1], at[2], at[3], at[4], at[5], at[6] != 0, at[7] != 0});
  }
  return groups;
}

}  // namespace mtadam::addon
