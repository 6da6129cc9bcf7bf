#include "cpu/cpu_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "engine/errors.h"
#include "support.h"

namespace mtadam {
namespace {

using test::GuardedFloats;
using test::Random;
using test::same_bits;

TEST(CpuDevice, UsesTheWidestInstructionSetByDefault) {
  EXPECT_EQ(CpuDevice(1).name(), std::string(instruction_sets().back().name));
  EXPECT_EQ(CpuDevice(1, "baseline").name(), std::string("baseline"));
}

TEST(CpuDevice, NamesItsInstructionSetsWhenItLacksTheOneGiven) {
  try {
    CpuDevice device(1, "vax");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "OPTION");
    EXPECT_NE(std::string(error.what()).find("\"baseline\""), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("\"vax\""), std::string::npos) << error.what();
  }
}

TEST(CpuDevice, ReportsThatThereIsNotEnoughMemory) {
  CpuDevice device(1);
  constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max();
  for (const std::size_t bytes : {kMost, kMost - 4096, kMost / 2 + 1, kMost / 4}) {
    try {
      device.allocate(bytes);
      FAIL() << "gave " << bytes << " bytes";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), "OUT_OF_MEMORY");
    }
  }
}

TEST(CpuDevice, FillsWithTheFirstBytesOfAPattern) {
  CpuDevice device(1);
  constexpr std::uint64_t kPattern = 0x8877665544332211;
  const std::byte untouched{0xee};
  for (const std::size_t element : {1u, 2u, 4u, 8u}) {
    for (const std::size_t elements : {0u, 1u, 2u, 3u, 5u, 64u, 1000u}) {
      const std::size_t bytes = element * elements;
      std::vector<std::byte> memory(bytes + 1, untouched);
      device.fill(memory.data(), kPattern, element, bytes, nullptr);
      for (std::size_t k = 0; k < bytes; ++k) {
        ASSERT_EQ(memory[k], static_cast<std::byte>(kPattern >> (8 * (k % element)))) << element << ", " << k;
      }
      EXPECT_EQ(memory[bytes], untouched);
    }
  }
}

TEST(CpuDevice, AddsOnAnyNumberOfThreads) {
  Random random(51);
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{4097}, std::size_t{300'001}}) {
    std::vector<float> target(count), source(count), expected(count);
    for (std::size_t e = 0; e < count; ++e) {
      target[e] = random.of_magnitude(-20, 20);
      source[e] = random.of_magnitude(-20, 20);
      expected[e] = target[e] + source[e];
    }
    for (const unsigned threads : {1u, 2u, 7u, 64u}) {
      CpuDevice device(threads);
      GuardedFloats to(target, 3);
      GuardedFloats from(source, 1);
      device.add(to.data(), from.data(), count, ElementType::kFloat32, nullptr);
      EXPECT_TRUE(same_bits(expected, to.values())) << count << ", " << threads << " threads";
      EXPECT_TRUE(to.borders_intact());
    }
  }
}

}  // namespace
}  // namespace mtadam
