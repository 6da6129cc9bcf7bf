#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cpu/cpu_device.h"
#include "engine/optimizer.h"
#include "support.h"

// Models, gradients and an optimizer that trains them, for the tests of whole steps.

namespace mtadam::test {

/// The start of a training.
struct Model {
  std::vector<ParameterShape> parameters;
  OptimizerOptions options;
  StateType state_type = StateType::kFloat32;
  std::vector<GroupOptions> groups;
  std::vector<double> weights;  // per term
  double gradient_scale = 1;
  std::vector<std::vector<float>> theta;  // initial parameters

  std::uint32_t layer_count() const {
    std::uint32_t count = 0;
    for (const ParameterShape& shape : parameters) count = std::max(count, shape.layer + 1);
    return count;
  }
};

/// The gradients of one step, by term and tensor; nullopt = absent.
using Gradients = std::vector<std::vector<std::optional<std::vector<float>>>>;

/// The state of a training. Scalars are vectors with an entry per (term, layer) or (clock, tensor).
struct Snapshot {
  std::vector<std::vector<float>> theta, planes;
  std::vector<double> norms, clocks;
  std::vector<double> passing;    // what later steps do not depend on: r, s, skipped, cosines
  std::vector<double> squares{};  // q per (term, tensor), with the network as one unit
};

inline testing::AssertionResult same_saved_state(const Snapshot& expected, const Snapshot& actual) {
  const auto named = [](const std::string& name, const testing::AssertionResult& result) {
    return result ? result : testing::AssertionFailure() << name << ": " << result.message();
  };
  testing::AssertionResult result = testing::AssertionSuccess();
  for (std::size_t k = 0; result && k < expected.theta.size(); ++k) {
    result = named("tensor " + std::to_string(k), same_bits(expected.theta[k], actual.theta[k]));
  }
  for (std::size_t k = 0; result && k < expected.planes.size(); ++k) {
    result = named("plane " + std::to_string(k), same_bits(expected.planes[k], actual.planes[k]));
  }
  if (result) result = named("norms", same_bits(expected.norms, actual.norms));
  if (result) result = named("squares", same_bits(expected.squares, actual.squares));
  if (result) result = named("clocks", same_bits(expected.clocks, actual.clocks));
  return result;
}

inline testing::AssertionResult same_state(const Snapshot& expected, const Snapshot& actual) {
  const testing::AssertionResult saved = same_saved_state(expected, actual);
  if (!saved) return saved;
  const testing::AssertionResult passing = same_bits(expected.passing, actual.passing);
  return passing ? passing : testing::AssertionFailure() << "r, s, skipped, cosines: " << passing.message();
}

/// How many elements past a 16-byte boundary tensors begin: 0 to 3.
enum class Alignment {
  kVectors,  // all at 0
  kAlike,    // random per tensor, the same for its gradients
  kAnyhow,   // random for each parameter and gradient
};
inline const std::vector<Alignment> kAlignments{Alignment::kVectors, Alignment::kAlike, Alignment::kAnyhow};

/// Elements in the memory of a device. Where the type is narrow, values are rounded to the nearest.
class PlacedTensor {
 public:
  PlacedTensor(Device& device, std::size_t length, std::uint32_t offset, ElementType type = ElementType::kFloat32)
      : type_(type),
        length_(length),
        memory_(device.allocate((length + offset) * element_bytes(type))),
        data_(memory_->data() + offset * element_bytes(type)) {}

  float* data() const { return reinterpret_cast<float*>(data_); }
  void write(Device& device, const std::vector<float>& values) const {
    if (type_ == ElementType::kFloat32) return device.write(data_, values.data(), length_ * sizeof(float), nullptr);
    std::vector<std::uint16_t> codes;
    codes.reserve(length_);
    for (const float value : values) codes.push_back(static_cast<std::uint16_t>(nearest(type_, value)));
    device.write(data_, codes.data(), length_ * sizeof(std::uint16_t), nullptr);
  }
  std::vector<float> read(Device& device) const {
    std::vector<float> values(length_);
    if (type_ == ElementType::kFloat32) {
      device.read(values.data(), data_, length_ * sizeof(float), nullptr);
      return values;
    }
    std::vector<std::uint16_t> codes(length_);
    device.read(codes.data(), data_, length_ * sizeof(std::uint16_t), nullptr);
    for (std::size_t k = 0; k < length_; ++k) values[k] = decoded(type_, codes[k]);
    return values;
  }

 private:
  ElementType type_;
  std::size_t length_;
  std::unique_ptr<Memory> memory_;
  std::byte* data_;
};

class Training {
 public:
  Training(const Model& model, std::shared_ptr<Device> device, Alignment alignment = Alignment::kVectors,
           Sharing sharing = {})
      : model_(model),
        alignment_(alignment),
        device_(std::move(device)),
        table_(device_, model.options.terms, tensor_count()) {
    auto addresses = std::make_unique<AddressTable>(device_, 1, tensor_count());
    std::vector<ParameterShape> shapes = model.parameters;
    for (std::uint32_t tensor = 0; tensor < tensor_count(); ++tensor) {
      const ElementType type = shapes[tensor].type;
      shapes[tensor].phase = type == ElementType::kFloat32 ? offset_of(tensor) : 0;
      theta_.emplace_back(*device_, model.theta[tensor].size(), offset_of(tensor), type);
      theta_.back().write(*device_, model.theta[tensor]);
      addresses->set(0, tensor, theta_.back().data());
    }
    for (std::uint32_t term = 0; term < model.options.terms; ++term) gradients_.push_back(room_for_gradients(term));
    optimizer_ = std::make_unique<Optimizer>(device_, Layout(shapes, model.state_type), model.options,
                                             std::move(addresses), std::move(sharing));
    set_groups(model.groups);
    optimizer_->set_weights(0, model.weights);
  }
  Training(const Model& model, unsigned threads, const std::string& instruction_set = "")
      : Training(model, std::make_shared<CpuDevice>(threads, instruction_set)) {}

  Optimizer& optimizer() { return *optimizer_; }
  /// Whether gradients are the sums over all ranks already.
  void set_reduced(bool reduced) { reduced_ = reduced; }
  std::vector<std::vector<float>> theta() const {
    std::vector<std::vector<float>> values;
    for (const PlacedTensor& tensor : theta_) values.push_back(tensor.read(*device_));
    return values;
  }

  void set_theta(const std::vector<std::vector<float>>& values) {
    for (std::uint32_t tensor = 0; tensor < tensor_count(); ++tensor) theta_[tensor].write(*device_, values[tensor]);
  }
  /// As theta(), with the masters of narrow parameters.
  std::vector<std::vector<float>> masters() const {
    std::vector<std::vector<float>> values = theta();
    for (std::uint32_t tensor = 0; tensor < tensor_count(); ++tensor) {
      if (model_.parameters[tensor].type == ElementType::kFloat32) continue;
      optimizer_->read_master({tensor, 0, values[tensor].size()}, values[tensor].data());
    }
    return values;
  }

  void set_groups(const std::vector<GroupOptions>& groups) { optimizer_->set_groups(groups); }

  void add_term(double weight) {
    optimizer_->add_term();
    gradients_.push_back(room_for_gradients(model_.options.terms));
    model_.weights.push_back(weight);
    model_.options.terms += 1;
    terms_changed();
  }
  void remove_term(std::uint32_t term) {
    optimizer_->remove_term(term);
    gradients_.erase(gradients_.begin() + term);
    model_.weights.erase(model_.weights.begin() + term);
    model_.options.terms -= 1;
    terms_changed();
  }

  /// All terms at once.
  void step(const Gradients& gradients) {
    place(gradients);
    step_again();
  }

  /// Places the gradients for later steps.
  void place(const Gradients& gradients) {
    for (std::uint32_t term = 0; term < model_.options.terms; ++term) set_gradients(term, gradients);
  }

  /// Adds these to the placed gradients, where both are present.
  void add(const Gradients& gradients) {
    for (std::uint32_t term = 0; term < model_.options.terms; ++term) {
      for (std::uint32_t tensor = 0; tensor < tensor_count(); ++tensor) {
        const std::optional<std::vector<float>>& gradient = gradients[term][tensor];
        float* const target = table_.get(term, tensor);
        if (!gradient || target == nullptr) continue;
        const ElementType type = model_.parameters[tensor].gradient;
        const PlacedTensor source(*device_, gradient->size(), offset_of(tensor), type);
        source.write(*device_, *gradient);
        optimizer_->add({{target, source.data(), gradient->size(), type}});
        optimizer_->done()->wait();
      }
    }
  }

  /// A step with the placed gradients.
  void step_again(Stream stream = nullptr) { optimizer_->step(table_, {model_.gradient_scale, reduced_}, stream); }

  /// Captures a step with the placed gradients. Takes none.
  std::unique_ptr<CapturedStep> capture(Stream stream = nullptr) { return optimizer_->capture(table_, stream); }
  void replay(const CapturedStep& step) { optimizer_->replay(step, model_.gradient_scale); }

  /// A step with these gradients in a graph that the caller captures, and what it needs before that.
  void step_in_graph(Stream stream) { optimizer_->step_in_graph(table_, model_.gradient_scale, stream); }
  void upload() { optimizer_->upload(table_); }
  void refresh(Stream stream = nullptr) { optimizer_->refresh(model_.gradient_scale, stream); }

  /// The address of a placed gradient; null: absent.
  float* gradient(std::uint32_t term, std::uint32_t tensor) const { return table_.get(term, tensor); }

  /// Sets the placed gradients to 0.
  void zero(Stream stream = nullptr) { optimizer_->zero(table_, stream); }

  /// Term after term, each after before(term).
  void stream(
      const Gradients& gradients, const std::function<void(std::uint32_t)>& before = [](std::uint32_t) {}) {
    for (std::uint32_t term = 0; term < model_.options.terms; ++term) {
      before(term);
      accumulate(term, gradients);
    }
    optimizer_->update();
  }

  /// One term of a step.
  void accumulate(std::uint32_t term, const Gradients& gradients) {
    set_gradients(term, gradients);
    accumulate_again(term);
  }
  void accumulate_again(std::uint32_t term) { optimizer_->accumulate(table_, term, {model_.gradient_scale, reduced_}); }

  Snapshot snapshot() const {
    Snapshot result = state();
    result.theta = theta();
    return result;
  }

  /// A snapshot without parameters, which are read on the default stream.
  Snapshot state() const {
    Snapshot result;
    for (const auto& [plane, term] : planes()) {
      for (std::uint32_t tensor = 0; tensor < tensor_count(); ++tensor) {
        const std::size_t count = model_.theta[tensor].size();
        result.planes.emplace_back(count);
        optimizer_->read_plane({plane, term, tensor, 0, count}, result.planes.back().data());
      }
    }
    const auto append = [&](const std::vector<Clock>& clocks) {
      for (const Clock& clock : clocks) {
        result.clocks.insert(result.clocks.end(), {static_cast<double>(clock.t), clock.p1, clock.p2});
      }
    };
    for (std::uint32_t term = 0; term < model_.options.terms; ++term) {
      for (const NormState& norm : optimizer_->norm_states(term)) {
        result.norms.insert(result.norms.end(), {norm.n, norm.occurred != 0 ? 1.0 : 0.0});
        result.passing.insert(result.passing.end(), {norm.r, norm.s, static_cast<double>(norm.skipped)});
      }
      append(optimizer_->clocks(term));
      if (!model_.options.form.network) continue;
      for (const double q : optimizer_->squares(term)) result.squares.push_back(q);
    }
    if (model_.options.form.summed) append(optimizer_->shared_clocks());
    for (const float cosine : cosines()) result.passing.push_back(cosine);
    return result;
  }

  /// The cosines of each term with those before it and with itself, a value per layer; empty where the last step had
  /// none.
  std::vector<float> cosines() const {
    std::vector<float> all;
    std::size_t rows = 0;
    for (const std::unique_ptr<HostCopy>& row : optimizer_->cosines_later()) {
      row->wait();
      const float* const values = reinterpret_cast<const float*>(row->data());
      all.insert(all.end(), values, values + (++rows) * optimizer_->layout().layer_count());
    }
    return all;
  }

  /// The planes that the form has, each with a term (0 for a shared one).
  std::vector<std::pair<Plane, std::uint32_t>> planes() const {
    const bool summed = model_.options.form.summed, amsgrad = model_.options.form.amsgrad;
    std::vector<std::pair<Plane, std::uint32_t>> all;
    for (std::uint32_t term = 0; term < model_.options.terms; ++term) {
      if (!model_.options.form.one_v || term == 0) all.emplace_back(Plane::v, term);
      if (!summed || term == 0) all.emplace_back(Plane::m, term);
      if (amsgrad && (!summed || term == 0)) all.emplace_back(Plane::x, term);
    }
    return all;
  }

 private:
  std::uint32_t tensor_count() const { return static_cast<std::uint32_t>(model_.parameters.size()); }

  std::uint32_t offset_of(std::uint32_t tensor) const {
    return alignment_ == Alignment::kVectors ? 0 : (tensor + 1) % 4;
  }

  std::vector<PlacedTensor> room_for_gradients(std::uint32_t term) const {
    std::vector<PlacedTensor> tensors;
    for (std::uint32_t tensor = 0; tensor < tensor_count(); ++tensor) {
      const std::uint32_t offset = offset_of(tensor);
      const std::uint32_t own = alignment_ == Alignment::kAnyhow ? (offset + term + tensor / 4) % 4 : offset;
      tensors.emplace_back(*device_, model_.theta[tensor].size(), own, model_.parameters[tensor].gradient);
    }
    return tensors;
  }

  void terms_changed() {
    table_ = AddressTable(device_, model_.options.terms, tensor_count());
    optimizer_->set_weights(0, model_.weights);
  }

  void set_gradients(std::uint32_t term, const Gradients& gradients) {
    for (std::uint32_t tensor = 0; tensor < tensor_count(); ++tensor) {
      const std::optional<std::vector<float>>& gradient = gradients[term][tensor];
      const PlacedTensor& place = gradients_[term][tensor];
      if (gradient) place.write(*device_, *gradient);
      table_.set(term, tensor, gradient ? place.data() : nullptr);
    }
  }

  Model model_;
  Alignment alignment_;
  std::shared_ptr<Device> device_;
  std::vector<PlacedTensor> theta_;
  std::vector<std::vector<PlacedTensor>> gradients_;  // by term and tensor
  AddressTable table_;
  bool reduced_ = false;
  std::unique_ptr<Optimizer> optimizer_;
};

// ---- Random models and gradients ----

inline GroupOptions default_group() { return {1e-3, 0.9, 0.999, 0.9, 1e-8, 0, false, false}; }

/// Varies everything that does not change whether a step gives the same bits at once and term by term: tags, groups,
/// forms, weights (0 among them), decays.
inline Model random_model(Random& random, const std::vector<std::uint64_t>& lengths, std::uint32_t terms) {
  Model model;
  model.options.terms = terms;
  model.options.groups = 2;
  model.options.form = {random.chance(0.5), random.chance(0.4), random.chance(0.3)};
  model.options.balance = random.pick<double>({1, 1, 0.5, 0, 0.3});
  model.options.initial_norm = random.chance(0.3) ? 1 : 0;
  model.gradient_scale = random.chance(0.3) ? 128 : 1;
  std::uint32_t layers = 0;
  for (const std::uint64_t length : lengths) {
    const std::uint32_t layer =
        layers > 0 && random.chance(0.4) ? static_cast<std::uint32_t>(random.below(layers)) : layers++;
    model.parameters.push_back({length, layer, static_cast<std::uint32_t>(random.below(2))});
    model.theta.emplace_back(length);
    for (float& value : model.theta.back()) value = static_cast<float>(random.between(-0.5, 0.5));
  }
  const double beta3 = random.pick<double>({0.9, 0.5, 0});
  for (std::uint32_t group = 0; group < model.options.groups; ++group) {
    model.groups.push_back({random.pick<double>({1e-3, 1e-4}), random.pick<double>({0.9, 0.5, 0}),
                            random.pick<double>({0.999, 0.9}), beta3, random.pick<double>({1e-8, 1e-4}),
                            random.pick<double>({0, 1e-2}), random.chance(0.5), random.chance(0.3)});
  }
  for (std::uint32_t term = 0; term < terms; ++term) {
    model.weights.push_back(random.chance(0.15) ? 0 : random.between(0.1, 3));
  }
  return model;
}

/// Lagged scales, with the options that they allow.
inline Model with_lagged_scales(Random& random, Model model) {
  model.options.form.lagged = true;
  model.options.form.non_finite = random.chance(0.9) ? NonFinite::kSkipElement : NonFinite::kPropagate;
  const double beta3 = random.pick<double>({0.99, 0.999});
  for (GroupOptions& group : model.groups) group.beta3 = beta3;
  return model;
}

/// The network as one unit for some of the models, rest for silent terms for some, lagged scales for some of those that
/// skip no steps.
inline Model with_units(Random& random, Model model) {
  model.options.form.network = random.chance(0.5);
  model.options.rest = random.chance(0.3);
  const bool lagged = random.chance(0.4) && model.options.form.non_finite != NonFinite::kSkipStep;
  return lagged ? with_lagged_scales(random, model) : model;
}

/// Both moments summed for some of the models.
inline Model with_one_v(Random& random, Model model) {
  model.options.form.one_v = random.chance(0.4);
  if (model.options.form.one_v) model.options.form.summed = true;
  return model;
}

/// The model with moments of that type, and with names.
inline Model with_state(Model model, StateType type) {
  const auto key_of = [](const std::string& kind, std::size_t index) {
    const std::string name = kind + std::to_string(index);
    return name_key(name.data(), name.size());
  };
  model.state_type = type;
  model.options.seed = 12345;
  if (type == StateType::k8bit) model.options.form.amsgrad = false;
  model.options.term_keys.clear();
  for (std::uint32_t term = 0; term < model.options.terms; ++term) {
    model.options.term_keys.push_back(key_of("term", term));
  }
  for (std::size_t k = 0; k < model.parameters.size(); ++k) model.parameters[k].key = key_of("parameter", k);
  return model;
}

/// How often random models had each form of the moments, and the options that kernels of lean states branch on.
struct FormCounts {
  int per_term = 0, summed = 0, one_v = 0, amsgrad = 0, skips = 0;

  void add(const StateForm& form) {
    per_term += !form.summed;
    summed += form.summed && !form.one_v;
    one_v += form.one_v;
    amsgrad += form.amsgrad;
    skips += skips_elements(form.non_finite);
  }
  bool all() const { return per_term > 0 && summed > 0 && one_v > 0 && amsgrad > 0 && skips > 0; }
};

/// The value of a narrow type, by its definition.
inline float value_of(ElementType type, std::uint32_t code) {
  const int places = type == ElementType::kFloat16 ? 10 : 7, most = type == ElementType::kFloat16 ? 31 : 255;
  const int exponent = static_cast<int>(code >> places) & most,
            significand = static_cast<int>(code) & ((1 << places) - 1);
  const int leading = exponent == 0 ? 0 : 1 << places;
  const float magnitude =
      exponent < most ? std::ldexp(static_cast<float>(significand + leading), std::max(exponent, 1) - most / 2 - places)
      : significand == 0 ? HUGE_VALF
                         : std::nanf("");
  return (code & 0x8000u) != 0 ? -magnitude : magnitude;
}

constexpr ElementType kElementTypes[] = {ElementType::kFloat32, ElementType::kBfloat16, ElementType::kFloat16};

/// Narrow gradients for some tensors of the model.
inline Model with_narrow_gradients(Random& random, Model model) {
  for (ParameterShape& shape : model.parameters) shape.gradient = kElementTypes[random.below(3)];
  model.parameters[0].gradient = kElementTypes[1 + random.below(2)];
  return model;
}

/// Narrow parameters for some tensors of the model, which has names.
inline Model with_narrow_parameters(Random& random, Model model, Rounding rounding) {
  model.options.form.rounding = rounding;
  for (std::size_t tensor = 0; tensor < model.parameters.size(); ++tensor) {
    const ElementType type = kElementTypes[tensor == 0 ? 1 + random.below(2) : random.below(3)];
    model.parameters[tensor].type = type;
    if (type == ElementType::kFloat32) continue;
    for (float& value : model.theta[tensor]) value = decoded(type, nearest(type, value));
  }
  return model;
}

/// The same model with parameters in float32.
inline Model with_wide_parameters(Model model) {
  for (ParameterShape& shape : model.parameters) shape.type = ElementType::kFloat32;
  return model;
}

/// The same model with gradients in float32.
inline Model with_wide_gradients(Model model) {
  for (ParameterShape& shape : model.parameters) shape.gradient = ElementType::kFloat32;
  return model;
}

/// Gradients whose values the model's types have. Some are subnormal.
inline Gradients narrowed(Random& random, const Model& model, Gradients gradients) {
  for (auto& term : gradients) {
    for (std::size_t tensor = 0; tensor < term.size(); ++tensor) {
      const ElementType type = model.parameters[tensor].gradient;
      if (!term[tensor] || type == ElementType::kFloat32) continue;
      for (float& value : *term[tensor]) {
        const bool small = value != 0 && random.chance(0.1);
        value = value_of(type, small ? random.below(0x10000) & 0x87ffu : nearest(type, value));
      }
    }
  }
  return gradients;
}

/// Gives trainings of the model moments that decay to 2⁻¹²⁶, to the largest subnormal, or close to these.
inline void bring_to_the_flush(Random& random, const Model& model, const std::vector<Training*>& trainings) {
  for (const auto& [plane, term] : trainings.at(0)->planes()) {
    for (std::uint32_t tensor = 0; tensor < model.parameters.size(); ++tensor) {
      const GroupOptions& group = model.groups[model.parameters[tensor].group];
      const bool first = plane == Plane::m && group.beta1 != 0;
      const float least = least_kept(static_cast<float>(first ? group.beta1 : group.beta2));
      std::vector<float> values(model.parameters[tensor].length);
      for (float& value : values) {
        value = random.pick<float>({least, std::nextafter(least, 0.0f), 2 * least, 0x1p-126f, 0x1p-149f, 0});
      }
      for (Training* const training : trainings) {
        training->optimizer().write_plane({plane, term, tensor, 0, values.size()}, values.data());
      }
    }
  }
}

/// The options for whole steps: other anchors need the norms of all terms, kSkipStep skips all terms, cosines need all
/// gradients.
inline Model with_options_of_whole_steps(Random& random, Model model) {
  model.options.anchor = random.pick<Anchor>({Anchor::kFirst, Anchor::kMax, Anchor::kMean, Anchor::kTerm});
  model.options.anchor_term = static_cast<std::uint32_t>(random.below(model.options.terms));
  if (random.chance(0.5)) model.options.form.non_finite = NonFinite::kSkipStep;
  model.options.form.cosines = random.chance(0.5);
  return model;
}

/// How often a term is absent, absent for one tensor, silent (zeros), has a NaN or an infinity, or has a gradient so
/// large that it may leave float32 when it is scaled.
struct Mishaps {
  double term = 0.1;
  double tensor = 0.15;
  double zeros = 0.05;
  double not_finite = 0.05;
  double huge = 0;
};

inline Gradients random_gradients(Random& random, const Model& model, const Mishaps& mishaps) {
  Gradients gradients(model.options.terms);
  for (std::uint32_t term = 0; term < model.options.terms; ++term) {
    const bool none = random.chance(mishaps.term);
    const float scale = std::fabs(random.of_magnitude(-6, 6));
    for (const ParameterShape& shape : model.parameters) {
      gradients[term].emplace_back();
      if (none || random.chance(mishaps.tensor)) continue;
      std::vector<float>& values = gradients[term].back().emplace(shape.length);
      if (random.chance(mishaps.zeros)) continue;
      for (float& value : values) value = scale * static_cast<float>(random.between(-1, 1));
      // Elements that get little or nothing: subnormal moments, and denominators of epsilon alone.
      for (std::size_t k = 0; k < values.size() / 8; ++k) {
        values[random.below(values.size())] = random.chance(0.5) ? 0.0f : random.of_magnitude(-149, -60);
      }
      // Without a draw where the chance is 0, so that the digests' trainings stay as they are.
      if (mishaps.huge > 0 && random.chance(mishaps.huge)) {
        const float factor = std::fabs(random.of_magnitude(30, 100));
        for (float& value : values) value *= factor;
      }
      if (!values.empty() && random.chance(mishaps.not_finite)) {
        values[random.below(values.size())] = random.chance(0.5) ? std::nanf("") : -HUGE_VALF;
      }
    }
  }
  return gradients;
}

inline std::vector<Gradients> random_steps(Random& random, const Model& model, std::size_t count,
                                           const Mishaps& mishaps = {}) {
  std::vector<Gradients> steps;
  for (std::size_t k = 0; k < count; ++k) steps.push_back(random_gradients(random, model, mishaps));
  return steps;
}

}  // namespace mtadam::test
