#include "addon/optimizer.h"

#include <algorithm>
#include <limits>

#include "addon/arguments.h"
#include "addon/device.h"
#include "addon/gradients.h"
#include "addon/promise.h"

namespace mtadam::addon {
namespace {

// How lib/ packs the options of one call into a Float64Array: gradientScale, the weights, then each group.
constexpr std::size_t kGroupValues = 8;

std::size_t values_count(const OptimizerOptions& options) { return 1 + options.terms + options.groups * kGroupValues; }

std::vector<GroupOptions> groups_of(const double* values, const OptimizerOptions& options) {
  std::vector<GroupOptions> groups;
  groups.reserve(options.groups);
  const double* at = values + 1 + options.terms;
  for (std::uint32_t group = 0; group < options.groups; ++group, at += kGroupValues) {
    groups.push_back({at[0], at[1], at[2], at[3], at[4], at[5], at[6] != 0, at[7] != 0});
  }
  return groups;
}

struct Shape {
  std::vector<ParameterShape> parameters;
  OptimizerOptions options;
};

NonFinite non_finite_of(const Napi::Value& value) {
  const std::string name = value.ToString();
  if (name == "skipStep") return NonFinite::kSkipStep;
  return name == "propagate" ? NonFinite::kPropagate : NonFinite::kSkipTerm;
}

// A name, or the index of a term.
void set_anchor(OptimizerOptions& options, const Napi::Value& value) {
  if (value.IsNumber()) {
    options.anchor = Anchor::kTerm;
    options.anchor_term = index(value);
    if (options.anchor_term >= options.terms) throw coded_error(value.Env(), "OPTION", "An index is out of range.");
    return;
  }
  const std::string name = value.ToString();
  options.anchor = name == "max" ? Anchor::kMax : name == "mean" ? Anchor::kMean : Anchor::kFirst;
}

Shape shape_of(const Napi::Value& value) {
  const Napi::Object object = value.As<Napi::Object>();
  const std::size_t count = object.Get("lengths").As<Napi::TypedArray>().ElementLength();
  const double* const lengths = elements<double>(object.Get("lengths"), count);
  const std::uint32_t* const layers = elements<std::uint32_t>(object.Get("layers"), count);
  const std::uint32_t* const groups = elements<std::uint32_t>(object.Get("groups"), count);
  Shape shape;
  shape.options.groups = index(object.Get("groupCount"));
  shape.options.terms = index(object.Get("terms"));
  shape.options.form = {object.Get("summed").ToBoolean(), object.Get("amsgrad").ToBoolean(),
                        object.Get("mean").ToBoolean(), non_finite_of(object.Get("nonFinite")),
                        object.Get("cosines").ToBoolean()};
  set_anchor(shape.options, object.Get("anchor"));
  shape.options.balance = object.Get("balance").ToNumber().DoubleValue();
  shape.options.initial_norm = object.Get("initialNorm").ToNumber().DoubleValue();
  shape.parameters.reserve(count);
  for (std::size_t k = 0; k < count; ++k) {
    // Layers are numbered in order of first appearance, so none can exceed the number of parameters.
    if (layers[k] >= count || groups[k] >= shape.options.groups) {
      throw coded_error(value.Env(), "OPTION", "An index is out of range.");
    }
    shape.parameters.push_back({static_cast<std::uint64_t>(lengths[k]), layers[k], groups[k]});
  }
  return shape;
}

Plane plane_of(const Napi::Value& value) {
  const std::string name = value.ToString();
  if (name == "m") return Plane::m;
  return name == "v" ? Plane::v : Plane::x;
}

}  // namespace

Napi::Function Optimizer::define(Napi::Env env) {
  return DefineClass(env, "Optimizer",
                     {InstanceMethod<&Optimizer::step>("step"),
                      InstanceMethod<&Optimizer::accumulate>("accumulate"),
                      InstanceMethod<&Optimizer::update>("update"),
                      InstanceMethod<&Optimizer::discard>("discard"),
                      InstanceMethod<&Optimizer::is_accumulated>("isAccumulated"),
                      InstanceAccessor<&Optimizer::is_idle>("isIdle"),
                      InstanceAccessor<&Optimizer::is_open>("isOpen"),
                      InstanceAccessor<&Optimizer::is_whole>("isWhole"),
                      InstanceAccessor<&Optimizer::term_count>("termCount"),
                      InstanceAccessor<&Optimizer::group_count>("groupCount"),
                      InstanceAccessor<&Optimizer::completed>("iterations"),
                      InstanceMethod<&Optimizer::add>("add"),
                      InstanceMethod<&Optimizer::add_term>("addTerm"),
                      InstanceMethod<&Optimizer::remove_term>("removeTerm"),
                      InstanceMethod<&Optimizer::zero>("zero"),
                      InstanceMethod<&Optimizer::upload>("upload"),
                      InstanceMethod<&Optimizer::refresh>("refresh"),
                      InstanceMethod<&Optimizer::synchronize>("synchronize"),
                      InstanceMethod<&Optimizer::read_iterations>("readIterations"),
                      InstanceMethod<&Optimizer::begin_restore>("beginRestore"),
                      InstanceMethod<&Optimizer::end_restore>("endRestore"),
                      InstanceMethod<&Optimizer::synchronize_now>("synchronizeNow"),
                      InstanceMethod<&Optimizer::watch_norms>("watchNorms"),
                      InstanceMethod<&Optimizer::read_norms>("readNorms"),
                      InstanceMethod<&Optimizer::restore_norms>("restoreNorms"),
                      InstanceMethod<&Optimizer::read_clocks>("readClocks"),
                      InstanceMethod<&Optimizer::restore_clocks>("restoreClocks"),
                      InstanceMethod<&Optimizer::read_plane>("readPlane"),
                      InstanceMethod<&Optimizer::write_plane>("writePlane"),
                      InstanceMethod<&Optimizer::dispose>("dispose")});
}

Optimizer::Optimizer(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Optimizer>(info) {
  const Napi::Env env = info.Env();
  info.This().As<Napi::Object>().TypeTag(&kTypeTag);
  device_ = unwrap<Device>(info[0]).get();
  stream_of(info[3], *device_);  // calls will come on it
  guarded(env, [&] {
    Shape shape = shape_of(info[1]);
    const Napi::Array sources = info[2].As<Napi::Array>();
    const auto count = static_cast<std::uint32_t>(shape.parameters.size());
    std::vector<float*> addresses(count);
    std::vector<ParameterRanges::Range> ranges;
    ranges.reserve(count);
    for (std::uint32_t k = 0; k < count; ++k) {
      ParameterShape& parameter = shape.parameters[k];
      const std::size_t bytes = parameter.length * sizeof(float);
      const Napi::Value source = sources.Get(k);
      std::byte* const begin = address(source, bytes);
      if (source.IsBigInt()) check_parameter(env, k, begin, bytes);
      parameter.phase = reinterpret_cast<std::uintptr_t>(begin) / sizeof(float) % 4;
      addresses[k] = reinterpret_cast<float*>(begin);
      ranges.push_back({begin, begin + bytes, k});
    }
    // Not before all are checked: memory that the user has freed may become the table's, and pass for an allocation.
    auto table = std::make_unique<AddressTable>(device_, 1, count);
    for (std::uint32_t k = 0; k < count; ++k) table->set(0, k, addresses[k]);
    Layout layout(shape.parameters);
    ranges_ = ParameterRanges(std::move(ranges));
    if (const ParameterRanges::Range* const overlapping = ranges_.first_overlap()) {
      Napi::Error error = coded_error(env, "INVALID_POINTER", "Two parameters overlap.");
      Napi::Array parameters = Napi::Array::New(env, 2);
      parameters.Set(0u, overlapping[0].parameter);
      parameters.Set(1u, overlapping[1].parameter);
      error.Set("parameters", parameters);
      throw error;
    }
    optimizer_ = std::make_unique<mtadam::Optimizer>(device_, std::move(layout), shape.options, std::move(table));
  });
  account();
}

// The error has the parameter's index.
void Optimizer::check_parameter(Napi::Env env, std::uint32_t parameter, const std::byte* begin, std::size_t bytes) {
  try {
    if (bytes > 0) device_->check_range(begin, bytes);
  } catch (const DeviceError&) {
    throw;
  } catch (const Error& error) {
    Napi::Error named = coded_error(env, error.code(), error.what());
    named.Set("index", Napi::Number::New(env, parameter));
    throw named;
  }
}

void Optimizer::check_gradient(const std::byte* begin, std::size_t bytes) {
  if (bytes > 0) known_.check(*device_, begin, bytes);
}

Optimizer::~Optimizer() { release(); }

void Optimizer::release() {
  if (optimizer_ == nullptr) return;
  completed_ = optimizer_->completed();
  optimizer_.reset();
  Napi::MemoryManagement::AdjustExternalMemory(Env(), -bytes_);
}

mtadam::Optimizer& Optimizer::get() const {
  if (optimizer_ == nullptr) throw coded_error(Env(), "DISPOSED", "The optimizer has been disposed of.");
  return *optimizer_;
}

std::uint32_t Optimizer::term(const Napi::Value& value) const {
  const std::uint32_t number = index(value);
  if (number >= get().options().terms) throw coded_error(value.Env(), "OPTION", "An index is out of range.");
  return number;
}

std::uint32_t Optimizer::tensor(const Napi::Value& value) const {
  const std::uint32_t number = index(value);
  if (number >= get().layout().tensor_count()) {
    throw coded_error(value.Env(), "OPTION", "An index is out of range.");
  }
  return number;
}

// Made before a term was added or removed, it would have rows for other terms, too few of them perhaps.
AddressTable& Optimizer::table(const Napi::Value& gradients) const {
  AddressTable& table = unwrap<Gradients>(gradients).table();
  if (table.rows() == get().options().terms && table.columns() == get().layout().tensor_count()) return table;
  throw coded_error(gradients.Env(), "STATE", "`prepare` must be called again: terms have come or gone since.");
}

PlaneRange Optimizer::plane_range(const Napi::Value& start, const Napi::Value& values) const {
  const Napi::Object object = start.As<Napi::Object>();
  PlaneRange range{plane_of(object.Get("plane")), term(object.Get("term")), tensor(object.Get("parameter")), 0, 0};
  const std::uint64_t length = get().layout().tensors()[range.tensor].length;
  const double first = object.Get("first").ToNumber();
  if (!values.IsTypedArray()) throw coded_error(values.Env(), "DTYPE", "A typed array was expected.");
  range.count = values.As<Napi::TypedArray>().ElementLength();
  // Written so that NaN fails. Lengths are at most 2**40: exact as doubles.
  if (!(first >= 0 && first + static_cast<double>(range.count) <= static_cast<double>(length))) {
    throw coded_error(values.Env(), "LENGTH", "A range within the tensor was expected.");
  }
  range.first = static_cast<std::uint64_t>(first);
  return range;
}

Optimizer::CallArguments Optimizer::begin(const Napi::Value& values) {
  mtadam::Optimizer& engine = get();
  return {engine, elements<double>(values, values_count(engine.options()))};
}

void Optimizer::set_options(const CallArguments& call) {
  const OptimizerOptions& options = call.engine.options();
  call.engine.set_groups(groups_of(call.values, options));
  call.engine.set_weights(0, {call.values + 1, call.values + 1 + options.terms});
}

// (gradients, values, stream, stays): `stays` where the gradients' table is the caller's to keep, so that a graph may
// read it. Whether a step was taken, and not only recorded in the graph of a stream that is being captured.
Napi::Value Optimizer::step(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const CallArguments call = begin(info[1]);
  AddressTable& gradients = table(info[0]);
  const Stream stream = handle_of(info[2]);
  const bool stays = info[3].ToBoolean();
  return guarded(env, [&]() -> Napi::Value {
    const bool captured = stays && device_->captures(stream);
    if (!captured) check_stream(env, stream, *device_);
    set_options(call);
    captured ? call.engine.capture(gradients, call.values[0], stream)
             : call.engine.step(gradients, call.values[0], stream);
    return Napi::Boolean::New(env, !captured);
  });
}

// (gradients, values, stream, term): the options of the groups are those of the step's first term.
void Optimizer::accumulate(const Napi::CallbackInfo& info) {
  const CallArguments call = begin(info[1]);
  AddressTable& gradients = table(info[0]);
  const Stream stream = stream_of(info[2], *device_);
  const std::uint32_t number = term(info[3]);
  guarded(info.Env(), [&] {
    if (!call.engine.is_open()) call.engine.set_groups(groups_of(call.values, call.engine.options()));
    call.engine.set_weights(number, {call.values[1 + number]});
    call.engine.accumulate(gradients, number, call.values[0], stream);
  });
}

// (stream)
void Optimizer::update(const Napi::CallbackInfo& info) {
  const Stream stream = stream_of(info[0], *device_);
  guarded(info.Env(), [&] { get().update(stream); });
}

void Optimizer::discard(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { get().discard(); });
}

// (term)
Napi::Value Optimizer::is_accumulated(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), get().is_accumulated(term(info[0])));
}

// One question of every step in place of the two that follow.
Napi::Value Optimizer::is_idle(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), get().is_whole() && !get().is_open());
}

Napi::Value Optimizer::is_open(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), get().is_open());
}

Napi::Value Optimizer::is_whole(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), get().is_whole());
}

Napi::Value Optimizer::term_count(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), get().options().terms);
}

Napi::Value Optimizer::group_count(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), get().options().groups);
}

// Also after dispose().
Napi::Value Optimizer::completed(const Napi::CallbackInfo& info) {
  const std::int64_t completed = optimizer_ == nullptr ? completed_ : optimizer_->completed();
  return Napi::Number::New(info.Env(), static_cast<double>(completed));
}

// (recorded, values)
void Optimizer::replay(const RecordedStep& recorded, const Napi::Value& values) {
  const CallArguments call = begin(values);
  check_stream(Env(), recorded.recording().stream(), *device_);
  guarded(Env(), [&] {
    set_options(call);
    call.engine.replay(recorded, call.values[0]);
  });
}

void Optimizer::add_term(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { get().add_term(); });
  account();
}

// (term)
void Optimizer::remove_term(const Napi::CallbackInfo& info) {
  const std::uint32_t number = term(info[0]);
  if (get().options().terms == 1) throw coded_error(info.Env(), "OPTION", "One term must stay.");
  guarded(info.Env(), [&] { get().remove_term(number); });
  account();
}

// Tells the garbage collector what the optimizer holds now.
void Optimizer::account() {
  const OptimizerOptions& options = get().options();
  const auto bytes = static_cast<std::int64_t>(State::bytes(get().layout(), options.form, options.terms));
  Napi::MemoryManagement::AdjustExternalMemory(Env(), bytes - bytes_);
  bytes_ = bytes;
}

// (gradients, stream)
void Optimizer::zero(const Napi::CallbackInfo& info) {
  AddressTable& gradients = table(info[0]);
  const Stream stream = stream_of(info[1], *device_);
  guarded(info.Env(), [&] { get().zero(gradients, stream); });
}

// (gradients, stream)
void Optimizer::upload(const Napi::CallbackInfo& info) {
  AddressTable& gradients = table(info[0]);
  const Stream stream = stream_of(info[1], *device_);
  guarded(info.Env(), [&] { get().upload(gradients, stream); });
}

// (values, stream)
void Optimizer::refresh(const Napi::CallbackInfo& info) {
  const CallArguments call = begin(info[0]);
  const Stream stream = stream_of(info[1], *device_);
  guarded(info.Env(), [&] {
    set_options(call);
    call.engine.refresh(call.values[0], stream);
  });
}

// (stream, or null)
Napi::Value Optimizer::read_iterations(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Stream stream = info[0].IsBigInt() ? stream_of(info[0], *device_) : device_->default_stream();
    return Napi::Number::New(info.Env(), static_cast<double>(get().iterations(stream)));
  });
}

void Optimizer::begin_restore(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { get().begin_restore(); });
}

// (iterations, complete)
void Optimizer::end_restore(const Napi::CallbackInfo& info) {
  const auto iterations = static_cast<std::int64_t>(info[0].ToNumber().DoubleValue());
  const bool complete = info[1].ToBoolean();
  guarded(info.Env(), [&] { get().end_restore(iterations, complete); });
}

std::byte* Optimizer::addend(const Napi::Value& source, std::size_t bytes, std::uint32_t index, const char* role) {
  std::byte* const begin = address(source, bytes);
  const Napi::Env env = source.Env();
  try {
    if (source.IsBigInt()) check_gradient(begin, bytes);
    if (ranges_.overlap(begin, begin + bytes) < 0) return begin;
    throw Error("INVALID_POINTER", "must not overlap a parameter; got one that does.");
  } catch (const DeviceError&) {
    throw;
  } catch (const Error& error) {
    Napi::Error named = coded_error(env, error.code(), error.what());
    named.Set("index", Napi::Number::New(env, index));
    named.Set("role", Napi::String::New(env, role));
    throw named;
  }
}

// (targets, sources, lengths: Float64Array, stream): target += source, for each pair.
void Optimizer::add(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Array targets = info[0].As<Napi::Array>();
  const Napi::Array sources = info[1].As<Napi::Array>();
  const std::uint32_t count = targets.Length();
  const double* const lengths = elements<double>(info[2], count);
  const Stream stream = stream_of(info[3], *device_);
  guarded(env, [&] {
    std::vector<Addition> additions;
    additions.reserve(count);
    for (std::uint32_t k = 0; k < count; ++k) {
      const auto length = static_cast<std::uint64_t>(lengths[k]);
      const std::size_t bytes = length * sizeof(float);
      std::byte* const target = addend(targets.Get(k), bytes, k, "target");
      const std::byte* const source = addend(sources.Get(k), bytes, k, "source");
      if (target != source && target < source + bytes && source < target + bytes) {
        Napi::Error shifted =
            coded_error(env, "INVALID_POINTER", "must not overlap its source in part; got one that does.");
        shifted.Set("index", Napi::Number::New(env, k));
        throw shifted;
      }
      additions.push_back({reinterpret_cast<float*>(target), reinterpret_cast<const float*>(source), length});
    }
    get().add(additions, stream);
  });
}

// A promise, or undefined where nothing is to wait for.
Napi::Value Optimizer::synchronize(const Napi::CallbackInfo& info) {
  mtadam::Optimizer& engine = get();
  if (device_->immediate()) return info.Env().Undefined();
  return guarded(info.Env(), [&]() -> Napi::Value {
    return promise_of(
        info.Env(), [done = engine.done()] { done->wait(); }, [] {});
  });
}

void Optimizer::synchronize_now(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { get().done()->wait(); });
}

namespace {

/// Where watch_norms puts its values: arrays of terms × layers, row by row.
struct Columns {
  double *n, *r, *s, *skipped;
  std::size_t layers;

  void put(std::size_t term, const NormState* norm_states) const {
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const NormState& norm = norm_states[layer];
      const std::size_t at = term * layers + layer;
      const bool occurred = norm.occurred != 0;
      n[at] = occurred ? norm.n : std::numeric_limits<double>::quiet_NaN();
      r[at] = norm.r;
      s[at] = occurred ? norm.s : std::numeric_limits<double>::quiet_NaN();
      skipped[at] = static_cast<double>(norm.skipped);
    }
  }
};

/// Each pair's cosines twice, from the rows of the later term of the two; NaN where there are no rows.
void put_cosines(float* values, const std::vector<std::unique_ptr<HostCopy>>& rows, std::size_t terms,
                 std::size_t layers) {
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

// (values: Float64Array, cosines: Float32Array | null): n, r, s and the counts of what was skipped, each terms ×
// layers; n and s are NaN where a pair has not occurred. The cosines, terms × terms × layers, are NaN where there are
// none. A promise, or undefined where they are there already.
Napi::Value Optimizer::watch_norms(const Napi::CallbackInfo& info) {
  mtadam::Optimizer& engine = get();
  const std::size_t layers = engine.layout().layer_count();
  const std::size_t terms = engine.options().terms;
  elements<double>(info[0], 4 * terms * layers);
  const bool with_cosines = !info[1].IsNull();
  if (with_cosines) elements<float>(info[1], terms * terms * layers);
  struct Copies {
    std::vector<std::unique_ptr<HostCopy>> norm_states, cosines;
  };
  const auto copies = guarded(info.Env(), [&] {
    return std::make_shared<Copies>(Copies{engine.norms_later(), engine.cosines_later()});
  });
  const auto keep = [](const Napi::Value& array) {
    return std::make_shared<Napi::ObjectReference>(Napi::Persistent(array.As<Napi::Object>()));
  };
  const auto target = keep(info[0]);
  const auto cosines_target = with_cosines ? keep(info[1]) : nullptr;
  const auto finish = [=] {
    const std::size_t count = terms * layers;
    double* const values = elements<double>(target->Value(), 4 * count);
    const Columns columns{values, values + count, values + 2 * count, values + 3 * count, layers};
    for (std::size_t term = 0; term < terms; ++term) {
      columns.put(term, reinterpret_cast<const NormState*>(copies->norm_states[term]->data()));
    }
    if (!with_cosines) return;
    put_cosines(elements<float>(cosines_target->Value(), terms * count), copies->cosines, terms, layers);
  };
  if (device_->immediate()) {
    finish();
    return info.Env().Undefined();
  }
  return promise_of(
      info.Env(),
      [copies, device = device_] {
        for (const auto& copy : copies->norm_states) copy->wait();
        for (const auto& copy : copies->cosines) copy->wait();
      },
      finish);
}

// (term, n: Float64Array, occurred: Uint8Array, skipped: BigInt64Array), a value per layer.
void Optimizer::read_norms(const Napi::CallbackInfo& info) {
  const std::uint32_t number = term(info[0]);
  const std::size_t layers = get().layout().layer_count();
  double* const n = elements<double>(info[1], layers);
  std::uint8_t* const occurred = elements<std::uint8_t>(info[2], layers);
  std::int64_t* const skipped = elements<std::int64_t>(info[3], layers);
  guarded(info.Env(), [&] {
    const std::vector<NormState> norm_states = get().norm_states(number);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      n[layer] = norm_states[layer].n;
      occurred[layer] = norm_states[layer].occurred != 0;
      skipped[layer] = static_cast<std::int64_t>(norm_states[layer].skipped);
    }
  });
}

void Optimizer::restore_norms(const Napi::CallbackInfo& info) {
  const std::uint32_t number = term(info[0]);
  const std::size_t layers = get().layout().layer_count();
  const double* const n = elements<double>(info[1], layers);
  const std::uint8_t* const occurred = elements<std::uint8_t>(info[2], layers);
  const std::int64_t* const skipped = elements<std::int64_t>(info[3], layers);
  guarded(info.Env(), [&] {
    std::vector<SavedNorm> saved;
    saved.reserve(layers);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      saved.push_back({n[layer], occurred[layer] != 0, static_cast<std::uint64_t>(skipped[layer])});
    }
    get().restore_norms(number, saved);
  });
}

// (term | null, t: BigInt64Array, p1: Float64Array, p2: Float64Array), a value per parameter; null: the clock T.
void Optimizer::read_clocks(const Napi::CallbackInfo& info) {
  const std::size_t tensors = get().layout().tensor_count();
  std::int64_t* const t = elements<std::int64_t>(info[1], tensors);
  double* const p1 = elements<double>(info[2], tensors);
  double* const p2 = elements<double>(info[3], tensors);
  guarded(info.Env(), [&] {
    const std::vector<Clock> clocks = info[0].IsNull() ? get().shared_clocks() : get().clocks(term(info[0]));
    for (std::size_t k = 0; k < tensors; ++k) {
      t[k] = clocks[k].t;
      p1[k] = clocks[k].p1;
      p2[k] = clocks[k].p2;
    }
  });
}

void Optimizer::restore_clocks(const Napi::CallbackInfo& info) {
  const std::size_t tensors = get().layout().tensor_count();
  const std::int64_t* const t = elements<std::int64_t>(info[1], tensors);
  const double* const p1 = elements<double>(info[2], tensors);
  const double* const p2 = elements<double>(info[3], tensors);
  guarded(info.Env(), [&] {
    std::vector<SavedClock> saved;
    saved.reserve(tensors);
    for (std::size_t k = 0; k < tensors; ++k) saved.push_back({t[k], p1[k], p2[k]});
    if (info[0].IsNull()) {
      get().restore_shared_clocks(saved);
    } else {
      get().restore_clocks(term(info[0]), saved);
    }
  });
}

// (start: { plane: "m" | "v" | "x", term, parameter, first }, values: Float32Array), as many elements as there are
// values. lib/ asks only for planes that the form has.
void Optimizer::read_plane(const Napi::CallbackInfo& info) {
  const PlaneRange range = plane_range(info[0], info[1]);
  float* const to = elements<float>(info[1], range.count);
  guarded(info.Env(), [&] { get().read_plane(range, to); });
}

void Optimizer::write_plane(const Napi::CallbackInfo& info) {
  const PlaneRange range = plane_range(info[0], info[1]);
  const float* const from = elements<float>(info[1], range.count);
  guarded(info.Env(), [&] { get().write_plane(range, from); });
}

void Optimizer::dispose(const Napi::CallbackInfo&) { release(); }

Napi::Value state_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Shape shape = shape_of(info[0]);
    const Layout layout(shape.parameters);
    const std::size_t bytes = State::bytes(layout, shape.options.form, shape.options.terms);
    return Napi::Number::New(info.Env(), static_cast<double>(bytes));
  });
}

}  // namespace mtadam::addon
