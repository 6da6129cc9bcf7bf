#pragma once

#include <napi.h>

#include <memory>

#include "addon/ranges.h"
#include "engine/address_table.h"
#include "engine/optimizer.h"

namespace mtadam::addon {

/// The engine's optimizer as JavaScript holds it.
class Optimizer final : public Napi::ObjectWrap<Optimizer> {
 public:
  static constexpr napi_type_tag kTypeTag = {0x6d74616461640003, 0x6f7074696d697a};
  static Napi::Function define(Napi::Env env);

  /// (device: Device, shape: { lengths: Float64Array, layers: Uint32Array, groups: Uint32Array, groupCount, terms,
  /// summed, amsgrad, mean, nonFinite, cosines, anchor, balance, initialNorm }, sources: (TypedArray | Buffer |
  /// bigint)[], stream: bigint | null). Throws (INVALID_POINTER) where two parameters overlap, with their indices as
  /// `parameters`; (HOST_POINTER, INVALID_POINTER) for an address that the device does not vouch for, with its `index`.
  explicit Optimizer(const Napi::CallbackInfo& info);
  ~Optimizer() override;

  /// Throws (DISPOSED) after dispose().
  mtadam::Optimizer& get() const;
  std::shared_ptr<mtadam::Device> device() const { return device_; }
  const ParameterRanges& ranges() const { return ranges_; }
  /// Throws Error (HOST_POINTER, INVALID_POINTER) unless the device vouches for an address that a gradient lies at.
  void check_gradient(const std::byte* begin, std::size_t bytes);
  /// A table of gradients for the terms that there are now, else throws (STATE).
  AddressTable& table(const Napi::Value& gradients) const;
  /// A whole step, with `values` as step() takes them.
  void replay(const RecordedStep& recorded, const Napi::Value& values);

 private:
  /// The arguments of every call that computes.
  struct CallArguments {
    mtadam::Optimizer& engine;
    const double* values;
  };
  CallArguments begin(const Napi::Value& values);
  static void set_options(const CallArguments& call);

  Napi::Value step(const Napi::CallbackInfo& info);
  void accumulate(const Napi::CallbackInfo& info);
  void update(const Napi::CallbackInfo& info);
  void discard(const Napi::CallbackInfo& info);
  Napi::Value is_accumulated(const Napi::CallbackInfo& info);
  Napi::Value is_idle(const Napi::CallbackInfo& info);
  Napi::Value is_open(const Napi::CallbackInfo& info);
  Napi::Value is_whole(const Napi::CallbackInfo& info);
  Napi::Value term_count(const Napi::CallbackInfo& info);
  Napi::Value group_count(const Napi::CallbackInfo& info);
  Napi::Value completed(const Napi::CallbackInfo& info);
  void add(const Napi::CallbackInfo& info);
  void add_term(const Napi::CallbackInfo& info);
  void remove_term(const Napi::CallbackInfo& info);
  void zero(const Napi::CallbackInfo& info);
  void upload(const Napi::CallbackInfo& info);
  void refresh(const Napi::CallbackInfo& info);
  Napi::Value read_iterations(const Napi::CallbackInfo& info);
  void begin_restore(const Napi::CallbackInfo& info);
  void end_restore(const Napi::CallbackInfo& info);
  Napi::Value synchronize(const Napi::CallbackInfo& info);
  void synchronize_now(const Napi::CallbackInfo& info);
  Napi::Value watch_norms(const Napi::CallbackInfo& info);
  void read_norms(const Napi::CallbackInfo& info);
  void restore_norms(const Napi::CallbackInfo& info);
  void read_clocks(const Napi::CallbackInfo& info);
  void restore_clocks(const Napi::CallbackInfo& info);
  void read_plane(const Napi::CallbackInfo& info);
  void write_plane(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);
  std::uint32_t term(const Napi::Value& value) const;
  std::uint32_t tensor(const Napi::Value& value) const;
  std::byte* addend(const Napi::Value& source, std::size_t bytes, std::uint32_t index, const char* role);
  PlaneRange plane_range(const Napi::Value& start, const Napi::Value& values) const;
  void check_parameter(Napi::Env env, std::uint32_t parameter, const std::byte* begin, std::size_t bytes);
  void account();
  void release();

  std::shared_ptr<mtadam::Device> device_;
  ParameterRanges ranges_{{}};
  KnownRanges known_;
  std::unique_ptr<mtadam::Optimizer> optimizer_;
  std::int64_t bytes_ = 0;
  std::int64_t completed_ = 0;  // steps, once it has been disposed of
};

/// stateBytes(shape): the bytes that an optimizer of this shape allocates on its device.
Napi::Value state_bytes(const Napi::CallbackInfo& info);

}  // namespace mtadam::addon
