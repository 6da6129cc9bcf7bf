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

Rounding rounding_of(const Napi::Value& value) {
  const std::string name = value.ToString();
  return name == "master" ? Rounding::kMaster : name == "nearest" ? Rounding::kNearest : Rounding::kStochastic;
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
  options.form = {
      object.Get("summed").ToBoolean(),       object.Get("amsgrad").ToBoolean(), object.Get("mean").ToBoolean(),
      non_finite_of(object.Get("nonFinite")), object.Get("cosines").ToBoolean(), object.Get("network").ToBoolean(),
      object.Get("oneV").ToBoolean(),         object.Get("lagged").ToBoolean(),  rounding_of(object.Get("rounding"))};
  set_anchor(options, object.Get("anchor"));
  options.balance = object.Get("balance").ToNumber().DoubleValue();
  options.initial_norm = object.Get("initialNorm").ToNumber().DoubleValue();
  options.rest = object.Get("rest").ToBoolean();
  bool lossless = false;
  options.seed = object.Get("seed").As<Napi::BigInt>().Uint64Value(&lossless);
  const Napi::Array names = object.Get("termNames").As<Napi::Array>();
  for (std::uint32_t k = 0; k < names.Length(); ++k) options.term_keys.push_back(name_key_of(names.Get(k)));
  return options;
}

}  // namespace

StateType state_type_of(const Napi::Value& value) {
  const std::string name = value.ToString();
  return name == "8bit" ? StateType::k8bit : name == "bfloat16" ? StateType::kBfloat16 : StateType::kFloat32;
}

namespace {

ElementType element_type_of(const Napi::Value& value) {
  const std::string name = value.ToString();
  return name == "float16"    ? ElementType::kFloat16
         : name == "bfloat16" ? ElementType::kBfloat16
                              : ElementType::kFloat32;
}

}  // namespace

Shape shape_of(const Napi::Value& value) {
  const Napi::Object object = value.As<Napi::Object>();
  Shape shape;
  shape.options = options_of(object);
  shape.state_type = state_type_of(object.Get("stateDtype"));
  const Napi::Array names = object.Get("parameterNames").As<Napi::Array>();
  const Napi::Array types = object.Get("dtypes").As<Napi::Array>();
  const Napi::Array gradients = object.Get("gradientDtypes").As<Napi::Array>();
  const std::size_t count = object.Get("lengths").As<Napi::TypedArray>().ElementLength();
  const double* const lengths = elements<double>(object.Get("lengths"), count);
  const std::uint32_t* const layers = elements<std::uint32_t>(object.Get("layers"), count);
  const std::uint32_t* const groups = elements<std::uint32_t>(object.Get("groups"), count);
  shape.parameters.reserve(count);
  for (std::size_t k = 0; k < count; ++k) {
    // Layers are numbered in order of first appearance, so none can exceed the number of parameters.
    if (layers[k] >= count || groups[k] >= shape.options.groups) throw index_error(value.Env());
    shape.parameters.push_back({static_cast<std::uint64_t>(lengths[k]), layers[k], groups[k]});
    const auto at = static_cast<std::uint32_t>(k);
    if (k < names.Length()) shape.parameters.back().key = name_key_of(names.Get(at));
    if (k < types.Length()) shape.parameters.back().type = element_type_of(types.Get(at));
    if (k < gradients.Length()) shape.parameters.back().gradient = element_type_of(gradients.Get(at));
  }
  return shape;
}

Napi::Value state_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Shape shape = shape_of(info[0]);
    Layout layout(shape.parameters, shape.state_type);
    const Sharing sharing = sharing_of(info[1]);
    std::optional<Exchange> exchange;  // restricts the layout to what this rank owns
    if (sharing.collective != nullptr) exchange.emplace(sharing, nullptr, layout);
    const std::size_t bytes = State::bytes(layout, shape.options.form, shape.options.terms);
    return Napi::Number::New(info.Env(), static_cast<double>(bytes));
  });
}

}  // namespace mtadam::addon
