#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "test/cuda/on_device.h"
#include "test/training.h"

// The same bits on every machine: the final states of seeded trainings must have the digests below, on the host
// executor and on every GPU. No single machine could compare these.

namespace mtadam {
namespace {

using test::Alignment;
using test::Gradients;
using test::Model;
using test::Random;
using test::Snapshot;
using test::Training;

using Digests = test::OnDevice;

/// FNV-1a, 64 bits. All NaNs are equal, as in all tests.
class Digest {
 public:
  void add(float value) { add(std::bit_cast<std::uint32_t>(std::isnan(value) ? kNan<float> : value)); }
  void add(double value) { add(std::bit_cast<std::uint64_t>(std::isnan(value) ? kNan<double> : value)); }
  void add(std::uint64_t bits) {
    for (int byte = 0; byte < 8; ++byte) value_ = (value_ ^ ((bits >> (8 * byte)) & 0xff)) * 0x100000001b3;
  }
  template <class T>
  void add(const std::vector<T>& values) {
    add(std::uint64_t{values.size()});
    for (const T& value : values) add(value);
  }

  std::string text() const {
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(value_));
    return digits;
  }

 private:
  template <class T>
  static constexpr T kNan = std::numeric_limits<T>::quiet_NaN();

  void add(std::uint32_t bits) { add(std::uint64_t{bits}); }

  std::uint64_t value_ = 0xcbf29ce484222325;
};

std::string digest_of(const Snapshot& state) {
  Digest digest;
  digest.add(state.theta);
  digest.add(state.planes);
  digest.add(state.norms);
  digest.add(state.clocks);
  digest.add(state.passing);
  return digest.text();
}

struct Seeded {
  Model model;
  std::vector<Gradients> steps;
  Alignment alignment;
  bool at_once;  // otherwise every other step is taken term by term
};

/// `number` + 1 terms, so that all unrolled kernels and the loop for more terms run.
Seeded seeded_training(std::uint32_t number) {
  Random random(1000 + number);
  Seeded seeded;
  seeded.at_once = number % 2 == 1;
  seeded.model = test::random_model(random, {300, 0, 4097, 1, 33, 8200}, number + 1);
  if (seeded.at_once) seeded.model = test::with_options_of_whole_steps(random, seeded.model);
  seeded.steps = test::random_steps(random, seeded.model, 6, {0.1, 0.15, 0.05, 0.02});
  seeded.alignment = std::array{Alignment::kVectors, Alignment::kAlike, Alignment::kAnyhow}[number % 3];
  return seeded;
}

std::string digest_after(const Seeded& seeded, Training&& training) {
  for (std::size_t step = 0; step < seeded.steps.size(); ++step) {
    seeded.at_once || step % 2 == 0 ? training.step(seeded.steps[step]) : training.stream(seeded.steps[step]);
  }
  return digest_of(training.snapshot());
}

/// By number. A change of the algorithm or the generators changes them: then copy those that the test reports.
constexpr std::array<const char*, 12> kDigests{"4f9d3b4f0c38d437", "f4fe85c0de25a2ba", "62b0e6ab2fc8fa87",
                                               "44474af4fb730d26", "dcfde98660153113", "470e911394940b44",
                                               "6994df2ccab717c3", "c1458729f769e500", "cac51a144c153974",
                                               "7ef17067a7731f56", "8d40aac895706526", "5a6adddc247829ff"};

TEST_F(Digests, AreTheSameOnEveryMachine) {
  Digest all;
  for (std::uint32_t number = 0; number < 12; ++number) {
    const Seeded seeded = seeded_training(number);
    const std::string on_cpu = digest_after(seeded, Training(seeded.model, 1));
    const std::string on_cuda = digest_after(seeded, Training(seeded.model, open(), seeded.alignment));
    EXPECT_EQ(on_cpu, on_cuda) << "training " << number;
    EXPECT_EQ(on_cpu, kDigests[number]) << "training " << number;
    for (const char digit : on_cuda) all.add(static_cast<std::uint64_t>(digit));
  }
  RecordProperty("digest", all.text());  // one line for a report
}

/// Of trainings with both moments summed.
constexpr std::array<const char*, 4> kDigestsOfOneV{"4f9d3b4f0c38d437", "963b571d3ccf997b", "0b68849fe38735b5",
                                                    "8969546586630bc7"};

TEST_F(Digests, AreTheSameOnEveryMachineWhereBothMomentsAreSummed) {
  for (std::uint32_t number = 0; number < kDigestsOfOneV.size(); ++number) {
    Seeded seeded = seeded_training(3 * number);
    seeded.model.options.form.summed = seeded.model.options.form.one_v = true;
    const std::string on_cpu = digest_after(seeded, Training(seeded.model, 1));
    EXPECT_EQ(on_cpu, digest_after(seeded, Training(seeded.model, open(), seeded.alignment))) << "training " << number;
    EXPECT_EQ(on_cpu, kDigestsOfOneV[number]) << "training " << number;
  }
}

/// Of trainings with lagged scales, with the network as one unit, and with elements of 16 and 8 bits.
constexpr std::array<const char*, 8> kDigestsOfForms{"62d9661a4bc27f66", "a9ceaa6a32f979c2", "10a19c8fa0569df9",
                                                     "2b4726aa71648435", "9a00470490585271", "49155c0d6839e9b6",
                                                     "d1c01c5da70b7f95", "d528a08d0b0c1f90"};

Seeded seeded_form(std::uint32_t number) {
  Random random(2000 + number);
  Seeded seeded = seeded_training(number);
  Model& model = seeded.model;
  model.options.form.amsgrad = model.options.form.amsgrad && number % 4 == 0;
  if (number % 4 >= 2) model = test::with_state(model, number < 4 ? StateType::kBfloat16 : StateType::k8bit);
  if (number >= 4) {
    model = test::with_narrow_gradients(random, model);
    model = test::with_narrow_parameters(random, model, number == 4 ? Rounding::kMaster : Rounding::kStochastic);
  }
  if (number != 2) model = test::with_lagged_scales(random, model);
  model.options.form.network = number % 2 == 1;
  seeded.steps = test::random_steps(random, model, 6, {0.1, 0.15, 0.05, 0.02});
  return seeded;
}

TEST_F(Digests, AreTheSameOnEveryMachineInEveryForm) {
  for (std::uint32_t number = 0; number < kDigestsOfForms.size(); ++number) {
    const Seeded seeded = seeded_form(number);
    const std::string on_cpu = digest_after(seeded, Training(seeded.model, 1));
    EXPECT_EQ(on_cpu, digest_after(seeded, Training(seeded.model, open(), seeded.alignment))) << "training " << number;
    EXPECT_EQ(on_cpu, kDigestsOfForms[number]) << "training " << number;
  }
}

TEST(Digest, ChangesWithEveryBit) {
  const Snapshot state{{{1, -0.0f}, {}}, {{3}}, {4}, {5}, {std::nan("")}};
  const std::vector<Snapshot> others{
      {{{1, 0.0f}, {}}, {{3}}, {4}, {5}, {std::nan("")}},
      {{{1}, {-0.0f}}, {{3}}, {4}, {5}, {std::nan("")}},
      {{{1, -0.0f}, {}}, {{std::nextafter(3.0f, 4.0f)}}, {4}, {5}, {std::nan("")}},
      {{{1, -0.0f}, {}}, {{3}}, {std::nextafter(4.0, 0.0)}, {5}, {std::nan("")}},
      {{{1, -0.0f}, {}}, {{3}}, {4}, {-5}, {std::nan("")}},
      {{{1, -0.0f}, {}}, {{3}}, {4}, {5}, {0}},
  };
  for (const Snapshot& other : others) EXPECT_NE(digest_of(other), digest_of(state));
  const Snapshot other_nan{{{1, -0.0f}, {}}, {{3}}, {4}, {5}, {-std::nan("7")}};
  EXPECT_EQ(digest_of(other_nan), digest_of(state));
}

}  // namespace
}  // namespace mtadam
