#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "cpu/instruction_set.h"
#include "math/moments.h"
#include "support.h"
#include "training.h"

// Whole steps with moments in bfloat16 and in 8 bits, on the CPU.

namespace mtadam {
namespace {

using test::Alignment;
using test::default_group;
using test::Gradients;
using test::Model;
using test::Random;
using test::random_model;
using test::random_steps;
using test::same_saved_state;
using test::Snapshot;
using test::Training;
using test::with_state;

constexpr StateType kLean[] = {StateType::kBfloat16, StateType::k8bit};

/// Random options, and gradients with mishaps.
Model lean_model(Random& random, const std::vector<std::uint64_t>& lengths, StateType type) {
  const Model model = with_one_v(random, with_units(random, random_model(random, lengths, 3)));
  return with_state(model, type);
}

/// One tensor, no decay.
Model plain_model(std::uint64_t length, std::uint32_t terms, StateType type) {
  Model model;
  model.options.terms = terms;
  model.parameters = {{length, 0, 0}};
  model.groups = {default_group()};
  model.weights.assign(terms, 1);
  model.theta = {std::vector<float>(length, 0.25f)};
  return with_state(model, type);
}

float normal(Random& random) {
  return static_cast<float>(std::sqrt(-2 * std::log(random.between(1e-300, 1))) *
                            std::cos(2 * 3.14159265358979323846 * random.between(0, 1)));
}

// Around a tile, a block and a chunk; and tails of every kind.
const std::vector<std::uint64_t> kLengths{4096, 100, 4097, 5247, 8192, 9000};

TEST(LeanState, IsTheSameForAllInstructionSetsThreadsAndAlignments) {
  Random random(51);
  for (int round = 0; round < 8; ++round) {
    const Model model = lean_model(random, kLengths, kLean[round % 2]);
    Training expected(model, 1, "");
    std::vector<std::unique_ptr<Training>> others;
    for (const InstructionSet& set : instruction_sets())
      others.push_back(std::make_unique<Training>(model, 1, set.name));
    others.push_back(std::make_unique<Training>(model, 3, ""));
    others.push_back(std::make_unique<Training>(model, std::make_shared<CpuDevice>(2), Alignment::kAnyhow));
    for (const Gradients& gradients : random_steps(random, model, 3)) {
      const bool streams = random.chance(0.5);
      streams ? expected.stream(gradients) : expected.step(gradients);
      for (const std::unique_ptr<Training>& other : others) {
        streams ? other->stream(gradients) : other->step(gradients);
      }
    }
    for (std::size_t k = 0; k < others.size(); ++k) {
      ASSERT_TRUE(same_saved_state(expected.snapshot(), others[k]->snapshot())) << "round " << round << ", other " << k;
    }
  }
}

TEST(LeanState, StepsAsAccumulatingAndUpdatingDoesWithMomentsPerTerm) {
  Random random(52);
  for (int round = 0; round < 6; ++round) {
    Model model = random_model(random, kLengths, 3);
    model.options.form.summed = false;
    model = with_state(model, kLean[round % 2]);
    Training whole(model, 1), streamed(model, 1);
    for (const Gradients& gradients : random_steps(random, model, 3)) {
      whole.step(gradients);
      streamed.stream(gradients);
    }
    ASSERT_TRUE(same_saved_state(whole.snapshot(), streamed.snapshot())) << "round " << round;
  }
}

TEST(LeanState, LeavesSmallTensorsInFloat32) {
  Random random(53);
  for (const StateType type : kLean) {
    Model model = random_model(random, {1, 4095, 300}, 2);
    model.options.form.amsgrad = false;
    Training plain(model, 1), lean(with_state(model, type), 1);
    for (const Gradients& gradients : random_steps(random, model, 3)) {
      plain.step(gradients);
      lean.step(gradients);
    }
    ASSERT_TRUE(same_saved_state(plain.snapshot(), lean.snapshot()));
  }
}

TEST(LeanState, DoesNotTouchTheMomentsOfAnAbsentTerm) {
  Random random(54);
  for (const StateType type : kLean) {
    const Model model = plain_model(4500, 2, type);
    Training training(model, 1);
    for (const Gradients& gradients : random_steps(random, model, 3, {0, 0, 0, 0, 0})) training.step(gradients);
    std::vector<std::byte> before(4500 * 2), after(before.size());
    std::vector<std::uint8_t> exponents(36), later(36);
    const PlaneRange range{Plane::v, 1, 0, 0, 4500};
    const PlaneRange blocks{Plane::v, 1, 0, 0, exponents.size()};
    training.optimizer().read_stored(Stored::kCodes, range, before.data());
    if (type == StateType::k8bit) training.optimizer().read_stored(Stored::kExponents, blocks, exponents.data());
    Gradients first = random_steps(random, model, 1, {0, 0, 0, 0, 0})[0];
    first[1][0].reset();
    training.step(first);
    training.optimizer().read_stored(Stored::kCodes, range, after.data());
    if (type == StateType::k8bit) training.optimizer().read_stored(Stored::kExponents, blocks, later.data());
    EXPECT_EQ(before, after);
    EXPECT_EQ(exponents, later);
  }
}

TEST(LeanState, DrawsByNamesSoThatOrderDoesNotMatter) {
  Random random(55);
  for (const StateType type : kLean) {
    Model model = with_state(random_model(random, {4200, 9000}, 2), type);
    model.options.form = {};
    model.parameters[0].layer = 0;
    model.parameters[1].layer = 1;
    Model turned = model;
    std::swap(turned.parameters[0], turned.parameters[1]);
    std::swap(turned.parameters[0].layer, turned.parameters[1].layer);
    std::swap(turned.theta[0], turned.theta[1]);
    Training straight(model, 1), reordered(turned, 1);
    for (Gradients gradients : random_steps(random, model, 3, {0, 0, 0, 0, 0})) {
      straight.step(gradients);
      for (auto& term : gradients) std::swap(term[0], term[1]);
      reordered.step(gradients);
    }
    const Snapshot expected = straight.snapshot(), actual = reordered.snapshot();
    for (std::size_t k = 0; k < 2; ++k) {
      EXPECT_TRUE(test::same_bits(expected.theta[k], actual.theta[1 - k]));
      EXPECT_TRUE(test::same_bits(expected.planes[k], actual.planes[1 - k]));
    }
  }
}

// ---- Against a scalar step ------------------------------------------------------------------------------------

/// One plane of one tensor before and after a step.
struct Stored {
  std::vector<float> before, after;
};

/// What a plane must hold, from its values before rounding.
std::vector<float> rounded(const std::vector<float>& values, const Model& model, bool second, std::uint32_t stream,
                           std::uint64_t step) {
  std::vector<float> result;
  std::uint32_t exponent = 0;
  for (std::uint32_t k = 0; k < values.size(); ++k) {
    const ChunkKey key = chunk_key(model.options.seed, step, model.parameters[0].key, k / 4096);
    const std::uint32_t word = stream_word(element_word(key, k % 4096), stream);
    const float value = values[k];
    if (model.state_type == StateType::kBfloat16) {
      result.push_back(decoded_bfloat16(second ? drawn_bfloat16(value, word >> 16) : nearest_bfloat16(value)));
      continue;
    }
    if (k % 128 == 0) {
      std::uint32_t largest = 0;
      for (std::size_t j = k; j < std::min<std::size_t>(k + 128, values.size()); ++j) {
        largest = std::max(largest, bits_of(std::fabs(values[j])));
      }
      exponent = second ? v_exponent(largest) : m_exponent(largest);
    }
    result.push_back(second ? rounded_v(value, v_base(exponent), word >> 12).value
                            : rounded_m(value, m_up(exponent), m_down(exponent), word & 0xfffff).value);
  }
  return result;
}

std::vector<float> read(Training& training, Plane plane, std::uint32_t term, std::size_t length) {
  std::vector<float> values(length);
  training.optimizer().read_plane({plane, term, 0, 0, length}, values.data());
  return values;
}

enum class Decay { kNone, kCoupled, kDecoupled };

/// What a step is compared in.
struct Kind {
  StateType type;
  bool summed, one_v;
  std::uint32_t terms;
  Decay decay;
};

constexpr double kLambda = 0.25;
constexpr std::size_t kScalarLength = 4096 + 1024 + 77;

GroupElements elements_of(Decay decay) {
  const float coupled = decay == Decay::kCoupled ? static_cast<float>(kLambda) : 0;
  const float decoupled = decay == Decay::kDecoupled ? static_cast<float>(1e-3 * kLambda) : 0;
  return {0.9f, 0.1f, 0.999f, 0.001f, 1e-8f, coupled, decoupled};
}

/// Takes a step and compares every plane and θ with a scalar step.
void compare_with_scalar_step(Training& training, const Model& model, const Kind& kind, const Gradients& gradients,
                              std::uint64_t step) {
  const std::uint32_t shared = stream_key(name_key("\0M", 2));
  const GroupElements k = elements_of(kind.decay);
  std::vector<std::vector<float>> m, v;
  for (std::uint32_t term = 0; term < kind.terms; ++term) {
    m.push_back(read(training, Plane::m, term, kScalarLength));
    v.push_back(read(training, Plane::v, term, kScalarLength));
  }
  std::vector<float> theta = training.theta()[0];
  training.step(gradients);
  for (std::size_t e = 0; e < kScalarLength; ++e) {
    const auto share = [&](std::uint32_t term) {
      return static_cast<float>(training.optimizer().norm_states(term)[0].s) * (*gradients[term][0])[e];
    };
    const auto decayed = [&](float g) { return kind.decay == Decay::kCoupled ? g + k.coupled * theta[e] : g; };
    if (kind.one_v) {
      float sum = share(0);
      for (std::uint32_t term = 1; term < kind.terms; ++term) sum += share(term);
      m[0][e] = first_moment(m[0][e], decayed(sum), k);
      v[0][e] = second_moment(v[0][e], decayed(sum), k);
      continue;
    }
    if (kind.summed) m[0][e] = decayed_sum(m[0][e], k);
    for (std::uint32_t term = 0; term < kind.terms; ++term) {
      const float g = decayed(share(term));
      if (kind.summed) m[0][e] = added_to_sum(m[0][e], g, k);
      if (!kind.summed) m[term][e] = first_moment(m[term][e], g, k);
      v[term][e] = second_moment(v[term][e], g, k);
    }
  }
  const std::uint32_t firsts = kind.summed ? 1 : kind.terms, seconds = kind.one_v ? 1 : kind.terms;
  const auto own = [&](std::uint32_t term) { return stream_key(model.options.term_keys[term]); };
  for (std::uint32_t term = 0; term < firsts; ++term) {
    m[term] = rounded(m[term], model, false, kind.summed ? shared : own(term), step);
    ASSERT_TRUE(test::same_bits(m[term], read(training, Plane::m, term, kScalarLength))) << "m " << term;
  }
  for (std::uint32_t term = 0; term < seconds; ++term) {
    v[term] = rounded(v[term], model, true, kind.one_v ? shared : own(term), step);
    ASSERT_TRUE(test::same_bits(v[term], read(training, Plane::v, term, kScalarLength))) << "v " << term;
  }
  const Clock clock = training.optimizer().clocks(0)[0];
  const auto c = static_cast<float>(1e-3 / (1 - clock.p1));
  const auto b = static_cast<float>(std::sqrt(1 - clock.p2));
  for (std::size_t e = 0; e < kScalarLength; ++e) {
    float largest = v[0][e], u = c * m[0][e];
    for (std::uint32_t term = 1; term < seconds; ++term) largest = std::max(largest, v[term][e]);
    for (std::uint32_t term = 1; term < firsts; ++term) u += c * m[term][e];
    const float q = u / denominator(largest, b, k);
    theta[e] -= kind.decay == Decay::kDecoupled ? k.decoupled * theta[e] + q : q;
  }
  ASSERT_TRUE(test::same_bits(theta, training.theta()[0]));
}

// θ moves by what is stored, not by what was rounded. Few terms are taken by one loop, more of them by tiles.
TEST(LeanState, RoundsTheMomentsAndMovesByWhatIsStored) {
  Random random(56);
  for (const InstructionSet& set : instruction_sets()) {
    for (unsigned form = 0; form < 18; ++form) {
      for (std::uint32_t terms = 1; terms <= 6; ++terms) {
        const std::uint32_t sums = form / 2 % 3;  // none, M, M and V
        const Kind kind{kLean[form % 2], sums > 0, sums > 1, terms, static_cast<Decay>(form / 6)};
        if (terms > 4 && !kind.one_v) continue;
        SCOPED_TRACE(std::string(set.name) + ", form " + std::to_string(form) + ", terms " + std::to_string(terms));
        Model model = plain_model(kScalarLength, terms, kind.type);
        model.options.form.summed = kind.summed;
        model.options.form.one_v = kind.one_v;
        model.groups[0].weight_decay = kind.decay == Decay::kNone ? 0 : kLambda;
        model.groups[0].decoupled = kind.decay == Decay::kDecoupled;
        Training training(model, 1, set.name);
        for (std::uint64_t step = 0; step < 2; ++step) {
          const Gradients gradients = random_steps(random, model, 1, {0, 0, 0, 0, 0})[0];
          compare_with_scalar_step(training, model, kind, gradients, step);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

// ---- Long trainings -------------------------------------------------------------------------------------------

double mean_of(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value);
  return sum / static_cast<double>(values.size());
}

/// The mean of v after so many steps with gradients of unit variance, and after as many more with a hundredth of them.
std::pair<double, double> means_of_v(StateType type) {
  constexpr int kSteps = 4000;
  const Model model = plain_model(4096, 1, type);
  Training training(model, 1);
  Random random(57);
  std::vector<Gradients> pool(16, Gradients(1));
  for (Gradients& gradients : pool) {
    std::vector<float>& values = gradients[0].emplace_back().emplace(4096);
    for (float& value : values) value = normal(random);
  }
  for (int k = 0; k < kSteps; ++k) training.step(pool[random.below(pool.size())]);
  const double grown = mean_of(read(training, Plane::v, 0, 4096));
  for (Gradients& gradients : pool) {
    for (float& value : *gradients[0][0]) value *= 0.01f;
  }
  for (int k = 0; k < kSteps; ++k) training.step(pool[random.below(pool.size())]);
  return {grown, mean_of(read(training, Plane::v, 0, 4096))};
}

// Rounded to nearest, a change of v by a thousandth is lost: v neither reaches its mean nor decays.
TEST(LeanState, AveragesAndForgetsSquaresAsFloat32Does) {
  const auto [grown, shrunk] = means_of_v(StateType::kFloat32);
  for (const StateType type : kLean) {
    const auto [lean_grown, lean_shrunk] = means_of_v(type);
    EXPECT_NEAR(lean_grown / grown, 1, 0.02);
    EXPECT_NEAR(lean_shrunk / shrunk, 1, 0.1);
  }
}

/// The largest step of an element, in units of lr: gradients over four orders of magnitude, with outliers, or sparse.
double largest_step(StateType type, bool sparse, bool summed) {
  constexpr std::size_t kLength = 4096;
  constexpr int kSteps = 1500;
  Model model = plain_model(kLength, 3, type);
  model.options.form.summed = summed;
  Training training(model, 1);
  Random random(58);
  std::vector<float> scales(kLength);
  for (float& scale : scales) scale = static_cast<float>(std::pow(10, random.between(-4, 0)));
  std::vector<Gradients> pool(24, Gradients(3));
  for (Gradients& gradients : pool) {
    for (auto& term : gradients) {
      std::vector<float>& values = term.emplace_back().emplace(kLength);
      for (std::size_t k = 0; k < kLength; ++k) {
        const bool silent = sparse && (k / 64 + random.below(8)) % 8 != 0;
        values[k] = silent ? 0 : scales[k] * normal(random) * (random.chance(0.001) ? 100.0f : 1.0f);
      }
    }
  }
  double largest = 0;
  std::vector<float> before = training.theta()[0];
  for (int k = 0; k < kSteps; ++k) {
    training.step(pool[random.below(pool.size())]);
    const std::vector<float> after = training.theta()[0];
    for (std::size_t e = 0; e < kLength; ++e) {
      largest = std::max(largest, std::fabs(static_cast<double>(after[e]) - static_cast<double>(before[e])));
    }
    before = after;
  }
  return largest / 1e-3;
}

// If v may round to 0 where m does not, the step is m/ε.
TEST(LeanState, StepsNoFurtherThanFloat32WhereGradientsSpreadOrAreSparse) {
  for (const bool summed : {false, true}) {
    for (const bool sparse : {false, true}) {
      const double expected = largest_step(StateType::kFloat32, sparse, summed);
      for (const StateType type : kLean) {
        EXPECT_LE(largest_step(type, sparse, summed), 1.5 * expected) << "sparse: " << sparse << ", summed: " << summed;
      }
    }
  }
}

}  // namespace
}  // namespace mtadam
