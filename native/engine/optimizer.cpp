#include "engine/optimizer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "engine/code_plane.h"
#include "engine/errors.h"
#include "engine/float_environment.h"
#include "math/lane_sum.h"
#include "math/moments.h"
#include "math/scalars.h"

namespace mtadam {
namespace {

GroupElements elements_of(const GroupOptions& group) {
  const double decay = group.weight_decay;
  return {
      static_cast<float>(group.beta1),
      static_cast<float>(1 - group.beta1),
      static_cast<float>(group.beta2),
      static_cast<float>(1 - group.beta2),
      static_cast<float>(group.eps),
      group.decoupled ? 0.0f : static_cast<float>(decay),
      group.decoupled ? static_cast<float>(group.lr * decay) : 0.0f,
  };
}

template <class T>
T* to_device(Device& device, std::vector<std::unique_ptr<Memory>>& memory, const std::vector<T>& values,
             Stream stream) {
  memory.push_back(device.allocate(values.size() * sizeof(T)));
  T* const place = reinterpret_cast<T*>(memory.back()->data());
  device.write(place, values.data(), values.size() * sizeof(T), stream);
  return place;
}

}  // namespace

/// The arrays with an entry per term: the table of terms and the values of a step.
struct Optimizer::TermTables {
  Places places{};
  std::vector<std::byte> values;
  std::vector<bool> accumulated, known;
  std::unique_ptr<Memory> values_memory;
  std::unique_ptr<Memory> terms_memory;
};

Optimizer::Optimizer(std::shared_ptr<Device> device, Layout layout, const OptimizerOptions& options,
                     std::unique_ptr<AddressTable> parameters, Sharing sharing)
    : device_(std::move(device)),
      layout_(std::move(layout)),
      exchange_(sharing.collective == nullptr ? nullptr
                                              : std::make_unique<Exchange>(std::move(sharing), device_, layout_)),
      options_(options),
      stream_(device_->default_stream()),
      state_(*device_, layout_, options.form, options.terms, stream_, options.term_keys),
      parameters_(std::move(parameters)),
      left_(device_->make_event()) {
  tables_.tensors = to_device(*device_, memory_, layout_.tensors(), stream_);
  tables_.chunks = to_device(*device_, memory_, layout_.chunks(), stream_);
  tables_.layers = to_device(*device_, memory_, layout_.layers(), stream_);
  tables_.members = to_device(*device_, memory_, layout_.members(), stream_);
  tables_.parameters = parameters_->on_device(0, 1, stream_);
  tables_.empty_layers = to_device(*device_, memory_, layout_.empty_layers(), stream_);
  tables_.shared = state_.shared();
  for (const Chunk& chunk : layout_.chunks()) {
    tables_.element_count += elements_of_chunk(layout_.tensors()[chunk.tensor].length, chunk.index);
  }
  for (const Layer& layer : layout_.layers()) largest_layer_ = std::max(largest_layer_, layer.members);
  tables_.chunk_count = layout_.chunks().size();
  tables_.slot_count = layout_.slot_count();
  tables_.tensor_count = layout_.tensor_count();
  tables_.layer_count = layout_.layer_count();
  tables_.empty_layer_count = static_cast<std::uint32_t>(layout_.empty_layers().size());
  tables_.summed = options.form.summed;
  tables_.one_v = options.form.one_v;
  tables_.amsgrad = options.form.amsgrad;
  tables_.cosines = options.form.cosines;
  tables_.network = options.form.network;
  tables_.lagged = options.form.lagged;
  tables_.rest = options.rest;
  tables_.non_finite = options.form.non_finite;
  tables_.anchor = options.anchor;
  tables_.anchor_term = options.anchor_term;
  tables_.initial_norm = options.initial_norm;
  tables_.balance = options.balance;
  tables_.state_type = layout_.state_type();
  tables_.rounding = options.form.rounding;
  tables_.seed = options.seed;
  const auto has_narrow = [](const Tensor& tensor) { return tensor.gradient != ElementType::kFloat32; };
  tables_.narrow = std::any_of(layout_.tensors().begin(), layout_.tensors().end(), has_narrow);
  summed_tensors_ = tables_.tensors;
  if (exchange_ != nullptr && tables_.narrow) {
    std::vector<Tensor> wide = layout_.tensors();
    for (Tensor& tensor : wide) tensor.gradient = ElementType::kFloat32;
    summed_tensors_ = to_device(*device_, memory_, wide, stream_);
  }
  tables_.narrow_parameters = layout_.has_narrow_parameters();
  if (shares_state()) place_halves();
  adopt(make_tables(state_.terms(), stream_));
  left_->record(stream_);
  if (exchange_ != nullptr) agree_on("new MTAdam", Hash());
}

void Optimizer::place_halves() {
  std::vector<Layer> endless = layout_.layers();
  for (Layer& layer : endless) layer.slots = std::uint64_t{1} << 60;  // tickets are counted on for ever
  std::vector<std::uint32_t> all(layout_.layer_count());
  std::iota(all.begin(), all.end(), 0u);
  halves_.endless_layers = to_device(*device_, memory_, endless, stream_);
  halves_.tickets = to_device(*device_, memory_, std::vector<unsigned long long>(layout_.layer_count()), stream_);
  halves_.all_layers = to_device(*device_, memory_, all, stream_);
}

// For calls whose gradients are sums over all ranks: those are float32.
Tables Optimizer::with_sums() const {
  Tables tables = tables_;
  tables.tensors = summed_tensors_;
  tables.narrow = false;
  return tables;
}

// On the CPU, norms() and cosines() find no layer in these; on CUDA, no layer is complete.
Tables Optimizer::summing(const Tables& tables) const {
  Tables half = tables;
  half.layers = halves_.endless_layers;
  half.shared.tickets = halves_.tickets;
  half.layer_count = 0;
  half.empty_layer_count = 0;
  half.network = false;
  half.non_finite = NonFinite::kSkipTerm;
  return half;
}

Tables Optimizer::finishing(const Tables& tables) const {
  Tables half = tables;
  half.chunk_count = 0;
  half.element_count = 0;
  half.empty_layers = halves_.all_layers;
  half.empty_layer_count = tables.layer_count;
  return half;
}

// What must be equal on all ranks: all but addresses.
std::uint64_t Optimizer::identity() const {
  Hash hash;
  hash.add(options_.terms).add(options_.groups).add(options_.anchor).add(options_.anchor_term).add(options_.balance);
  hash.add(options_.initial_norm).add(options_.rest);
  const StateForm& form = options_.form;
  for (const bool flag : {form.summed, form.amsgrad, form.mean, form.cosines, form.network, form.one_v, form.lagged}) {
    hash.add(flag);
  }
  hash.add(form.non_finite).add(form.rounding).add(layout_.state_type()).add(options_.seed);
  const Sharing& sharing = exchange_->sharing();
  hash.add(sharing.state).add(sharing.reduction).add(sharing.wire).add(sharing.staging_bytes);
  for (const Tensor& tensor : layout_.tensors()) {
    hash.add(tensor.length).add(tensor.layer).add(tensor.group).add(tensor.key).add(tensor.gradient);
    hash.add(tensor.type);
  }
  for (const Term& term : state_.terms()) hash.add(term.stream);
  return hash.value();
}

Agreement Optimizer::agreement(const char* call, Hash values) const {
  values.add(completed_);
  for (const bool accumulated : accumulated_) values.add(accumulated);
  return {call, identity(), values.value()};
}

Optimizer::TermTables Optimizer::make_tables(const std::vector<Term>& terms, Stream stream) {
  TermTables made;
  made.accumulated.resize(terms.size());
  made.known.resize(terms.size());
  Tables tables = tables_;
  tables.term_count = static_cast<std::uint32_t>(terms.size());
  const auto load = [&](const Tables& used) {
    device_->load(used);
    if (shares_state()) device_->load(summing(used));
  };
  load(tables);
  if (exchange_ != nullptr && tables.narrow) {
    tables.narrow = false;
    load(tables);
  }
  made.places.weights = sizeof(double);
  made.places.groups = made.places.weights + terms.size() * sizeof(double);
  made.places.group_elements = made.places.groups + options_.groups * sizeof(Group);
  made.values.resize(made.places.group_elements + options_.groups * sizeof(GroupElements));
  const std::vector<double> ones(terms.size(), 1.0);
  std::memcpy(made.values.data() + made.places.weights, ones.data(), ones.size() * sizeof(double));
  made.values_memory = device_->allocate(made.values.size());
  made.terms_memory = device_->allocate(terms.size() * sizeof(Term));
  device_->write(made.terms_memory->data(), terms.data(), terms.size() * sizeof(Term), stream);
  return made;
}

void Optimizer::adopt(TermTables made) noexcept {
  options_.terms = static_cast<std::uint32_t>(made.accumulated.size());
  places_ = made.places;
  values_ = std::move(made.values);
  accumulated_ = std::move(made.accumulated);
  known_ = std::move(made.known);
  sent_.clear();
  values_memory_ = std::move(made.values_memory);
  terms_memory_ = std::move(made.terms_memory);
  const std::byte* const start = values_memory_->data();
  tables_.gradient_scale = reinterpret_cast<const double*>(start);
  tables_.weights = reinterpret_cast<const double*>(start + places_.weights);
  tables_.groups = reinterpret_cast<const Group*>(start + places_.groups);
  tables_.group_elements = reinterpret_cast<const GroupElements*>(start + places_.group_elements);
  tables_.terms = reinterpret_cast<const Term*>(terms_memory_->data());
  tables_.term_count = options_.terms;
  tables_made_ += 1;
  has_cosines_ = false;
  captured_cosines_ = false;
}

// If any call fails, even the last one in enqueue(), the optimizer is as before.
void Optimizer::add_term(std::uint64_t key) {
  check_whole();
  const std::size_t before = state_.terms().size();
  TermTables made;
  try {
    enqueue(device_->default_stream(), [&](Stream stream) {
      state_.add_term(*device_, layout_, options_.form, stream, key);
      made = make_tables(state_.terms(), stream);
    });
  } catch (...) {
    if (state_.terms().size() > before) state_.remove_term(before);
    throw;
  }
  adopt(std::move(made));
}

void Optimizer::remove_term(std::uint32_t term) {
  check_whole();
  std::vector<Term> left = state_.terms();
  left.erase(left.begin() + static_cast<std::ptrdiff_t>(term));
  const std::vector<std::uint32_t> unbounded = unbounded_without(term);
  TermTables made;
  enqueue(device_->default_stream(), [&](Stream stream) {
    made = make_tables(left, stream);
    broken_ = !unbounded.empty();
    for (const std::uint32_t tensor : unbounded) restart_sum(tensor, stream);
  });
  broken_ = false;
  adopt(std::move(made));
  state_.remove_term(term);
  if (options_.anchor_term > term) tables_.anchor_term = options_.anchor_term -= 1;
}

// The tensors where M holds gradients of the term, which D no longer bounds once the term's v is gone. With amsgrad x
// stays, and with one second moment V does.
std::vector<std::uint32_t> Optimizer::unbounded_without(std::uint32_t term) {
  std::vector<std::uint32_t> tensors;
  const StateForm& form = options_.form;
  if (!form.summed || form.one_v || form.amsgrad) return tensors;
  const std::vector<Clock> own = clocks(term);
  for (std::uint32_t tensor = 0; tensor < layout_.tensor_count(); ++tensor) {
    if (own[tensor].t > 0) tensors.push_back(tensor);
  }
  return tensors;
}

template <class T>
void Optimizer::set_values(std::size_t place, const std::vector<T>& values) {
  std::memcpy(values_.data() + place, values.data(), values.size() * sizeof(T));
}

void Optimizer::set_groups(const std::vector<GroupOptions>& groups) {
  const DefaultFloatEnvironment environment;
  std::vector<Group> scalars;
  std::vector<GroupElements> elements;
  scalars.reserve(groups.size());
  elements.reserve(groups.size());
  for (const GroupOptions& group : groups) {
    scalars.push_back({group.lr, group.beta1, group.beta2, group.beta3, group.maximize ? -1.0 : 1.0});
    elements.push_back(elements_of(group));
  }
  set_values(places_.groups, scalars);
  set_values(places_.group_elements, elements);
}

void Optimizer::set_weights(std::uint32_t first, const std::vector<double>& weights) {
  set_values(places_.weights + first * sizeof(double), weights);
}

// For calls that need the state.
template <class Body>
void Optimizer::enqueue(Stream stream, const Body& body) {
  settle(stream);
  run(stream, body);
}

// Runs the calls of one optimizer in order, also on different streams. Each call records its event immediately: before
// the next call, the stream may be destroyed or a capture may forbid the default stream. An equal handle may be that of
// a new stream, since drivers use handles again; only the default stream's is always the same.
template <class Body>
void Optimizer::run(Stream stream, const Body& body) {
  if (stream != stream_ || stream != device_->default_stream()) left_->make_wait(stream);
  stream_ = stream;
  try {
    body(stream);
  } catch (...) {
    // The work before the error is still on the stream. A second error is ignored, since it would hide the first.
    try {
      left_->record(stream);
    } catch (const Error&) {
    }
    throw;
  }
  left_->record(stream);
}

void Optimizer::check_whole() const {
  if (exchange_ != nullptr) exchange_->collective().check();
  if (is_whole()) return;
  throw Error("STATE", "`load` or `loadStateDict` must restore the whole state first: an earlier call ended midway.");
}

void Optimizer::send_values(double gradient_scale, Stream stream) {
  set_values(0, std::vector<double>{gradient_scale});
  if (values_ == sent_) return;
  device_->write(values_memory_->data(), values_.data(), values_.size(), stream);
  sent_ = values_;
}

// The body sets broken_ once it has launched a part of the step. A later failure leaves norms and clocks ahead of the
// parameters, or the end of the step unmarked, so the state must be restored before the next step.
template <class Body>
void Optimizer::advance(const char* name, AddressTable& gradients, std::uint32_t first, std::uint32_t count,
                        const StepValues& values, Stream given, const Body& body) {
  settle(given);
  check_whole();
  set_values(0, std::vector<double>{values.gradient_scale});
  if (exchange_ != nullptr) agree_on(name, hash_of(gradients, first, count, values));
  enqueue(given, [&](Stream stream) {
    if (exchange_ != nullptr && !compared_) {
      compare_parameters(exchange_->collective(), exchange_->hash_of(layout_, *parameters_, stream));
      compared_ = true;
    }
    const bool reduces = exchange_ != nullptr && !values.reduced;
    AddressTable& used = reduces ? exchange_->reduce(layout_, gradients, first, count, stream) : gradients;
    send_values(values.gradient_scale, stream);
    const Call call{used.on_device(first, count, stream), first, count};
    has_cosines_ = false;
    body(reduces ? with_sums() : tables_, call, stream);
  });
  broken_ = false;
  skipped_ |= device_->take_skipped();
}

// What must be equal on all ranks in a call with these gradients.
Hash Optimizer::hash_of(const AddressTable& gradients, std::uint32_t first, std::uint32_t count,
                        const StepValues& values) const {
  Hash hash;
  // The weights of other terms may be left from a call that was refused.
  hash.add(first).add(values.reduced).add(values.gradient_scale);
  hash.add(values_.data() + places_.weights + first * sizeof(double), count * sizeof(double));
  hash.add(values_.data() + places_.groups, values_.size() - places_.groups);
  for (std::uint32_t term = first; term < first + count; ++term) {
    for (std::uint32_t tensor = 0; tensor < gradients.columns(); ++tensor) {
      hash.add(gradients.get(term, tensor) != nullptr);
    }
  }
  return hash;
}

void Optimizer::step(AddressTable& gradients, const StepValues& values, Stream given) {
  advance("step", gradients, 0, options_.terms, values, given,
          [&](const Tables& tables, const Call& all, Stream stream) {
            if (step_in_one_pass(tables, gradients, all, stream, broken_)) return;
            norms(tables, all, stream);
            broken_ = true;
            follow_norms(tables, all, stream);
            if (shares_state()) exchange_->gather_parameters(layout_, *parameters_, stream);
            has_cosines_ = options_.form.cosines;
          });
  get_to_know(gradients, 0, options_.terms);
  completed_ += 1;
}

void Optimizer::norms(const Tables& tables, const Call& call, Stream stream) {
  if (!shares_state()) return device_->norms(tables, call, stream);
  device_->norms(summing(tables), call, stream);
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    exchange_->gather_slots(layout_, state_.terms()[term].partial, stream);
  }
  device_->norms(finishing(tables), call, stream);
}

void Optimizer::cosines(const Tables& tables, const Call& all, Stream stream) {
  if (!shares_state()) return device_->cosines(tables, all, stream);
  device_->cosines(summing(tables), all, stream);
  for (std::uint32_t later = 1; later < options_.terms; ++later) {
    for (std::uint32_t earlier = 0; earlier < later; ++earlier) {
      double* const dots = state_.terms()[later].dots + earlier * layout_.slot_count();
      exchange_->gather_slots(layout_, dots, stream);
    }
  }
  device_->cosines(finishing(tables), all, stream);
}

bool Optimizer::step_in_one_pass(const Tables& tables, const AddressTable& gradients, const Call& all, Stream stream,
                                 bool& begun) {
  return !shares_state() && device_->step_in_one_pass(tables, all, pass_of(gradients, all, stream, begun));
}

// Launches the rest of a whole step after its norms.
void Optimizer::follow_norms(const Tables& tables, const Call& all, Stream stream) {
  if (options_.form.cosines) cosines(tables, all, stream);
  device_->update(tables, all, stream);
}

// Whether a term has gradients for the first time that is known of.
bool Optimizer::comes_first(const AddressTable& gradients, std::uint32_t term) const {
  if (known_[term]) return false;
  for (std::uint32_t tensor = 0; tensor < gradients.columns(); ++tensor) {
    if (gradients.get(term, tensor) != nullptr) return true;
  }
  return false;
}

OnePass Optimizer::pass_of(const AddressTable& gradients, const Call& call, Stream stream, bool& begun) const {
  OnePass pass{stream, true, 0, largest_layer_, begun};
  if (!tables_.lagged) return pass;  // the others do not use it
  for (std::uint32_t term = call.first; term < call.first + call.count; ++term) {
    pass.known = pass.known && !comes_first(gradients, term);
    if (tables_.network) pass.gradient_bytes += bytes_of(gradients, term);
  }
  return pass;
}

std::uint64_t Optimizer::bytes_of(const AddressTable& gradients, std::uint32_t term) const {
  std::uint64_t bytes = 0;
  for (std::uint32_t k = 0; k < gradients.columns(); ++k) {
    const Tensor& tensor = layout_.tensors()[k];
    if (gradients.get(term, k) != nullptr) bytes += tensor.length * element_bytes(tensor.gradient);
  }
  return bytes;
}

void Optimizer::get_to_know(const AddressTable& gradients, std::uint32_t first, std::uint32_t count) {
  for (std::uint32_t term = first; term < first + count; ++term) {
    if (comes_first(gradients, term)) known_[term] = true;
  }
}

void Optimizer::accumulate(AddressTable& gradients, std::uint32_t term, const StepValues& values, Stream given) {
  if (exchange_ != nullptr && exchange_->overlaps() && !values.reduced) {
    begin_term(gradients, term, values, given);
    // The caller may free θ before the next call.
    if (moments_read_parameters()) settle(given);
    return;
  }
  advance("accumulate", gradients, term, 1, values, given, [&](const Tables& tables, const Call& one, Stream stream) {
    take_term(tables, gradients, one, Squares::kLocal, stream);
  });
  accumulated_[term] = true;
}

void Optimizer::take_term(const Tables& given, const AddressTable& gradients, const Call& one, Squares squares,
                          Stream stream) {
  Tables tables = given;
  if (options_.form.one_v) {
    state_.make_gathered(*device_, layout_);
    tables.shared.gathered = tables_.shared.gathered = state_.shared().gathered;
  }
  if (!shares_state() && device_->accumulate_in_one_pass(tables, one, pass_of(gradients, one, stream, broken_))) return;
  if (squares == Squares::kExchanged && shares_state()) {
    device_->norms(finishing(tables), one, stream);
  } else {
    norms(tables, one, stream);
  }
  broken_ = true;
  device_->moments(tables, one, stream);
  get_to_know(gradients, one.first, 1);
}

// Whether steps 5 and 6 of a term read θ.
bool Optimizer::moments_read_parameters() const {
  if (options_.form.one_v) return false;
  // One by one, without memory of their own: the term has come when this is called.
  for (std::uint32_t k = 0; k < options_.groups; ++k) {
    GroupElements group;
    std::memcpy(&group, values_.data() + places_.group_elements + k * sizeof group, sizeof group);
    if (group.coupled != 0) return true;
  }
  return false;
}

// The options are on the device from here on: nothing sends others before settle().
void Optimizer::begin_term(AddressTable& gradients, std::uint32_t term, const StepValues& values, Stream given) {
  check_whole();
  set_values(0, std::vector<double>{values.gradient_scale});
  const Agreement own = agreement("accumulate", hash_of(gradients, term, 1, values));
  enqueue(given, [&](Stream stream) {
    std::optional<std::uint64_t> parameters;
    if (!compared_) parameters = exchange_->hash_of(layout_, *parameters_, stream);
    if (options_.form.one_v) state_.make_gathered(*device_, layout_);
    send_values(values.gradient_scale, stream);
    exchange_->begin(layout_, gradients, term, own, parameters, stream);
    under_way_ = term;
    accumulated_[term] = true;
  });
}

void Optimizer::settle(Stream given) {
  if (!under_way_) return;
  const std::uint32_t term = *under_way_;
  under_way_.reset();
  accumulated_[term] = false;
  run(given, [&](Stream stream) {
    AddressTable& sums = exchange_->end(layout_, term, state_.terms()[term].partial, stream);
    compared_ = true;
    has_cosines_ = false;
    take_term(with_sums(), sums, {sums.on_device(term, 1, stream), term, 1}, Squares::kExchanged, stream);
  });
  broken_ = false;
  skipped_ |= device_->take_skipped();
  accumulated_[term] = true;
}

void Optimizer::update(Stream given) {
  settle(given);
  check_whole();
  if (exchange_ != nullptr) agree_on("update", {});
  enqueue(given, [&](Stream stream) {
    device_->update(tables_, stream);
    broken_ = true;
    if (shares_state()) exchange_->gather_parameters(layout_, *parameters_, stream);
  });
  broken_ = false;
  has_cosines_ = false;
  completed_ += 1;
  close_step();
}

void Optimizer::discard() {
  check_whole();
  if (is_open()) leave_step();
}

// The records of the accumulated terms hold the number of the open step. Once the device has the next number, these
// records belong to no step.
void Optimizer::leave_step() {
  const std::uint64_t step = read(state_.shared().step, 1)[0];
  const std::vector<std::uint64_t> next{step + 1};
  const bool was_broken = broken_;
  if (is_open() && options_.form.one_v) {
    roll_back_shared_clocks(step);
  } else if (is_open() && options_.form.summed && options_.form.amsgrad) {
    raise_shared_x(step);
  }
  broken_ = true;
  write(state_.shared().step, next);
  first_step_ += 1;
  send_first_step();
  broken_ = was_broken;
  has_cosines_ = false;
  close_step();
}

// The accumulated terms have changed v where they have a gradient. Raises x accordingly, since no update follows that
// would. Where it fails midway, the step stays open: a later call raises x to the same values.
void Optimizer::raise_shared_x(std::uint64_t step) {
  const DefaultFloatEnvironment environment;
  constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;
  const auto read = [&](const PlaneRange& range, std::vector<float>& to) {
    read_elements(range, to.data(),
                  [&](Stored kind, const PlaneRange& part, void* place) { read_own(kind, part, place); });
  };
  std::vector<std::vector<Clock>> own_clocks;
  for (std::uint32_t term = 0; term < options_.terms; ++term) own_clocks.push_back(clocks(term));
  for_own(0, layout_.slot_count(), [&](std::uint32_t tensor, std::uint64_t begin, std::uint64_t length) {
    for (std::uint64_t first = begin; first < begin + length; first += kPiece) {
      const std::uint64_t count = std::min(kPiece, begin + length - first);
      std::vector<float> x(count), v(count);
      read({Plane::x, 0, tensor, first, count}, x);
      for (std::uint32_t term = 0; term < options_.terms; ++term) {
        if (!takes_part(own_clocks[term][tensor], step)) continue;
        read({Plane::v, term, tensor, first, count}, v);
        for (std::uint64_t k = 0; k < count; ++k) x[k] = larger(v[k], x[k]);
      }
      write_plane({Plane::x, 0, tensor, first, count}, x.data());
    }
  });
}

// T has advanced with the first term, and M and V wait for the update.
void Optimizer::roll_back_shared_clocks(std::uint64_t step) {
  const std::vector<Clock> former = read(state_.shared().former_clocks, layout_.tensor_count());
  std::vector<Clock> clocks = shared_clocks();
  for (std::size_t tensor = 0; tensor < clocks.size(); ++tensor) {
    if (takes_part(clocks[tensor], step)) clocks[tensor] = former[tensor];
  }
  broken_ = true;
  write(state_.shared().clocks, clocks);
}

void Optimizer::close_step() { accumulated_.assign(accumulated_.size(), false); }

void Optimizer::zero(AddressTable& gradients, Stream given) {
  run(given, [&](Stream stream) {
    if (!shares_state()) {
      return device_->zero(tables_, {gradients.on_device(0, options_.terms, stream), 0, options_.terms}, stream);
    }
    // The chunk table has only this rank's.
    for (std::uint32_t term = 0; term < options_.terms; ++term) {
      for (std::uint32_t tensor = 0; tensor < layout_.tensor_count(); ++tensor) {
        float* const g = gradients.get(term, tensor);
        const std::size_t element = element_bytes(layout_.tensors()[tensor].gradient);
        const std::size_t bytes = layout_.tensors()[tensor].length * element;
        if (g != nullptr && bytes != 0) device_->fill(g, 0, element, bytes, stream);
      }
    }
  });
}

void Optimizer::add(const std::vector<Addition>& additions, Stream given) {
  run(given, [&](Stream stream) {
    for (const auto& [target, source, length, type] : additions) device_->add(target, source, length, type, stream);
  });
}

void Optimizer::check_alone() const {
  if (exchange_ == nullptr) return;
  throw Error("OPTION", "Steps must not be captured with `distributed`: a graph cannot hold what the ranks exchange.");
}

std::unique_ptr<CapturedStep> Optimizer::capture(const AddressTable& gradients, Stream stream) {
  check_alone();
  // A copy, since the caller may change its table after the capture.
  std::unique_ptr<AddressTable> own = gradients.copy();
  Call all{nullptr, 0, options_.terms};
  enqueue(device_->default_stream(), [&](Stream on) { all.gradients = own->on_device(0, options_.terms, on); });
  std::unique_ptr<Graph> graph = device_->capture(stream, [&](Stream on) { record_step(*own, all, on); });
  return std::make_unique<CapturedStep>(std::move(own), std::move(graph), tables_made_);
}

// Sends changed options before the replay, which reads them from their fixed place.
void Optimizer::replay(const CapturedStep& step, double gradient_scale) {
  if (step.tables() != tables_made_) {
    throw Error("STATE", "`captureStep` must be called again: terms have come or gone since.");
  }
  check_whole();
  enqueue(step.graph().stream(), [&](Stream stream) {
    send_values(gradient_scale, stream);
    step.graph().launch();
    broken_ = true;
  });
  broken_ = false;
  get_to_know(step.gradients(), 0, options_.terms);
  has_cosines_ = options_.form.cosines;
  completed_ += 1;
}

// No event is recorded or waited for: inside a capture it would be part of the graph.
void Optimizer::step_in_graph(const AddressTable& gradients, double gradient_scale, Stream stream) {
  check_whole();
  check_alone();
  set_values(0, std::vector<double>{gradient_scale});
  if (values_ != sent_) {
    throw Error("STATE", "`refresh` must be called before the capture: the device has other options or weights.");
  }
  const Call all{gradients.uploaded(), 0, options_.terms};
  if (all.gradients == nullptr) {
    throw Error("STATE", "`upload` of the prepared gradients must be called before the capture: they have changed.");
  }
  captured_cosines_ = options_.form.cosines;
  record_step(gradients, all, stream);
}

// Launches a step while the stream is captured.
void Optimizer::record_step(const AddressTable& gradients, const Call& all, Stream stream) {
  bool begun = false;  // nothing runs yet
  if (step_in_one_pass(tables_, gradients, all, stream, begun)) return;
  device_->norms(tables_, all, stream);
  follow_norms(tables_, all, stream);
}

void Optimizer::upload(AddressTable& gradients, Stream given) {
  enqueue(given, [&](Stream stream) { gradients.on_device(0, options_.terms, stream); });
  left_->wait();
}

void Optimizer::refresh(double gradient_scale, Stream given) {
  if (device_->immediate()) {
    throw Error("OPTION", "`refresh` must be called on a CUDA device; got the CPU, which has no graphs.");
  }
  enqueue(given, [&](Stream stream) { send_values(gradient_scale, stream); });
}

std::int64_t Optimizer::iterations(Stream given) {
  std::uint64_t step = 0;
  enqueue(given, [&](Stream stream) { device_->read(&step, state_.shared().step, sizeof step, stream); });
  completed_ = static_cast<std::int64_t>(step - first_step_);
  return completed_;
}

// The number on the device stays, because clocks that are not restored are compared with it.
void Optimizer::restore_iterations(std::int64_t iterations) {
  first_step_ = read(state_.shared().step, 1)[0] - static_cast<std::uint64_t>(iterations);
  completed_ = iterations;
  send_first_step();
}

// Draws depend on the number of completed steps, so that a restored training goes on with those it would have had.
void Optimizer::send_first_step() {
  if (layout_.code_elements() != 0 || layout_.has_narrow_parameters()) {
    write(state_.shared().first_step, std::vector<std::uint64_t>{first_step_});
  }
}

// A call that failed midway may also have left records with the number of the open step.
void Optimizer::begin_restore() {
  if (is_open() || broken_) leave_step();
  // Launches that overlapped, since the caller did not order them, may have left tickets above 0.
  write(state_.shared().tickets, std::vector<unsigned long long>(ticket_count(layout_)));
  known_.assign(known_.size(), false);
  forget_cosines();
  broken_ = !is_whole();
  restoring_ = true;
}

// Those on the device may be read again, since launches of graphs of the caller bring some without a notice.
void Optimizer::forget_cosines() {
  has_cosines_ = false;
  if (!captured_cosines_) return;
  constexpr std::uint32_t kNan = std::bit_cast<std::uint32_t>(std::numeric_limits<float>::quiet_NaN());
  enqueue(device_->default_stream(), [&](Stream stream) {
    std::size_t rows = 0;
    for (const Term& term : state_.terms()) {
      rows += 1;
      device_->fill(term.cosines, kNan, sizeof(float), rows * layout_.layer_count() * sizeof(float), stream);
    }
  });
}

void Optimizer::end_restore(std::int64_t iterations, bool complete) {
  restore_iterations(iterations);
  if (complete) broken_ = false;
  restoring_ = false;
}

template <class T>
std::vector<T> Optimizer::read(const T* from, std::size_t count) {
  std::vector<T> values(count);
  enqueue(device_->default_stream(),
          [&](Stream stream) { device_->read(values.data(), from, count * sizeof(T), stream); });
  return values;
}

template <class T>
void Optimizer::write(T* to, const std::vector<T>& values) {
  enqueue(device_->default_stream(),
          [&](Stream stream) { device_->write(to, values.data(), values.size() * sizeof(T), stream); });
}

std::vector<NormState> Optimizer::norm_states(std::uint32_t term) {
  return read(state_.terms()[term].norms, layout_.layer_count());
}

std::vector<std::unique_ptr<HostCopy>> Optimizer::norms_later() {
  std::vector<std::unique_ptr<HostCopy>> copies;
  copies.reserve(options_.terms);
  enqueue(device_->default_stream(), [&](Stream stream) {
    for (const Term& term : state_.terms()) {
      copies.push_back(device_->read_later(term.norms, layout_.layer_count() * sizeof(NormState), stream));
    }
  });
  return copies;
}

std::vector<std::unique_ptr<HostCopy>> Optimizer::cosines_later() {
  std::vector<std::unique_ptr<HostCopy>> copies;
  if (!has_cosines_ && !captured_cosines_) return copies;
  enqueue(device_->default_stream(), [&](Stream stream) {
    std::size_t rows = 0;
    for (const Term& term : state_.terms()) {
      rows += 1;
      copies.push_back(device_->read_later(term.cosines, rows * layout_.layer_count() * sizeof(float), stream));
    }
  });
  return copies;
}

void Optimizer::restore_norms(std::uint32_t term, const std::vector<SavedNorm>& saved) {
  // The state has no scale; 0 would be one.
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  std::vector<NormState> norm_states;
  norm_states.reserve(saved.size());
  for (const SavedNorm& one : saved)
    norm_states.push_back({one.n, 0, kUnknown, 0, one.skipped, one.occurred ? kOccurred : 0});
  write(state_.terms()[term].norms, norm_states);
}

std::vector<double> Optimizer::squares(std::uint32_t term) {
  return read(state_.terms()[term].squares, layout_.tensor_count());
}

void Optimizer::restore_squares(std::uint32_t term, const std::vector<double>& saved) {
  const DefaultFloatEnvironment environment;
  write(state_.terms()[term].squares, saved);
  const std::vector<Layer>& layers = layout_.layers();
  std::vector<NormState> norms = norm_states(term);
  const std::vector<Clock> own_clocks = clocks(term);
  for (std::uint32_t index = 0; index < layout_.layer_count(); ++index) {
    const Layer& layer = layers[index];
    LaneSum q;
    bool occurred = false;
    for (std::uint32_t k = 0; k < layer.members; ++k) {
      const std::uint32_t tensor = layout_.members()[layer.member + k];
      q.add(tensor, saved[tensor]);
      occurred |= own_clocks[tensor].t > 0;
    }
    // A layer of one tensor may show n of the network's unit. If tensors were added to the layer since, its own n
    // follows from q. So it does where only some of a layer's tensors are restored.
    if (layer.members > 1) {
      norms[index].n = std::sqrt(q.total());
      norms[index].occurred = occurred ? kOccurred : 0;
    } else if (!occurred && norms[index].occurred != 0) {
      norms[index].occurred = kShown;
    }
  }
  write(state_.terms()[term].norms, norms);
}

std::vector<Clock> Optimizer::clocks(std::uint32_t term) {
  return read(state_.terms()[term].clocks, layout_.tensor_count());
}

void Optimizer::restore_clocks(std::uint32_t term, const std::vector<SavedClock>& saved) {
  restore(state_.terms()[term].clocks, state_.terms()[term].coefficients, saved);
  if (!options_.form.network) return;
  NetworkUnit unit{};
  // No step has this number, so the term was reached before every step to come.
  constexpr std::uint64_t kLongAgo = ~std::uint64_t{0};
  const auto ran = [](const SavedClock& clock) { return clock.t > 0; };
  if (std::any_of(saved.begin(), saved.end(), ran)) unit.reached = kLongAgo;
  write(state_.terms()[term].network, std::vector<NetworkUnit>{unit});
}

std::vector<Clock> Optimizer::shared_clocks() { return read(state_.shared().clocks, layout_.tensor_count()); }

void Optimizer::restore_shared_clocks(const std::vector<SavedClock>& saved) {
  restore(state_.shared().clocks, state_.shared().coefficients, saved);
}

// b follows from P₂ alone and must be correct now: a summed step also reads the b of absent terms. f and c are written
// when the clock advances.
void Optimizer::restore(Clock* clocks, Coefficients* coefficients, const std::vector<SavedClock>& saved) {
  const DefaultFloatEnvironment environment;
  std::vector<Clock> restored;
  std::vector<Coefficients> derived;
  restored.reserve(saved.size());
  derived.reserve(saved.size());
  for (const SavedClock& clock : saved) {
    restored.push_back({clock.t, clock.p1, clock.p2, 0});
    derived.push_back({0, 0, static_cast<float>(std::sqrt(1 - clock.p2))});
  }
  write(clocks, restored);
  write(coefficients, derived);
}

namespace {

/// The plane of a term, or of all terms where they share it. `Planes` has one for each of m, v and x.
template <class Planes>
auto plane_of(Plane plane, const StateForm& form, const Planes& own, const Planes& shared) {
  switch (plane) {
    case Plane::m:
      return form.summed ? shared.m : own.m;
    case Plane::v:
      return form.one_v ? shared.v : own.v;
    case Plane::x:
      break;
  }
  return form.summed ? shared.x : own.x;
}

/// Of how many elements a stored value is.
constexpr std::uint32_t elements_per_value(Stored kind) { return kind == Stored::kExponents ? kCodeBlock : 1; }

/// The float32 planes of a term, or of all terms.
struct FloatPlanes {
  float* m;
  float* v;
  float* x;
};

}  // namespace

// Of what this rank has: the place of the first of these values in the planes is known modulo 2**64.
std::byte* Optimizer::address_of(Stored kind, const PlaneRange& range) const {
  const Shared& all = state_.shared();
  const Tensor& tensor = layout_.tensors()[range.tensor];
  if (kind == Stored::kMasters) return all.masters + (tensor.master + range.first * master_bytes(tensor.type));
  const Term& term = state_.terms()[range.term];
  const std::uint64_t place = tensor.plane + range.first * elements_per_value(kind);
  if (kind == Stored::kFloats) {
    const FloatPlanes own{term.m, term.v, term.x}, shared{all.m, all.v, all.x};
    return reinterpret_cast<std::byte*>(plane_of(range.plane, options_.form, own, shared) + place);
  }
  const CodePlane start = plane_of(range.plane, options_.form, term.codes, all.codes);
  const CodePlane at = code_plane_at(start, layout_.state_type(), place);
  return kind == Stored::kCodes ? at.codes : reinterpret_cast<std::byte*>(at.exponents);
}

std::size_t Optimizer::bytes_of(Stored kind, std::uint32_t tensor) const {
  if (kind == Stored::kMasters) return master_bytes(layout_.tensors()[tensor].type);
  if (kind == Stored::kFloats) return sizeof(float);
  return kind == Stored::kCodes ? code_bytes(layout_.state_type()) : 1;
}

// Calls body(tensor, first element, elements) for what this rank owns of the slots first .. end.
template <class Body>
void Optimizer::for_own(std::uint64_t first, std::uint64_t end, const Body& body) const {
  const Slots own = shares_state() ? exchange_->own(layout_) : Slots{0, layout_.slot_count()};
  layout_.for_slots(std::max(first, own.first), std::min(end, own.end), body);
}

Slots Optimizer::own_elements(std::uint32_t tensor) const {
  const Tensor& shape = layout_.tensors()[tensor];
  Slots elements{0, 0};
  for_own(shape.slot, shape.slot + chunks_of(shape.length),
          [&](std::uint32_t, std::uint64_t first, std::uint64_t count) {
            elements = {first, first + count};
          });
  return elements;
}

void Optimizer::read_own(Stored kind, const PlaneRange& range, void* to) {
  const std::byte* const from = address_of(kind, range);
  enqueue(device_->default_stream(),
          [&](Stream stream) { device_->read(to, from, range.count * bytes_of(kind, range.tensor), stream); });
}

void Optimizer::read_stored(Stored kind, const PlaneRange& range, void* to) {
  if (!shares_state()) return read_own(kind, range, to);
  constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;
  Hash hash;
  hash.add(kind).add(range.plane).add(range.term).add(range.tensor).add(range.first).add(range.count);
  agree_on("read the state", hash);
  for (std::uint64_t done = 0; done < range.count; done += kPiece) {
    const StoredRange piece{range.tensor, range.first + done, std::min(kPiece, range.count - done),
                            elements_per_value(kind), bytes_of(kind, range.tensor)};
    const auto read = [&](std::uint64_t first, std::uint64_t count, std::byte* place) {
      read_own(kind, {range.plane, range.term, range.tensor, first, count}, place);
    };
    exchange_->gather_range(layout_, piece, read, static_cast<std::byte*>(to) + done * bytes_of(kind, range.tensor));
  }
}

void Optimizer::write_stored(Stored kind, const PlaneRange& range, const void* from) {
  const std::uint32_t unit = elements_per_value(kind);
  const Slots elements = own_elements(range.tensor);
  PlaneRange own = range;
  own.first = std::max(range.first, elements.first / unit);
  const std::uint64_t end = std::min(range.first + range.count, (elements.end + unit - 1) / unit);
  if (own.first >= end) return;
  own.count = end - own.first;
  const std::byte* const begin =
      static_cast<const std::byte*>(from) + (own.first - range.first) * bytes_of(kind, range.tensor);
  std::byte* const to = address_of(kind, own);
  enqueue(device_->default_stream(),
          [&](Stream stream) { device_->write(to, begin, own.count * bytes_of(kind, range.tensor), stream); });
}

namespace {

PlaneRange blocks_of(const PlaneRange& range) {
  PlaneRange blocks = range;
  blocks.first /= kCodeBlock;
  blocks.count = code_blocks(range.count);
  return blocks;
}

}  // namespace

void Optimizer::restart_sum(std::uint32_t tensor, Stream stream) {
  constexpr Clock kFresh{0, 1, 1, 0};
  device_->write(state_.shared().clocks + tensor, &kFresh, sizeof kFresh, stream);
  const auto clear = [&](Stored kind, const PlaneRange& range) {
    device_->fill(address_of(kind, range), 0, 1, range.count * bytes_of(kind, tensor), stream);
  };
  const Slots own = own_elements(tensor);
  const PlaneRange range{Plane::m, 0, tensor, own.first, own.end - own.first};
  if (range.count == 0) return;
  if (!layout_.tensors()[tensor].lean) return clear(Stored::kFloats, range);
  clear(Stored::kCodes, range);
  if (layout_.state_type() == StateType::k8bit) clear(Stored::kExponents, blocks_of(range));
}

void Optimizer::restart_sum(std::uint32_t tensor) {
  enqueue(device_->default_stream(), [&](Stream stream) { restart_sum(tensor, stream); });
}

// read(kind, range, to) reads what is stored.
template <class Read>
void Optimizer::read_elements(const PlaneRange& range, float* to, const Read& read) const {
  if (!layout_.tensors()[range.tensor].lean) return read(Stored::kFloats, range, to);
  PlaneRange blocks = range;
  blocks.first = range.first / kCodeBlock * kCodeBlock;
  blocks.count += range.first - blocks.first;
  Codes codes(layout_.state_type(), blocks.count);
  read(Stored::kCodes, blocks, codes.codes());
  if (layout_.state_type() == StateType::k8bit) read(Stored::kExponents, blocks_of(blocks), codes.exponents());
  const std::vector<float> values = codes.decoded(range.plane != Plane::m);
  std::copy(values.end() - static_cast<std::ptrdiff_t>(range.count), values.end(), to);
}

void Optimizer::read_plane(const PlaneRange& range, float* to) {
  read_elements(range, to, [&](Stored kind, const PlaneRange& part, void* place) { read_stored(kind, part, place); });
}

void Optimizer::write_plane(const PlaneRange& range, const float* from) {
  if (!layout_.tensors()[range.tensor].lean) return write_stored(Stored::kFloats, range, from);
  Codes codes(layout_.state_type(), range.count);
  codes.round(range.plane != Plane::m, from);
  write_stored(Stored::kCodes, range, codes.codes());
  if (layout_.state_type() == StateType::k8bit) {
    write_stored(Stored::kExponents, blocks_of(range), codes.exponents());
  }
}

namespace {

PlaneRange as_stored(const MasterRange& range) { return {Plane::m, 0, range.tensor, range.first, range.count}; }

}  // namespace

// read(kind, range, to) reads what is stored. θ is the same on all ranks.
template <class Read>
void Optimizer::read_mastered(const MasterRange& range, float* to, const Read& read) {
  const ElementType type = layout_.tensors()[range.tensor].type;
  const auto* const theta = reinterpret_cast<const std::uint16_t*>(parameters_->get(0, range.tensor)) + range.first;
  std::vector<std::uint16_t> codes(range.count), low(range.count);
  const bool halves = type == ElementType::kBfloat16;
  enqueue(device_->default_stream(),
          [&](Stream stream) { device_->read(codes.data(), theta, range.count * sizeof(std::uint16_t), stream); });
  read(Stored::kMasters, as_stored(range), halves ? static_cast<void*>(low.data()) : to);
  for (std::uint64_t k = 0; k < range.count; ++k) {
    to[k] = halves ? joined(codes[k], low[k]) : mastered_float16(codes[k], to[k]);
  }
}

void Optimizer::read_master(const MasterRange& range, float* to) {
  read_mastered(range, to, [&](Stored kind, const PlaneRange& part, void* place) { read_stored(kind, part, place); });
}

void Optimizer::read_own_master(const MasterRange& range, float* to) {
  read_mastered(range, to, [&](Stored kind, const PlaneRange& part, void* place) { read_own(kind, part, place); });
}

void Optimizer::write_master(const MasterRange& range, const float* from) {
  const ElementType type = layout_.tensors()[range.tensor].type;
  if (from == nullptr) {
    constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;
    const std::vector<std::byte> none(std::min(kPiece, range.count) * master_bytes(type));
    for (std::uint64_t done = 0; done < range.count; done += kPiece) {
      const std::uint64_t count = std::min(kPiece, range.count - done);
      write_stored(Stored::kMasters, as_stored({range.tensor, range.first + done, count}), none.data());
    }
    return;
  }
  if (type != ElementType::kBfloat16) return write_stored(Stored::kMasters, as_stored(range), from);
  std::vector<std::uint16_t> low;
  for (std::uint64_t k = 0; k < range.count; ++k) low.push_back(static_cast<std::uint16_t>(halved(from[k]).low));
  write_stored(Stored::kMasters, as_stored(range), low.data());
}

}  // namespace mtadam
