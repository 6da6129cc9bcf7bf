#include "addon/shape.h"

#include <optional>
#include <string>

#include "addon/arguments.h"
#include "addon/communicator.h"

namespace mtadam::addon {
namespace {

NonFinite non_finite_of(const Napi::Value& value) {
  const std::string name = value.ToString();
  if (name == "skipStep") return NonFinite::kSkipStep;
  if (name == "skipElement") return NonFinite::kSkipElement;
  return name == "propagate" ? NonFinite::kPropagate : NonFinite::kSkipTerm;
}

// A name, or the index of a term.
void set_anchor(OptimizerOptions& options, const Napi::Value& value) {
  if (value.IsNumber()) {
    options.anchor = Anchor::kTerm;
    options.anchor_term = index(value, options.terms);
    return;
  }
  const std::string name = value.ToString();
  options.anchor = name == "max" ? Anchor::kMax : name == "mean" ? Anchor::kMean : Anchor::kFirst;
}

OptimizerOptions options_of(const Napi::Object& object) {
  OptimizerOptions options;
  options.groups = number(object.Get("groupCount"));
  options.terms = number(object.Get("terms"));
  options.form = {object.Get("summed").ToBoolean(),  object.Get("amsgrad").ToBoolean(),
                  object.Get("mean").ToBoolean(),    non_finite_of(object.Get("nonFinite")),
                  object.Get("cosines").ToBoolean(), object.Get("network").ToBoolean(),
                  object.Get("oneV").ToBoolean(),    object.Get("lagged").ToBoolean()};
  set_anchor(options, object.Get("anchor"));
  options.balance = object.Get("balance").ToNumber().DoubleValue();
  options.initial_norm = object.Get("initialNorm").ToNumber().DoubleValue();
  options.rest = object.Get("rest").ToBoolean();
  return options;
}

}  // namespace

Shape shape_of(const Napi::Value& value) {
  const Napi::Object object = value.As<Napi::Object>();
  Shape shape;
  shape.options = options_of(object);
  const std::size_t count = object.Get("lengths").As<Napi::TypedArray>().ElementLength();
  const double* const lengths = elements<double>(object.Get("lengths"), count);
  const std::uint32_t* const layers = elements<std::uint32_t>(object.Get("layers"), count);
  const std::uint32_t* const groups = elements<std::uint32_t>(object.Get("groups"), count);
  shape.parameters.reserve(count);
  for (std::size_t k = 0; k < count; ++k) {
    // Layers are numbered in order of first appearance, so none can exceed the number of parameters.
    if (layers[k] >= count || groups[k] >= shape.options.groups) throw index_error(value.Env());
    shape.parameters.push_back({static_cast<std::uint64_t>(lengths[k]), layers[k], groups[k]});
  }
  return shape;
}

Napi::Value state_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Shape shape = shape_of(info[0]);
    Layout layout(shape.parameters);
    const Sharing sharing = sharing_of(info[1]);
    std::optional<Exchange> exchange;  // restricts the layout to what this rank owns
    if (sharing.collective != nullptr) exchange.emplace(sharing, nullptr, layout);
    const std::size_t bytes = State::bytes(layout, shape.options.form, shape.options.terms);
    return Napi::Number::New(info.Env(), static_cast<double>(bytes));
  });
}

}  // namespace mtadam::addon
