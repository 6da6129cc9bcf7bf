#include "addon/optimizer.h"

#include <utility>
#include <vector>

#include "addon/add_gradients.h"
#include "addon/arguments.h"
#include "addon/communicator.h"
#include "addon/device.h"
#include "addon/gradients.h"
#include "addon/promise.h"
#include "addon/state.h"

namespace mtadam::addon {

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
                      InstanceMethod<&Optimizer::synchronize_now>("synchronizeNow"),
                      InstanceMethod<&Optimizer::read_iterations>("readIterations"),
                      InstanceMethod<&Optimizer::begin_restore>("beginRestore"),
                      InstanceMethod<&Optimizer::end_restore>("endRestore"),
                      InstanceMethod<&Optimizer::on_engine<read_norms>>("readNorms"),
                      InstanceMethod<&Optimizer::on_engine<restore_norms>>("restoreNorms"),
                      InstanceMethod<&Optimizer::on_engine<read_squares>>("readSquares"),
                      InstanceMethod<&Optimizer::on_engine<restore_squares>>("restoreSquares"),
                      InstanceMethod<&Optimizer::on_engine<read_clocks>>("readClocks"),
                      InstanceMethod<&Optimizer::on_engine<restore_clocks>>("restoreClocks"),
                      InstanceMethod<&Optimizer::on_engine<restart_sum>>("restartSum"),
                      InstanceMethod<&Optimizer::on_engine<read_plane>>("readPlane"),
                      InstanceMethod<&Optimizer::on_engine<own_range>>("ownRange"),
                      InstanceMethod<&Optimizer::on_engine<read_own_plane>>("readOwnPlane"),
                      InstanceMethod<&Optimizer::on_engine<write_plane>>("writePlane"),
                      InstanceMethod<&Optimizer::on_engine<read_codes>>("readCodes"),
                      InstanceMethod<&Optimizer::on_engine<read_own_codes>>("readOwnCodes"),
                      InstanceMethod<&Optimizer::on_engine<write_codes>>("writeCodes"),
                      InstanceMethod<&Optimizer::on_engine<read_exponents>>("readExponents"),
                      InstanceMethod<&Optimizer::on_engine<read_own_exponents>>("readOwnExponents"),
                      InstanceMethod<&Optimizer::on_engine<write_exponents>>("writeExponents"),
                      InstanceMethod<&Optimizer::on_engine<read_master>>("readMaster"),
                      InstanceMethod<&Optimizer::on_engine<read_own_master>>("readOwnMaster"),
                      InstanceMethod<&Optimizer::on_engine<write_master>>("writeMaster"),
                      InstanceMethod<&Optimizer::on_engine<reset_master>>("resetMaster"),
                      InstanceMethod<&Optimizer::dispose>("dispose")});
}

template <void (*call)(mtadam::Optimizer&, const Napi::CallbackInfo&)>
void Optimizer::on_engine(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { call(get(), info); });
}

// ---- Construction and disposal ----

Optimizer::Optimizer(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Optimizer>(info) {
  info.This().As<Napi::Object>().TypeTag(&kTypeTag);
  device_ = unwrap<Device>(info[0]).get();
  stream_of(info[3], *device_);  // checks the stream of the calls to come
  guarded(info.Env(), [&] {
    Shape shape = shape_of(info[1]);
    const std::vector<float*> addresses = place_parameters(info[2].As<Napi::Array>(), shape.parameters);
    // After the checks: the table may get device memory that the user has freed, and its address would then pass.
    auto table = std::make_unique<AddressTable>(device_, 1, static_cast<std::uint32_t>(addresses.size()));
    for (std::uint32_t k = 0; k < addresses.size(); ++k) table->set(0, k, addresses[k]);
    optimizer_ = std::make_unique<mtadam::Optimizer>(device_, Layout(shape.parameters, shape.state_type), shape.options,
                                                     std::move(table), sharing_of(info[4]));
  });
  account();
}

// Checks the parameters' memory and returns its addresses. Completes `parameters` with their phases.
std::vector<float*> Optimizer::place_parameters(const Napi::Array& sources, std::vector<ParameterShape>& parameters) {
  const Napi::Env env = sources.Env();
  std::vector<float*> addresses;
  std::vector<ParameterRanges::Range> ranges;
  addresses.reserve(parameters.size());
  ranges.reserve(parameters.size());
  for (std::uint32_t k = 0; k < parameters.size(); ++k) {
    const bool narrow = parameters[k].type != ElementType::kFloat32;
    const std::size_t bytes = parameters[k].length * element_bytes(parameters[k].type);
    const Napi::Value source = sources.Get(k);
    std::byte* const begin = address(source, bytes);
    try {
      if (source.IsBigInt() && bytes > 0) device_->check_range(begin, bytes);
    } catch (const DeviceError&) {
      throw;
    } catch (const Error& error) {
      throw coded_error(env, error, k);
    }
    if (!narrow) parameters[k].phase = reinterpret_cast<std::uintptr_t>(begin) / sizeof(float) % 4;
    addresses.push_back(reinterpret_cast<float*>(begin));
    ranges.push_back({begin, begin + bytes, k});
  }
  ranges_ = ParameterRanges(std::move(ranges));
  if (const ParameterRanges::Range* const overlapping = ranges_.first_overlap()) {
    Napi::Error error = coded_error(env, "INVALID_POINTER", "Two parameters overlap.");
    Napi::Array indices = Napi::Array::New(env, 2);
    indices.Set(0u, overlapping[0].parameter);
    indices.Set(1u, overlapping[1].parameter);
    error.Set("parameters", indices);
    throw error;
  }
  return addresses;
}

Optimizer::~Optimizer() { release(); }

void Optimizer::dispose(const Napi::CallbackInfo&) { release(); }

void Optimizer::release() {
  if (optimizer_ == nullptr) return;
  completed_ = optimizer_->completed();
  optimizer_.reset();
  for (const std::weak_ptr<AddressTable>& made : tables_) {
    if (const std::shared_ptr<AddressTable> table = made.lock()) table->release();
  }
  Napi::MemoryManagement::AdjustExternalMemory(Env(), -bytes_);
}

// Tells the garbage collector how much memory the optimizer keeps.
void Optimizer::account() {
  const OptimizerOptions& options = get().options();
  const std::size_t gathered = get().gathers() ? get().layout().gathered_elements() * sizeof(float) : 0;
  const auto bytes = static_cast<std::int64_t>(State::bytes(get().layout(), options.form, options.terms) + gathered);
  Napi::MemoryManagement::AdjustExternalMemory(Env(), bytes - bytes_);
  bytes_ = bytes;
}

mtadam::Optimizer& Optimizer::get() const {
  if (optimizer_ == nullptr) throw coded_error(Env(), "DISPOSED", "The optimizer has been disposed of.");
  return *optimizer_;
}

// ---- Gradients ----

void Optimizer::check_gradient(const std::byte* begin, std::size_t bytes) {
  if (bytes > 0) known_.check(*device_, begin, bytes);
}

std::shared_ptr<AddressTable> Optimizer::make_table() {
  auto table = std::make_shared<AddressTable>(device_, get().options().terms, get().layout().tensor_count());
  std::erase_if(tables_, [](const std::weak_ptr<AddressTable>& made) { return made.expired(); });
  tables_.push_back(table);
  return table;
}

AddressTable& Optimizer::table(const Napi::Value& gradients) const {
  AddressTable& table = unwrap<Gradients>(gradients).table();
  if (table.rows() == get().options().terms && table.columns() == get().layout().tensor_count()) return table;
  throw coded_error(gradients.Env(), "STATE", "`prepare` must be called again: terms have come or gone since.");
}

void Optimizer::add(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { add_gradients(*this, info); });
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

// ---- Steps ----

namespace {

void set_options(mtadam::Optimizer& engine, const CallOptions& options) {
  engine.set_groups(options.groups());
  engine.set_weights(0, options.weights());
}

}  // namespace

// (gradients, values, stream, stays, reduced): `stays` where the table of gradients outlives the call and keeps its
// addresses, so that a graph may read it. Returns a StepOutcome of lib/addon/native.ts.
Napi::Value Optimizer::step(const Napi::CallbackInfo& info) {
  mtadam::Optimizer& engine = get();
  AddressTable& gradients = table(info[0]);
  const CallOptions options(info[1], engine);
  const Stream stream = handle_of(info[2]);
  const bool stays = info[3].ToBoolean();
  const StepValues values(options.gradient_scale(), info[4].ToBoolean());
  return guarded(info.Env(), [&]() -> Napi::Value {
    const bool captured = stays && device_->is_capturing(stream);
    if (!captured) check_stream(info.Env(), stream, *device_);
    set_options(engine, options);
    captured ? engine.step_in_graph(gradients, options.gradient_scale(), stream)
             : engine.step(gradients, values, stream);
    enum { kCaptured, kTaken, kSkippedATerm };
    return Napi::Number::New(info.Env(), captured ? kCaptured : engine.take_skipped() ? kSkippedATerm : kTaken);
  });
}

// (gradients, values, stream, term, reduced): the first call of a step sets the groups' options for all of it. Returns
// whether the term was skipped somewhere, as far as that is known yet.
Napi::Value Optimizer::accumulate(const Napi::CallbackInfo& info) {
  mtadam::Optimizer& engine = get();
  AddressTable& gradients = table(info[0]);
  const CallOptions options(info[1], engine);
  const Stream stream = stream_of(info[2], *device_);
  const std::uint32_t term = index(info[3], engine.options().terms);
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (!engine.is_open()) engine.set_groups(options.groups());
    engine.set_weights(term, {options.weight(term)});
    const bool gathered = engine.gathers();
    engine.accumulate(gradients, term, {options.gradient_scale(), info[4].ToBoolean()}, stream);
    if (engine.gathers() != gathered) account();
    return Napi::Boolean::New(info.Env(), engine.take_skipped());
  });
}

// (stream): returns what accumulate() did not know yet.
Napi::Value Optimizer::update(const Napi::CallbackInfo& info) {
  const Stream stream = stream_of(info[0], *device_);
  return guarded(info.Env(), [&]() -> Napi::Value {
    get().update(stream);
    return Napi::Boolean::New(info.Env(), get().take_skipped());
  });
}

void Optimizer::discard(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { get().discard(); });
}

// (term)
Napi::Value Optimizer::is_accumulated(const Napi::CallbackInfo& info) {
  const std::uint32_t term = index(info[0], get().options().terms);
  return Napi::Boolean::New(info.Env(), get().is_accumulated(term));
}

// Asked before every step, in place of both questions below.
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

void Optimizer::replay(const mtadam::CapturedStep& step, const Napi::Value& values) {
  mtadam::Optimizer& engine = get();
  const CallOptions options(values, engine);
  check_stream(Env(), step.graph().stream(), *device_);
  guarded(Env(), [&] {
    set_options(engine, options);
    engine.replay(step, options.gradient_scale());
  });
}

// (values, stream)
void Optimizer::refresh(const Napi::CallbackInfo& info) {
  mtadam::Optimizer& engine = get();
  const CallOptions options(info[0], engine);
  const Stream stream = stream_of(info[1], *device_);
  guarded(info.Env(), [&] {
    set_options(engine, options);
    engine.refresh(options.gradient_scale(), stream);
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

// ---- Terms ----

// (name)
void Optimizer::add_term(const Napi::CallbackInfo& info) {
  const std::uint64_t key = name_key_of(info[0]);
  guarded(info.Env(), [&] { get().add_term(key); });
  account();
}

// (term)
void Optimizer::remove_term(const Napi::CallbackInfo& info) {
  const std::uint32_t terms = get().options().terms;
  const std::uint32_t term = index(info[0], terms);
  if (terms == 1) throw coded_error(info.Env(), "OPTION", "One term must stay.");
  guarded(info.Env(), [&] { get().remove_term(term); });
  account();
}

// ---- Waiting ----

// A promise, or undefined where nothing is to wait for. What the ranks exchange is waited for at once.
Napi::Value Optimizer::synchronize(const Napi::CallbackInfo& info) {
  mtadam::Optimizer& engine = get();
  guarded(info.Env(), [&] { engine.settle(); });
  if (device_->immediate()) return info.Env().Undefined();
  return guarded(info.Env(), [&]() -> Napi::Value {
    return promise_of(
        info.Env(),
        [done = engine.done(), collective = engine.collective()] {
          done->wait();
          if (collective != nullptr) collective->check();
        },
        [] {});
  });
}

void Optimizer::synchronize_now(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    get().settle();
    get().done()->wait();
  });
}

}  // namespace mtadam::addon
