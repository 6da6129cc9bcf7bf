#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "cuda/cuda.h"
#include "cuda/errors.h"
#include "test/cuda/on_device.h"
#include "test/ptx/on_ptx.h"
#include "test/simt/control.h"
#include "test/training.h"

// A check that has never failed is no check: faults that a compiler could make, planted in the PTX, and the error that
// must report each. Missing fences and barriers that order only global memory are not among them: they have no effect
// on a machine with one memory.

namespace mtadam {
namespace {

using ptx::KernelText;
using ptx::Library;
using ptx::Line;
using test::Alignment;
using test::Gradients;
using test::Model;
using test::Random;
using test::Training;

/// Trains small models of three terms on the kernels of a library. Returns the first difference from the CPU, or an
/// empty text.
std::string found_in(Library& library) {
  simt::cuda::Settings settings;
  settings.hide_device_memory = false;
  settings.print_failures = false;
  settings.multiprocessors = 1;  // so that a block has several chunks to do
  simt::cuda::reset(settings);   // an error lasts as long as the machine
  ptx::launch_from(library);
  Random random(95);
  try {
    for (const bool summed : {false, true}) {
      for (const Alignment alignment : {Alignment::kVectors, Alignment::kAlike, Alignment::kAnyhow}) {
        Model model = test::random_model(random, {5, 4099, 0, 302, 4096, 3333}, 3);
        model.options.form = {summed, false};
        model.options.form.cosines = true;
        if (summed) model.options.form.non_finite = NonFinite::kSkipStep;
        Training on_cpu(model, 1), on_ptx(model, cuda::open(0), alignment);
        test::bring_to_the_flush(random, model, {&on_cpu, &on_ptx});
        for (const Gradients& gradients : test::random_steps(random, model, 2, {0, 0.2, 0, 0})) {
          for (Training* const training : {&on_cpu, &on_ptx}) training->step(gradients);
          const testing::AssertionResult same = test::same_state(on_cpu.snapshot(), on_ptx.snapshot());
          if (!same) return std::string("wrong: ") + same.message();
          if (!summed) {
            for (Training* const training : {&on_cpu, &on_ptx}) training->stream(gradients);
          }
        }
        const testing::AssertionResult same = test::same_state(on_cpu.snapshot(), on_ptx.snapshot());
        if (!same) return std::string("wrong: ") + same.message();
      }
    }
  } catch (const cuda::CudaError&) {
    return simt::cuda::failure();
  }
  return "";
}

/// Changes lines and returns how many.
using Edit = std::function<int(std::vector<Line>&)>;

struct Fault {
  std::string name;
  std::string kernel;  ///< part of the symbols of those that have it
  Edit edit;
  std::string said;  ///< a regular expression
};

void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

// ---- Edits ----

/// In lines that match the pattern; in one of them, counted from 0, or in all.
Edit replace(const std::string& pattern, const std::string& by, int only = -1) {
  return [=](std::vector<Line>& lines) {
    const std::regex form(pattern);
    int matches = 0, changes = 0;
    for (Line& line : lines) {
      if (!std::regex_search(line.text, form) || (only >= 0 && matches++ != only)) continue;
      line.text = std::regex_replace(line.text, form, by);
      ++changes;
    }
    std::erase_if(lines, [](const Line& line) { return line.text.empty(); });
    return changes;
  };
}

Edit remove(const std::string& pattern, int only) { return replace("^" + pattern + ".*", "", only); }

/// Each sum of a product becomes one operation with one rounding.
int contract(std::vector<Line>& lines) {
  static const std::regex product(R"(mul\.rn\.f32\s+(\S+), (\S+), (\S+);)"),
      sum(R"(add\.rn\.f32\s+(\S+), (\S+), (\S+);)");
  std::map<std::string, std::string> products;
  int changes = 0;
  for (Line& line : lines) {
    std::smatch match;
    if (std::regex_match(line.text, match, product)) products[match[1]] = match[2].str() + ", " + match[3].str();
    if (!std::regex_match(line.text, match, sum)) continue;
    const bool first = products.contains(match[2]);
    if (!first && !products.contains(match[3])) continue;
    const std::string factors = products[match[first ? 2 : 3]], other = match[first ? 3 : 2];
    line.text = "fma.rn.f32 " + match[1].str() + ", " + factors + ", " + other + ";";
    ++changes;
  }
  return changes;
}

/// Exchanges two places that are read from shared memory.
Edit exchange(const std::string& one, const std::string& other) {
  return [=](std::vector<Line>& lines) {
    int changes = 0;
    for (Line& line : lines) {
      if (!line.text.starts_with("ld.shared.f64")) continue;
      const bool is_one = line.text.find(one) != std::string::npos;
      if (!is_one && line.text.find(other) == std::string::npos) continue;
      const std::string& from = is_one ? one : other;
      line.text.replace(line.text.find(from), from.size(), is_one ? other : one);
      ++changes;
    }
    return changes;
  };
}

constexpr const char* kThreeTerms = "update_kernelINS0_10UpdateFormILj3E";

constexpr const char* kUnordered = "no thread has written to this shared memory|no barrier since another warp's access";

const std::vector<Fault> kFaults{
    {"NormsWithoutBarrier0", "norms_kernelILb0ELb0ELb0E", remove("bar\\.sync", 0), kUnordered},
    {"NormsWithoutBarrier1", "norms_kernelILb0ELb0ELb0E", remove("bar\\.sync", 1), kUnordered},
    {"NormsWithoutBarrier2", "norms_kernelILb0ELb0ELb0E", remove("bar\\.sync", 2),
     "wrong: "},  // the norms are in global memory
    {"NormsWithoutBarrier3", "norms_kernelILb0ELb0ELb0E", remove("bar\\.sync", 3), kUnordered},
    {"CosinesWithoutBarrier0", "cosines_kernelILb0E", remove("bar\\.sync", 0), kUnordered},
    {"CosinesWithoutBarrier1", "cosines_kernelILb0E", remove("bar\\.sync", 1), kUnordered},
    {"UpdateWithoutBarrier0", kThreeTerms, remove("bar\\.sync", 0), kUnordered},
    {"UpdateWithoutBarrier1", kThreeTerms, remove("bar\\.sync", 1), kUnordered},
    {"ProductsContracted", kThreeTerms, contract, "wrong: "},
    {"VectorsReadOneElementOff", kThreeTerms, replace(R"((ld\.global\.ca\.v4\.f32.*\[%rd\d+)\])", "$1+4]", 0),
     "misaligned"},
    {"VectorsReadOneVectorOff", kThreeTerms, replace(R"((ld\.global\.ca\.v4\.f32.*\[%rd\d+)\])", "$1+16]", 0),
     "wrong: |outside the allocation"},
    {"VectorsWrittenOneVectorOff", kThreeTerms, replace(R"((st\.global\.wb\.v4\.f32.*\[%rd\d+)\])", "$1+16]", 0),
     "wrong: |outside the allocation"},
    {"SmallestNormalFlushed", kThreeTerms, replace(R"(setp\.lt\.f32(.*0f00800000))", "setp.le.f32$1"), "wrong: "},
    {"LargerOfTwoTurned", kThreeTerms, replace(R"(setp\.gt\.f32)", "setp.lt.f32"), "wrong: "},
    {"OneElementTooMany", "norms_kernelILb0ELb0ELb0E", replace(R"(setp\.ge\.u32)", "setp.gt.u32"),
     "outside the allocation"},
    {"SegmentsAddedInAnotherOrder", "norms_kernelILb0ELb0ELb0E", exchange("+256]", "+512]"), "wrong: "},
    {"LaneOfAProductReadsFromTheLaneBelow", "cosines_kernelILb0E", replace(R"(shfl\.sync\.down)", "shfl.sync.up"),
     "wrong: "},
    {"StoreLeftOut", kThreeTerms, remove(R"(st\.global\.wb\.v4\.f32)", 0), "wrong: "},
    {"OneChunkTooMany", kThreeTerms, replace(R"(setp\.lt\.u64)", "setp.le.u64"), "wrong: |no thread has written"},
    {"BlocksCountedTwice", kThreeTerms, replace(R"((atom\.global\.add\.u64.*), 1;)", "$1, 2;"), "wrong: |neither"},
    {"LaneReadsFromTheLaneBelow", "norms_kernelILb0ELb0ELb0E", replace(R"(shfl\.sync\.down)", "shfl.sync.up"),
     "wrong: "},
    {"VoteOfEachLaneAlone", kThreeTerms, replace(R"(vote\.sync\.any\.pred\s+(\S+), (\S+), \S+;)", "mov.pred $1, $2;"),
     "misaligned|wrong: "},
};

class Planted : public test::OnDevice, public testing::WithParamInterface<Fault> {};

TEST_P(Planted, IsFound) {
  Library library = test::kernels_as_ptx();
  int changes = 0;
  library.edit([&](KernelText& kernel) {
    if (kernel.symbol.find(GetParam().kernel) != std::string::npos) changes += GetParam().edit(kernel.body);
  });
  ASSERT_GT(changes, 0) << "the PTX has nothing to plant the fault in";
  const std::string said = found_in(library);
  EXPECT_TRUE(std::regex_search(said, std::regex(GetParam().said))) << "said: " << said;
  RecordProperty("said", said);
}

INSTANTIATE_TEST_SUITE_P(InPtx, Planted, testing::ValuesIn(kFaults),
                         [](const auto& fault) { return fault.param.name; });

TEST_F(Planted, NothingIsFoundWhereNothingIsPlanted) { EXPECT_EQ(found_in(test::kernels_as_ptx()), ""); }

// The compiler's own: with -fmad=true, its default, it contracts, and leaves it to the assembler to contract more.
TEST_F(Planted, ContractionByTheCompilerIsFound) {
  Library library = test::kernels_as_ptx();
  library.add_file(test::ptx_path("update-fmad"));
  EXPECT_THROW(found_in(library), ptx::NotUnderstood);
  library.edit([](KernelText& kernel) { replace(R"(^(add|sub|mul)\.f32)", "$1.rn.f32")(kernel.body); });
  EXPECT_TRUE(found_in(library).starts_with("wrong: "));
}

}  // namespace
}  // namespace mtadam
