#pragma once

#include <napi.h>

#include <memory>

#include "addon/call_options.h"
#include "addon/ranges.h"
#include "addon/shape.h"
#include "engine/address_table.h"
#include "engine/optimizer.h"

namespace mtadam::addon {

/// JavaScript's handle on the engine's optimizer. Some of its methods are in files of their own: state.h and
/// add_gradients.h.
class Optimizer final : public Napi::ObjectWrap<Optimizer> {
 public:
  static constexpr napi_type_tag kTypeTag = {0x6d74616461640003, 0x6f7074696d697a};
  static Napi::Function define(Napi::Env env);

  /// (device: Device, shape: as shape_of() reads it, sources: (TypedArray | Buffer | bigint)[], stream: bigint | null,
  /// sharing: as sharing_of() reads it).
  /// Throws (INVALID_POINTER) where two parameters overlap, with their indices as `parameters`; (HOST_POINTER,
  /// INVALID_POINTER) for an address that the device does not vouch for, with its `index`.
  explicit Optimizer(const Napi::CallbackInfo& info);
  ~Optimizer() override;

  /// Throws (DISPOSED) after dispose().
  mtadam::Optimizer& get() const;
  std::shared_ptr<mtadam::Device> device() const { return device_; }
  const ParameterRanges& ranges() const { return ranges_; }
  /// Throws Error (HOST_POINTER, INVALID_POINTER) unless the device vouches for the address of a gradient.
  void check_gradient(const std::byte* begin, std::size_t bytes);
  /// A table of gradient addresses, whose memory on the device is freed with the optimizer's, or before.
  std::shared_ptr<AddressTable> make_table();
  /// The table behind `gradients`. Throws (STATE) where terms have come or gone since it was made.
  AddressTable& table(const Napi::Value& gradients) const;
  /// A whole step with the packed options `values`.
  void replay(const mtadam::CapturedStep& step, const Napi::Value& values);

 private:
  Napi::Value step(const Napi::CallbackInfo& info);
  Napi::Value accumulate(const Napi::CallbackInfo& info);
  Napi::Value update(const Napi::CallbackInfo& info);
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
  /// A method that needs nothing but the engine.
  template <void (*call)(mtadam::Optimizer&, const Napi::CallbackInfo&)>
  void on_engine(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  std::vector<float*> place_parameters(const Napi::Array& sources, std::vector<ParameterShape>& parameters);
  void account();
  void release();

  std::shared_ptr<mtadam::Device> device_;
  ParameterRanges ranges_{{}};
  KnownRanges known_;
  std::unique_ptr<mtadam::Optimizer> optimizer_;
  std::vector<std::weak_ptr<AddressTable>> tables_;
  std::int64_t bytes_ = 0;      // that the garbage collector knows of
  std::int64_t completed_ = 0;  // steps, once it has been disposed of
};

}  // namespace mtadam::addon
