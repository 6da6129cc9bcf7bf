#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "engine/optimizer.h"

namespace mtadam::addon {

/// Addresses that belong to the parameters, sorted: a gradient must not lie among them.
class ParameterRanges {
 public:
  struct Range {
    const std::byte* begin;
    const std::byte* end;
    std::uint32_t parameter;
  };
  explicit ParameterRanges(std::vector<Range> ranges);

  /// Two neighbours that overlap, or null.
  const Range* first_overlap() const;
  /// The parameter that overlaps begin .. end, or −1.
  std::int64_t overlap(const std::byte* begin, const std::byte* end) const;

 private:
  std::vector<Range> ranges_;
};

/// The engine's optimizer as JavaScript holds it.
class Optimizer final : public Napi::ObjectWrap<Optimizer> {
 public:
  static constexpr napi_type_tag kTypeTag = {0x6d74616461640003, 0x6f7074696d697a};
  static Napi::Function define(Napi::Env env);

  /// (device: Device, shape: { lengths: Float64Array, layers: Uint32Array, groups: Uint32Array, groupCount, terms,
  /// summed, amsgrad, mean, nonFinite, anchor, balance, initialNorm }, sources: (TypedArray | Buffer)[]). Throws
  /// (INVALID_POINTER) where two parameters overlap, with their indices as `parameters`.
  explicit Optimizer(const Napi::CallbackInfo& info);
  ~Optimizer() override;

  /// Throws (DISPOSED) after dispose().
  mtadam::Optimizer& get() const;
  std::shared_ptr<mtadam::Device> device() const { return device_; }
  const ParameterRanges& ranges() const { return ranges_; }

 private:
  void step(const Napi::CallbackInfo& info);
  void accumulate(const Napi::CallbackInfo& info);
  void update(const Napi::CallbackInfo& info);
  void add(const Napi::CallbackInfo& info);
  void read_balances(const Napi::CallbackInfo& info);
  void restore_balances(const Napi::CallbackInfo& info);
  void read_clocks(const Napi::CallbackInfo& info);
  void restore_clocks(const Napi::CallbackInfo& info);
  void read_plane(const Napi::CallbackInfo& info);
  void write_plane(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);
  std::uint32_t term(const Napi::Value& value) const;
  std::uint32_t tensor(const Napi::Value& value) const;
  void release();

  std::shared_ptr<mtadam::Device> device_;
  ParameterRanges ranges_{{}};
  std::unique_ptr<mtadam::Optimizer> optimizer_;
  std::int64_t bytes_ = 0;
};

/// stateBytes(shape): what an optimizer of this shape allocates on its device.
Napi::Value state_bytes(const Napi::CallbackInfo& info);

}  // namespace mtadam::addon
