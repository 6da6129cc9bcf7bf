#include "addon/state.h"

#include <algorithm>
#include <string>
#include <vector>

#include "addon/arguments.h"
#include "addon/shape.h"
#include "engine/code_plane.h"

namespace mtadam::addon {
namespace {

std::uint32_t term_of(const mtadam::Optimizer& engine, const Napi::Value& value) {
  return index(value, engine.options().terms);
}

/// Arrays with an element per layer.
struct NormArrays {
  double* n;
  std::uint8_t* occurred;
  std::int64_t* skipped;
  std::size_t count;
};

NormArrays norm_arrays(const mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const std::size_t layers = engine.layout().layer_count();
  return {elements<double>(info[1], layers), elements<std::uint8_t>(info[2], layers),
          elements<std::int64_t>(info[3], layers), layers};
}

/// Arrays with an element per parameter.
struct ClockArrays {
  std::int64_t* t;
  double *p1, *p2;
  std::size_t count;
};

ClockArrays clock_arrays(const mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const std::size_t tensors = engine.layout().tensor_count();
  return {elements<std::int64_t>(info[1], tensors), elements<double>(info[2], tensors),
          elements<double>(info[3], tensors), tensors};
}

/// An element per parameter. Only where the network is one unit are there squares.
double* squares_array(const mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  if (!engine.options().form.network) throw coded_error(info.Env(), "STATE", "The optimizer keeps no squares.");
  return elements<double>(info[1], engine.layout().tensor_count());
}

Plane plane_of(const Napi::Value& value) {
  const std::string name = value.ToString();
  if (name == "m") return Plane::m;
  return name == "v" ? Plane::v : Plane::x;
}

/// Throws (LENGTH) unless `count` elements from `first` on are within `length`; returns `first`.
std::uint64_t checked_first(Napi::Env env, double first, std::uint64_t count, std::uint64_t length) {
  // Written so that NaN fails. Lengths are at most 2**40: exact as doubles.
  if (first >= 0 && first + static_cast<double>(count) <= static_cast<double>(length)) {
    return static_cast<std::uint64_t>(first);
  }
  throw coded_error(env, "LENGTH", "A range within the tensor was expected.");
}

/// `unit`: the elements that the range counts as one.
PlaneRange range_of(const mtadam::Optimizer& engine, const Napi::CallbackInfo& info, std::uint32_t unit = 1) {
  const Napi::Object start = info[0].As<Napi::Object>();
  PlaneRange range{};
  range.plane = plane_of(start.Get("plane"));
  range.term = term_of(engine, start.Get("term"));
  range.tensor = index(start.Get("parameter"), engine.layout().tensor_count());
  range.count = element_count(info[1]);
  const double first = start.Get("first").ToNumber();
  const std::uint64_t elements = engine.layout().tensors()[range.tensor].length;
  range.first = checked_first(info.Env(), first, range.count, (elements + unit - 1) / unit);
  return range;
}

/// Throws (LENGTH) unless the range is of whole blocks.
void check_blocks(const mtadam::Optimizer& engine, Napi::Env env, const PlaneRange& range) {
  const std::uint64_t end = range.first + range.count;
  const bool ends = end == engine.layout().tensors()[range.tensor].length || end % kCodeBlock == 0;
  if (range.first % kCodeBlock != 0 || !ends) throw coded_error(env, "LENGTH", "Whole blocks were expected.");
}

/// Throws (LENGTH) unless this rank has the range.
void check_own(const mtadam::Optimizer& engine, Napi::Env env, const PlaneRange& range, std::uint32_t unit = 1) {
  const Slots own = engine.own_elements(range.tensor);
  if (range.first >= own.first / unit && range.first + range.count <= (own.end + unit - 1) / unit) return;
  throw coded_error(env, "LENGTH", "A range of this rank's elements was expected.");
}

/// Codes in a typed array.
std::byte* codes_of(StateType type, const Napi::Value& value, std::size_t count) {
  if (type == StateType::k8bit) return elements<std::byte>(value, count);
  return reinterpret_cast<std::byte*>(elements<std::uint16_t>(value, count));
}

/// The range of codes that a call asks for.
PlaneRange code_range_of(const mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const PlaneRange range = range_of(engine, info, 1);
  if (engine.layout().tensors()[range.tensor].lean) return range;
  throw coded_error(info.Env(), "STATE", "The parameter's moments are float32.");
}

/// The same of exponents.
PlaneRange exponent_range_of(const mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const PlaneRange range = range_of(engine, info, kCodeBlock);
  const bool lean = engine.layout().tensors()[range.tensor].lean;
  if (lean && engine.layout().state_type() == StateType::k8bit) return range;
  throw coded_error(info.Env(), "STATE", "The parameter's moments have no exponents.");
}

/// The tensor of a call, which must have a master.
std::uint32_t mastered(const mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const std::uint32_t tensor = index(info[0], engine.layout().tensor_count());
  const bool narrow = engine.layout().tensors()[tensor].type != ElementType::kFloat32;
  if (narrow && engine.options().form.rounding == Rounding::kMaster) return tensor;
  throw coded_error(info.Env(), "STATE", "The parameter has no master.");
}

MasterRange master_range_of(const mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const std::uint32_t tensor = mastered(engine, info);
  const std::size_t count = element_count(info[2]);
  const std::uint64_t length = engine.layout().tensors()[tensor].length;
  return {tensor, checked_first(info.Env(), info[1].ToNumber(), count, length), count};
}

}  // namespace

void read_norms(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const std::uint32_t term = term_of(engine, info[0]);
  const NormArrays to = norm_arrays(engine, info);
  const std::vector<NormState> norms = engine.norm_states(term);
  for (std::size_t layer = 0; layer < to.count; ++layer) {
    to.n[layer] = norms[layer].n;
    to.occurred[layer] = norms[layer].occurred != 0;
    to.skipped[layer] = static_cast<std::int64_t>(norms[layer].skipped);
  }
}

void restore_norms(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const std::uint32_t term = term_of(engine, info[0]);
  const NormArrays from = norm_arrays(engine, info);
  std::vector<SavedNorm> norms;
  norms.reserve(from.count);
  for (std::size_t layer = 0; layer < from.count; ++layer) {
    norms.push_back({from.n[layer], from.occurred[layer] != 0, static_cast<std::uint64_t>(from.skipped[layer])});
  }
  engine.restore_norms(term, norms);
}

void read_squares(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const std::uint32_t term = term_of(engine, info[0]);
  double* const to = squares_array(engine, info);
  const std::vector<double> squares = engine.squares(term);
  std::copy(squares.begin(), squares.end(), to);
}

void restore_squares(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const std::uint32_t term = term_of(engine, info[0]);
  const double* const from = squares_array(engine, info);
  engine.restore_squares(term, {from, from + engine.layout().tensor_count()});
}

void read_clocks(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const ClockArrays to = clock_arrays(engine, info);
  const std::vector<Clock> clocks = info[0].IsNull() ? engine.shared_clocks() : engine.clocks(term_of(engine, info[0]));
  for (std::size_t k = 0; k < to.count; ++k) {
    to.t[k] = clocks[k].t;
    to.p1[k] = clocks[k].p1;
    to.p2[k] = clocks[k].p2;
  }
}

void restore_clocks(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const ClockArrays from = clock_arrays(engine, info);
  std::vector<SavedClock> clocks;
  clocks.reserve(from.count);
  for (std::size_t k = 0; k < from.count; ++k) clocks.push_back({from.t[k], from.p1[k], from.p2[k]});
  if (info[0].IsNull()) {
    engine.restore_shared_clocks(clocks);
  } else {
    engine.restore_clocks(term_of(engine, info[0]), clocks);
  }
}

void restart_sum(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  engine.restart_sum(index(info[0], engine.layout().tensor_count()));
}

void read_plane(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const PlaneRange range = range_of(engine, info);
  engine.read_plane(range, elements<float>(info[1], range.count));
}

void own_range(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const Slots own = engine.own_elements(index(info[0], engine.layout().tensor_count()));
  double* const to = elements<double>(info[1], 2);
  to[0] = static_cast<double>(own.first);
  to[1] = static_cast<double>(own.end);
}

void read_own_plane(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const PlaneRange range = range_of(engine, info);
  if (engine.layout().tensors()[range.tensor].lean) {
    throw coded_error(info.Env(), "STATE", "The parameter's moments are codes.");
  }
  check_own(engine, info.Env(), range);
  engine.read_own(Stored::kFloats, range, elements<float>(info[1], range.count));
}

void write_plane(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const PlaneRange range = range_of(engine, info);
  if (engine.layout().tensors()[range.tensor].lean) check_blocks(engine, info.Env(), range);
  engine.write_plane(range, elements<float>(info[1], range.count));
}

void read_codes(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const PlaneRange range = code_range_of(engine, info);
  engine.read_stored(Stored::kCodes, range, codes_of(engine.layout().state_type(), info[1], range.count));
}

void read_own_codes(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const PlaneRange range = code_range_of(engine, info);
  check_own(engine, info.Env(), range);
  engine.read_own(Stored::kCodes, range, codes_of(engine.layout().state_type(), info[1], range.count));
}

void write_codes(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const PlaneRange range = code_range_of(engine, info);
  engine.write_stored(Stored::kCodes, range, codes_of(engine.layout().state_type(), info[1], range.count));
}

void read_exponents(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const PlaneRange blocks = exponent_range_of(engine, info);
  engine.read_stored(Stored::kExponents, blocks, elements<std::uint8_t>(info[1], blocks.count));
}

void read_own_exponents(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const PlaneRange blocks = exponent_range_of(engine, info);
  check_own(engine, info.Env(), blocks, kCodeBlock);
  engine.read_own(Stored::kExponents, blocks, elements<std::uint8_t>(info[1], blocks.count));
}

void write_exponents(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const PlaneRange blocks = exponent_range_of(engine, info);
  engine.write_stored(Stored::kExponents, blocks, elements<std::uint8_t>(info[1], blocks.count));
}

void read_master(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const MasterRange range = master_range_of(engine, info);
  engine.read_master(range, elements<float>(info[2], range.count));
}

void read_own_master(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const MasterRange range = master_range_of(engine, info);
  check_own(engine, info.Env(), {Plane::m, 0, range.tensor, range.first, range.count});
  engine.read_own_master(range, elements<float>(info[2], range.count));
}

void write_master(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const MasterRange range = master_range_of(engine, info);
  engine.write_master(range, elements<float>(info[2], range.count));
}

void reset_master(mtadam::Optimizer& engine, const Napi::CallbackInfo& info) {
  const std::uint32_t tensor = mastered(engine, info);
  engine.write_master({tensor, 0, engine.layout().tensors()[tensor].length}, nullptr);
}

void decode_state(const Napi::CallbackInfo& info) {
  const StateType type = state_type_of(info[0]);
  const std::size_t count = element_count(info[4]);
  float* const to = elements<float>(info[4], count);
  guarded(info.Env(), [&] {
    Codes codes(type, count);
    std::copy_n(codes_of(type, info[2], count), count * code_bytes(type), codes.codes());
    if (type == StateType::k8bit) {
      std::copy_n(elements<std::uint8_t>(info[3], code_blocks(count)), code_blocks(count), codes.exponents());
    }
    const std::vector<float> values = codes.decoded(plane_of(info[1]) != Plane::m);
    std::copy(values.begin(), values.end(), to);
  });
}

}  // namespace mtadam::addon
