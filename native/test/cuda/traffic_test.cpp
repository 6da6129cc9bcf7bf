#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda/cuda_device.h"
#include "test/cuda/on_executor.h"
#include "test/simt/access.h"
#include "test/training.h"

// The bytes that a step moves: exactly the minimum for elements, and few others. Memory traffic decides how fast a step
// is.

namespace mtadam {
namespace {

using simt::access::Watch;
using test::Alignment;
using test::Gradients;
using test::Model;
using test::Random;
using test::Training;

/// A CUDA device that counts what its kernels read and write.
class MeasuredDevice final : public Device {
 public:
  MeasuredDevice() : device_(0, 0) {}

  std::unique_ptr<Memory> allocate(std::size_t bytes) override {
    std::unique_ptr<Memory> memory = device_.allocate(bytes);
    allocations_.push_back({memory->data(), bytes});
    return memory;
  }
  void write(void* to, const void* from, std::size_t bytes, Stream stream) override {
    device_.write(to, from, bytes, stream);
  }
  void read(void* to, const void* from, std::size_t bytes, Stream stream) override {
    device_.read(to, from, bytes, stream);
  }
  std::unique_ptr<HostCopy> read_later(const void* from, std::size_t bytes, Stream stream) override {
    return device_.read_later(from, bytes, stream);
  }
  void fill(void* to, std::uint64_t pattern, std::size_t element, std::size_t bytes, Stream stream) override {
    device_.fill(to, pattern, element, bytes, stream);
  }
  std::string name() const override { return device_.name(); }
  bool immediate() const override { return device_.immediate(); }
  Stream default_stream() const override { return device_.default_stream(); }
  Stream own_stream() const override { return device_.own_stream(); }
  void check_stream(Stream stream) const override { device_.check_stream(stream); }
  void check_range(const void* address, std::size_t bytes) const override { device_.check_range(address, bytes); }
  std::unique_ptr<Event> make_event() override { return device_.make_event(); }
  std::unique_ptr<Graph> capture(Stream stream, const std::function<void(Stream)>& calls) override {
    return device_.capture(stream, calls);
  }
  std::unique_ptr<Event> all_done() override { return device_.all_done(); }
  void load(const Tables& tables) override { device_.load(tables); }
  void zero(const Tables& tables, const Call& call, Stream stream) override { device_.zero(tables, call, stream); }
  void add(void* target, const void* source, std::uint64_t count, ElementType type, Stream stream) override {
    device_.add(target, source, count, type, stream);
  }
  void norms(const Tables& tables, const Call& call, Stream stream) override {
    measure(tables, call, [&] { device_.norms(tables, call, stream); });
  }
  void cosines(const Tables& tables, const Call& call, Stream stream) override {
    measure(tables, call, [&] { device_.cosines(tables, call, stream); });
  }
  void moments(const Tables& tables, const Call& call, Stream stream) override {
    measure(tables, call, [&] { device_.moments(tables, call, stream); });
  }
  void update(const Tables& tables, Stream stream) override {
    measure(tables, {}, [&] { device_.update(tables, stream); });
  }
  void update(const Tables& tables, const Call& call, Stream stream) override {
    measure(tables, call, [&] { device_.update(tables, call, stream); });
  }
  bool step_in_one_pass(const Tables& tables, const Call& call, const OnePass& pass) override {
    bool done = false;
    measure(tables, call, [&] { done = device_.step_in_one_pass(tables, call, pass); });
    return done;
  }
  bool accumulate_in_one_pass(const Tables& tables, const Call& call, const OnePass& pass) override {
    bool done = false;
    measure(tables, call, [&] { done = device_.accumulate_in_one_pass(tables, call, pass); });
    return done;
  }

  /// The bytes of parameters, gradients and moments since the last call, counted per access.
  std::uint64_t element_bytes() { return std::exchange(element_bytes_, 0); }
  /// The share of these bytes in 16-byte accesses.
  std::uint64_t vector_bytes() { return std::exchange(vector_bytes_, 0); }
  int launches() { return std::exchange(launches_, 0); }
  /// All other bytes, each once per launch: threads that read the same record get it from the cache.
  std::uint64_t other_bytes() { return std::exchange(other_bytes_, 0); }

 private:
  struct Range {
    const void* begin;
    std::size_t bytes;
  };
  using Watches = std::vector<std::unique_ptr<Watch>>;

  static std::uint64_t both(const simt::access::Traffic& traffic) { return traffic.read + traffic.written; }

  template <class T>
  std::vector<T> copy(const T* from, std::size_t count) {
    std::vector<T> values(count);
    device_.read(values.data(), from, count * sizeof(T), nullptr);
    return values;
  }

  /// The memory of the elements that a launch may access.
  std::vector<Range> element_ranges(const Tables& tables, const Call& call) {
    const std::vector<Tensor> tensors = copy(tables.tensors, tables.tensor_count);
    std::vector<Range> ranges;
    const auto add = [&](const void* begin, std::uint64_t bytes) {
      if (begin != nullptr && bytes > 0) ranges.push_back({begin, bytes});
    };
    const auto add_plane = [&](const float* plane) {
      for (const Tensor& tensor : tensors) {
        if (!tensor.lean) add(plane == nullptr ? nullptr : plane + tensor.plane, tensor.length * sizeof(float));
      }
    };
    // Without their exponents.
    const auto add_codes = [&](const CodePlanes& codes) {
      const std::uint64_t bytes = code_bytes(tables.state_type);
      for (const CodePlane& plane : {codes.m, codes.v, codes.x}) {
        for (const Tensor& tensor : tensors) {
          if (plane.codes == nullptr || !tensor.lean) continue;
          ranges.push_back({plane.codes + tensor.plane * bytes, tensor.length * bytes});
        }
      }
    };
    const std::vector<float*> parameters = copy(tables.parameters, tensors.size());
    const std::byte* const masters = tables.shared.masters;
    for (std::size_t k = 0; k < tensors.size(); ++k) {
      const Tensor& tensor = tensors[k];
      add(parameters[k], tensor.length * mtadam::element_bytes(tensor.type));
      if (masters != nullptr) add(masters + tensor.master, tensor.length * master_bytes(tensor.type));
    }
    for (std::uint32_t row = 0; row < call.count; ++row) {
      const auto places = copy(call.gradients + row * tensors.size(), tensors.size());
      for (std::size_t k = 0; k < tensors.size(); ++k) {
        add(places[k], tensors[k].length * mtadam::element_bytes(tensors[k].gradient));
      }
    }
    for (const Term& term : copy(tables.terms, tables.term_count)) {
      for (const float* plane : {term.m, term.v, term.x}) add_plane(plane);
      add_codes(term.codes);
    }
    add_codes(tables.shared.codes);
    const Shared& shared = tables.shared;
    for (const float* plane : {shared.m, shared.v, shared.x}) add_plane(plane);
    if (shared.gathered != nullptr) {
      for (const Tensor& tensor : tensors) add(shared.gathered + tensor.gathered, tensor.length * sizeof(float));
    }
    return ranges;
  }

  static Watches watch(const std::vector<Range>& ranges) {
    Watches watches;
    for (const Range& range : ranges) watches.push_back(std::make_unique<Watch>(range.begin, range.bytes));
    return watches;
  }

  template <class Launch>
  void measure(const Tables& tables, const Call& call, const Launch& launch) {
    const Watches elements = watch(element_ranges(tables, call)), all = watch(allocations_);
    simt::access::reset_total();
    launch();
    std::uint64_t seen = 0;
    launches_ += both(simt::access::total()) != 0;
    for (const auto& each : elements) {
      element_bytes_ += both(each->traffic());
      vector_bytes_ += both(each->in_accesses_of(16));
      other_bytes_ -= both(each->touched());
    }
    for (const auto& each : all) {
      other_bytes_ += both(each->touched());
      seen += both(each->traffic());
    }
    EXPECT_EQ(seen, both(simt::access::total())) << "memory that nobody allocated here";
  }

  cuda::CudaDevice device_;
  std::vector<Range> allocations_;
  std::uint64_t element_bytes_ = 0, vector_bytes_ = 0, other_bytes_ = 0;
  int launches_ = 0;  // that read or wrote anything
};

enum class Decay { kNone, kCoupled, kDecoupled };

struct Case {
  std::uint64_t terms;
  StateForm form;
  Decay decay;
  Alignment alignment;
};

std::string name(const Case& c) {
  return std::to_string(c.terms) + " terms" +
         (c.form.one_v    ? ", both summed"
          : c.form.summed ? ", summed"
                          : "") +
         (c.form.amsgrad ? ", amsgrad" : "") +
         (c.decay == Decay::kNone      ? ""
          : c.decay == Decay::kCoupled ? ", coupled"
                                       : ", decoupled") +
         (c.alignment == Alignment::kVectors ? "" : ", misaligned");
}

// The table of docs/algorithm.md.
std::uint64_t resident_floor(const Case& c) {
  if (c.form.one_v) return 8 * c.terms + 24 + (c.form.amsgrad ? 8 : 0);
  const std::uint64_t amsgrad = c.form.summed ? 8 : 8 * c.terms;
  return (c.form.summed ? 16 * c.terms + 16 : 24 * c.terms + 8) + (c.form.amsgrad ? amsgrad : 0);
}

std::uint64_t streamed_floor(const Case& c) {
  if (c.form.one_v) return 16 * c.terms + 24 + (c.form.amsgrad ? 8 : 0);
  const std::uint64_t amsgrad = c.form.summed ? 8 : 8 * c.terms;
  return (c.form.summed ? 28 * c.terms + 12 : 32 * c.terms + 8) + (c.form.amsgrad ? amsgrad : 0) +
         (c.decay == Decay::kCoupled ? 4 * c.terms : 0);
}

const std::vector<std::uint64_t> kLengths{4099, 0, 9, 300};
constexpr std::uint64_t kElements = 4099 + 9 + 300;

/// One layer per tensor.
Model model_of(Random& random, const Case& c, const std::vector<std::uint64_t>& lengths = kLengths) {
  Model model = test::random_model(random, lengths, static_cast<std::uint32_t>(c.terms));
  model.options.form = c.form;
  for (std::uint32_t tensor = 0; tensor < lengths.size(); ++tensor) {
    model.parameters[tensor].layer = tensor;
    model.parameters[tensor].group = 0;
  }
  for (GroupOptions& group : model.groups) {
    group.weight_decay = c.decay == Decay::kNone ? 0 : 1e-2;
    group.decoupled = c.decay == Decay::kDecoupled;
  }
  return model;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::uint64_t terms : {1, 3, 9}) {
    for (const bool summed : {false, true}) {
      for (const bool amsgrad : {false, true}) {
        for (const Decay decay : {Decay::kNone, Decay::kCoupled, Decay::kDecoupled}) {
          for (const Alignment alignment : {Alignment::kVectors, Alignment::kAnyhow}) {
            all.push_back({terms, {summed, amsgrad}, decay, alignment});
            if (!summed) continue;
            all.push_back(all.back());
            all.back().form.one_v = true;
          }
        }
      }
    }
  }
  return all;
}

class Traffic : public test::OnExecutor {
 protected:
  void SetUp() override {
    OnExecutor::SetUp();
    ASSERT_TRUE(simt::access::active());
  }
};

TEST_F(Traffic, IsTheFloor) {
  Random random(93);
  for (Case c : cases()) {
    c.form.network = random.chance(0.5);
    SCOPED_TRACE(name(c) + (c.form.network ? ", network" : ""));
    const Model model = model_of(random, c);
    const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
    const auto device = std::make_shared<MeasuredDevice>();
    Training training(model, device, c.alignment);
    training.step(gradients);
    EXPECT_EQ(device->element_bytes(), resident_floor(c) * kElements);
    training.stream(gradients);
    EXPECT_EQ(device->element_bytes(), streamed_floor(c) * kElements);
  }
}

/// Planes of moments: `sums` of them are shared by all terms.
std::uint64_t moment_planes(std::uint64_t terms, std::uint64_t sums) {
  return (sums > 0 ? 1 : terms) + (sums > 1 ? 1 : terms);
}

/// A tensor of this length; `sums` planes of moments are shared by all terms.
Model lean_model(Random& random, StateType type, std::uint64_t terms, std::uint64_t sums, std::uint64_t length) {
  Model model = model_of(random, {terms, {sums > 0, false}, Decay::kNone, Alignment::kVectors}, {length});
  model.options.form.one_v = sums > 1;
  return test::with_state(model, type);
}

// The table of docs/guide.md; exponents count apart. A moment is read and written.
TEST_F(Traffic, OfALeanStateIsThatOfItsCodes) {
  Random random(97);
  constexpr std::uint64_t kLength = 8192;
  for (const StateType type : {StateType::kBfloat16, StateType::k8bit}) {
    for (const std::uint64_t terms : {1, 3, 9}) {
      for (const std::uint64_t sums : {0, 1, 2}) {
        const Model model = lean_model(random, type, terms, sums, kLength);
        SCOPED_TRACE(name({terms, model.options.form, Decay::kNone, Alignment::kAnyhow}));
        const std::uint64_t code = code_bytes(type), moments = moment_planes(terms, sums);
        const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
        const auto device = std::make_shared<MeasuredDevice>();
        Training training(model, device, Alignment::kAnyhow);
        training.step(gradients);
        EXPECT_EQ(device->element_bytes(), (8 * terms + 8 + 2 * code * moments) * kLength);
        training.stream(gradients);
        // Each term reads and writes its planes, and the update reads all; a pair is only touched by the update, and
        // the sum of the gradients, in float32, by all.
        const std::uint64_t streamed = sums > 1 ? 16 * terms + 4 * code : 8 * terms + 4 * code * terms + code * moments;
        EXPECT_EQ(device->element_bytes(), (streamed + 8) * kLength);
      }
    }
  }
}

// One byte for 128 codes, read and written, and the address of each plane of a term, which its record holds.
TEST_F(Traffic, OfExponentsIsAByteForABlock) {
  Random random(102);
  constexpr std::uint64_t kLength = 8192, kTerms = 3;
  for (const bool lagged : {false, true}) {
    for (const std::uint64_t sums : {0, 1, 2}) {
      const auto other_bytes = [&](StateType type) {
        Model model = lean_model(random, type, kTerms, sums, kLength);
        model.options.form.lagged = lagged;
        if (lagged) model.options.form.non_finite = NonFinite::kPropagate;
        const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
        const auto device = std::make_shared<MeasuredDevice>();
        Training training(model, device);
        training.step(gradients);
        device->other_bytes();
        training.step(gradients);
        return device->other_bytes();
      };
      const std::uint64_t without = other_bytes(StateType::kBfloat16), with = other_bytes(StateType::k8bit);
      const std::uint64_t planes = moment_planes(kTerms, sums), addresses = sizeof(void*) * (planes - sums);
      EXPECT_EQ(with - without, 2 * planes * kLength / kCodeBlock + addresses) << sums << ", " << lagged;
    }
  }
}

// 2 bytes per element and read in place of 4, also where a state is lean.
TEST_F(Traffic, OfNarrowGradientsIsHalfOfTheirs) {
  Random random(98);
  constexpr std::uint64_t kLength = 4099;
  for (const Case& c : cases()) {
    if (c.alignment == Alignment::kVectors) continue;
    SCOPED_TRACE(name(c));
    Model model = model_of(random, c, {kLength});
    model.parameters[0].gradient = random.pick<ElementType>({ElementType::kBfloat16, ElementType::kFloat16});
    const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
    const auto device = std::make_shared<MeasuredDevice>();
    Training training(model, device, c.alignment);
    training.step(gradients);
    EXPECT_EQ(device->element_bytes(), (resident_floor(c) - 4 * c.terms) * kLength);
    training.stream(gradients);
    EXPECT_EQ(device->element_bytes(), (streamed_floor(c) - 4 * c.terms) * kLength);
  }
  Case with_cosines{3, {}, Decay::kNone, Alignment::kVectors};
  with_cosines.form.cosines = true;
  Model model = model_of(random, with_cosines, {kLength});
  model.parameters[0].gradient = ElementType::kBfloat16;
  const auto device = std::make_shared<MeasuredDevice>();
  Training training(model, device);
  training.step(test::random_gradients(random, model, {0, 0, 0, 0}));
  EXPECT_EQ(device->element_bytes(), (resident_floor(with_cosines) - 4 * 3 + 2 * 3) * kLength);
}

TEST_F(Traffic, OfALeanStateWithNarrowGradientsIsThatOfTheirCodes) {
  Random random(99);
  constexpr std::uint64_t kLength = 8192, kTerms = 3;
  for (const StateType type : {StateType::kBfloat16, StateType::k8bit}) {
    for (const std::uint64_t sums : {0, 1, 2}) {
      Model model = lean_model(random, type, kTerms, sums, kLength);
      model.parameters[0].gradient = ElementType::kBfloat16;
      const auto device = std::make_shared<MeasuredDevice>();
      Training training(model, device);
      training.step(test::random_gradients(random, model, {0, 0, 0, 0}));
      const std::uint64_t moments = moment_planes(kTerms, sums);
      EXPECT_EQ(device->element_bytes(), (4 * kTerms + 8 + 2 * code_bytes(type) * moments) * kLength);
    }
  }
}

/// Without the second read of gradients, the last are 30, 22 and 18 bytes with a bfloat16 θ and its master.
TEST_F(Traffic, OfNarrowParametersIsThatOfTheirCodesAndMasters) {
  Random random(100);
  constexpr std::uint64_t kLength = 8192, kTerms = 3;
  for (const std::uint64_t sums : {0, 1, 2}) {
    for (const StateType type : {StateType::kFloat32, StateType::kBfloat16, StateType::k8bit}) {
      for (const ElementType theta : {ElementType::kBfloat16, ElementType::kFloat16}) {
        for (const Rounding rounding : {Rounding::kStochastic, Rounding::kNearest, Rounding::kMaster}) {
          Model model = lean_model(random, type, kTerms, sums, kLength);
          model.options.form.rounding = rounding;
          model.parameters[0].gradient = ElementType::kBfloat16;
          model.parameters[0].type = theta;
          const auto device = std::make_shared<MeasuredDevice>();
          Training training(model, device);
          training.step(test::random_gradients(random, model, {0, 0, 0, 0}));
          const std::uint64_t moment = type == StateType::kFloat32 ? 4 : code_bytes(type);
          const std::uint64_t moments = moment_planes(kTerms, sums);
          const std::uint64_t stored = 2 + (rounding == Rounding::kMaster ? master_bytes(theta) : 0);
          EXPECT_EQ(device->element_bytes(), (4 * kTerms + 2 * moments * moment + 2 * stored) * kLength);
        }
      }
    }
  }
}

/// The first step, which takes the same bytes as with current scales, and two more. Where the network is one unit,
/// the small launches ahead and behind read no elements, and are counted with it.
TEST_F(Traffic, WithLaggedScalesIsOneLaunchThatReadsEachGradientOnce) {
  Random random(101);
  for (Case c : cases()) {
    if (c.terms == 9) c.terms = 8;
    c.form.lagged = true;
    for (const NonFinite rule : {NonFinite::kSkipElement, NonFinite::kPropagate}) {
      c.form.non_finite = rule;
      c.form.network = random.chance(0.5);
      SCOPED_TRACE(name(c) + (c.form.network ? ", network" : ""));
      const Model model = model_of(random, c);
      const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
      const auto device = std::make_shared<MeasuredDevice>();
      Training training(model, device, c.alignment);
      training.step(gradients);
      EXPECT_EQ(device->element_bytes(), resident_floor(c) * kElements);
      EXPECT_EQ(device->launches(), 2);
      training.step(gradients);
      EXPECT_EQ(device->element_bytes(), (resident_floor(c) - 4 * c.terms) * kElements);
      EXPECT_EQ(device->launches(), 1);
      training.stream(gradients);
      EXPECT_EQ(device->element_bytes(), (streamed_floor(c) - 4 * c.terms) * kElements);
      EXPECT_EQ(device->launches(), static_cast<int>(c.terms) + 1);
    }
  }
  const auto bytes_of = [](bool summed, bool one_v) {
    Case c{3, {summed}, Decay::kNone, Alignment::kVectors};
    c.form.one_v = one_v;
    return resident_floor(c) - 4 * c.terms;
  };
  EXPECT_EQ(bytes_of(false, false), 68u);
  EXPECT_EQ(bytes_of(true, false), 52u);
  EXPECT_EQ(bytes_of(true, true), 36u);
}

/// Types of a model.
struct Types {
  StateType state;
  ElementType gradient, theta;  // a bfloat16 θ has a master of two bytes

  std::uint64_t moment() const { return state == StateType::kFloat32 ? 4 : code_bytes(state); }
};

/// A step with lagged scales reads each gradient once, and reads and writes each moment and parameter. `sums`: 0 of no
/// moments, 1 of the first, 2 of both.
std::uint64_t lagged_floor(const Types& types, std::uint64_t terms, std::uint64_t sums) {
  const std::uint64_t moments = (sums > 0 ? 1 : terms) + (sums > 1 ? 1 : terms);
  return element_bytes(types.gradient) * terms + 2 * types.moment() * moments + 8;
}

/// One `accumulate` per term, which reads and writes m or M, and v; then the update, which reads them. With one pair,
/// an `accumulate` writes G, which the next one reads, or the update; that reads and writes the moments.
std::uint64_t lagged_streamed_floor(const Types& types, std::uint64_t terms, std::uint64_t sums) {
  const std::uint64_t gradients = element_bytes(types.gradient) * terms;
  if (sums > 1) return gradients + 8 * terms + 4 * types.moment() + 8;
  return gradients + 4 * types.moment() * terms + types.moment() * (terms + (sums > 0 ? 1 : terms)) + 8;
}

/// The same where moments, gradients or parameters take fewer bytes.
TEST_F(Traffic, WithLaggedScalesIsThatOfCodesInOneLaunch) {
  Random random(102);
  constexpr std::uint64_t kLength = 4096 + 256;
  constexpr ElementType kWide = ElementType::kFloat32, kNarrow = ElementType::kBfloat16;
  std::vector<Types> all;
  for (const StateType state : {StateType::kFloat32, StateType::kBfloat16, StateType::k8bit}) {
    for (const ElementType gradient : {kWide, kNarrow}) {
      for (const ElementType theta : {kWide, kNarrow}) all.push_back({state, gradient, theta});
    }
  }
  for (const std::uint64_t terms : {1, 3, 8}) {
    for (const std::uint64_t sums : {0, 1, 2}) {
      for (const Types& types : all) {
        const auto alignment = random.pick(test::kAlignments);
        Model model = test::with_state(model_of(random, {terms, {}, Decay::kNone, alignment}, {kLength}), types.state);
        model.options.form.summed = sums > 0;
        model.options.form.one_v = sums > 1;
        model.options.form.lagged = true;
        model.options.form.non_finite = NonFinite::kSkipElement;
        model.options.form.rounding = Rounding::kMaster;
        model.parameters[0].gradient = types.gradient;
        model.parameters[0].type = types.theta;
        SCOPED_TRACE(name({terms, model.options.form, Decay::kNone, alignment}));
        const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
        const std::uint64_t step = lagged_floor(types, terms, sums);
        const auto device = std::make_shared<MeasuredDevice>();
        Training training(model, device, alignment);
        training.step(gradients);
        EXPECT_EQ(device->element_bytes(), (step + element_bytes(types.gradient) * terms) * kLength);
        EXPECT_EQ(device->launches(), 2);
        training.step(gradients);
        EXPECT_EQ(device->element_bytes(), step * kLength);
        EXPECT_EQ(device->launches(), 1);
        training.stream(gradients);
        EXPECT_EQ(device->element_bytes(), lagged_streamed_floor(types, terms, sums) * kLength);
        EXPECT_EQ(device->launches(), static_cast<int>(terms) + 1);
      }
    }
  }
  for (const ElementType theta : {kWide, kNarrow}) {
    EXPECT_EQ(lagged_floor({StateType::kBfloat16, kWide, theta}, 3, 2), 28u);
    EXPECT_EQ(lagged_floor({StateType::k8bit, kWide, theta}, 3, 2), 24u);
    EXPECT_EQ(lagged_floor({StateType::kFloat32, kNarrow, theta}, 3, 2), 30u);
    EXPECT_EQ(lagged_floor({StateType::kBfloat16, kNarrow, theta}, 3, 2), 22u);
    EXPECT_EQ(lagged_floor({StateType::k8bit, kNarrow, theta}, 3, 2), 18u);
  }
}

/// How many gradients per element a step reads for cosines: each once if all terms fit in a tile. Otherwise each tile
/// of terms is paired with every other, and with itself if it has two terms.
std::uint64_t reads_for_cosines(std::uint64_t terms) {
  const std::uint64_t tile = 8, tiles = (terms + tile - 1) / tile;
  return terms * tiles - (terms % tile == 1 ? 1 : 0);
}

TEST_F(Traffic, OfCosinesIsOnePassMoreOverTheGradients) {
  Random random(96);
  for (const std::uint64_t terms : {1, 2, 3, 8, 9, 17}) {
    for (const Alignment alignment : {Alignment::kVectors, Alignment::kAnyhow}) {
      Case c{terms, {}, Decay::kNone, alignment};
      c.form.cosines = true;
      SCOPED_TRACE(name(c));
      const Model model = model_of(random, c);
      const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
      const auto device = std::make_shared<MeasuredDevice>();
      Training training(model, device, c.alignment);
      training.step(gradients);
      EXPECT_EQ(device->element_bytes(), (resident_floor(c) + 4 * reads_for_cosines(terms)) * kElements);
      training.stream(gradients);
      EXPECT_EQ(device->element_bytes(), streamed_floor(c) * kElements);
    }
  }
}

TEST_F(Traffic, GoesInVectorsUpToTheEdges) {
  Random random(94);
  // The norms read a partial segment element by element, and the update those outside its vectors.
  constexpr std::uint64_t kInNorms = 4096 + 256, kInUpdate = 4096 + 8 + 300;
  for (const std::uint64_t terms : {1, 3, 9}) {
    const Case c{terms, {}, Decay::kNone, Alignment::kVectors};
    SCOPED_TRACE(name(c));
    const Model model = model_of(random, c);
    const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
    const auto device = std::make_shared<MeasuredDevice>();
    Training training(model, device);
    training.step(gradients);
    EXPECT_EQ(device->vector_bytes(), 4 * terms * kInNorms + (resident_floor(c) - 4 * terms) * kInUpdate);
    training.stream(gradients);
    EXPECT_EQ(device->vector_bytes(), 4 * terms * kInNorms + (streamed_floor(c) - 4 * terms) * kInUpdate);
  }
}

struct Records {
  std::uint64_t resident, streamed;
};

/// The bytes of a step other than elements.
Records records_of(const std::vector<std::uint64_t>& lengths, std::uint64_t terms, bool summed, bool cosines = false) {
  Random random(95);
  const StateForm form{summed, false, false, NonFinite::kSkipTerm, cosines};
  const Model model = model_of(random, {terms, form, Decay::kNone, Alignment::kVectors}, lengths);
  const Gradients gradients = test::random_gradients(random, model, {0, 0, 0, 0});
  const auto device = std::make_shared<MeasuredDevice>();
  Training training(model, device);
  training.step(gradients);
  const std::uint64_t resident = device->other_bytes();
  training.stream(gradients);
  return {resident, device->other_bytes()};
}

TEST_F(Traffic, OfAChunkIsItsRecordAndItsSums) {
  for (const std::uint64_t terms : {1, 3, 9}) {
    const Records one = records_of({4096}, terms, false), many = records_of({11 * 4096}, terms, false);
    // Each launch reads the chunk's record; a term's sum is written and read again.
    EXPECT_EQ(many.resident - one.resident, 10 * (2 * sizeof(Chunk) + 2 * sizeof(double) * terms));
    EXPECT_EQ(many.streamed - one.streamed, 10 * ((2 * terms + 1) * sizeof(Chunk) + 2 * sizeof(double) * terms));
  }
}

TEST_F(Traffic, OfAChunkWithCosinesIsASumPerPairBesides) {
  for (const std::uint64_t terms : {1, 3, 9}) {
    const Records one = records_of({4096}, terms, false, true), many = records_of({11 * 4096}, terms, false, true);
    const std::uint64_t sums = terms + terms * (terms - 1) / 2;
    EXPECT_EQ(many.resident - one.resident, 10 * (3 * sizeof(Chunk) + 2 * sizeof(double) * sums));
  }
}

// A tensor of one chunk in a layer of its own: the cost that does not depend on its size. A term's norm of before,
// which a term that is withdrawn gets back, is 48 bytes of it.
TEST_F(Traffic, OfATensorIsAFewHundredBytesATerm) {
  for (const std::uint64_t terms : {1, 3, 9}) {
    for (const bool summed : {false, true}) {
      const Records one = records_of({1}, terms, summed);
      const Records many = records_of(std::vector<std::uint64_t>(11, 1), terms, summed);
      EXPECT_LE(many.resident - one.resident, 10 * (260 * terms + 200)) << terms << " terms";
      EXPECT_LE(many.streamed - one.streamed, 10 * (432 * terms + 100)) << terms << " terms";
    }
  }
}

}  // namespace
}  // namespace mtadam
