#include "engine/layout.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "engine/errors.h"

namespace mtadam {
namespace {

// One layer per tensor.
Layout untagged(const std::vector<std::uint64_t>& lengths) {
  std::vector<ParameterShape> shapes;
  for (const std::uint64_t length : lengths) shapes.push_back({length, static_cast<std::uint32_t>(shapes.size()), 0});
  return Layout(shapes);
}

void expect_planes_apart(const Layout& layout) {
  std::uint64_t end = 0;
  for (const Tensor& tensor : layout.tensors()) {
    EXPECT_EQ(tensor.plane % 16, 0u) << "not on a line of 64 bytes";
    EXPECT_GE(tensor.plane, end) << "overlaps the tensor before";
    end = tensor.plane + tensor.length;
  }
  EXPECT_GE(layout.plane_elements(), end);
  EXPECT_LT(layout.plane_elements(), end + 16) << "a plane holds no more than its tensors";
}

void expect_chunks_cover(const Layout& layout) {
  std::uint64_t next = 0;
  for (std::uint32_t tensor = 0; tensor < layout.tensor_count(); ++tensor) {
    const std::uint64_t length = layout.tensors()[tensor].length;
    ASSERT_EQ(layout.tensors()[tensor].chunk, next);
    for (std::uint64_t begin = 0; begin < length; begin += kChunkElements, ++next) {
      ASSERT_LT(next, layout.chunks().size());
      ASSERT_EQ(layout.chunks()[next].tensor, tensor);
      ASSERT_EQ(layout.chunks()[next].index, begin / kChunkElements);
    }
  }
  EXPECT_EQ(layout.chunks().size(), next);
}

// The slots of a layer are in the order q: its tensors in parameter order, without gaps. Layers share no slots.
void expect_slots_in_order(const Layout& layout) {
  std::uint64_t slot = 0;
  for (std::uint32_t index = 0; index < layout.layer_count(); ++index) {
    const Layer& layer = layout.layers()[index];
    EXPECT_EQ(layer.slot, slot);
    std::uint32_t member = layer.member;
    for (std::uint32_t tensor = 0; tensor < layout.tensor_count(); ++tensor) {
      if (layout.tensors()[tensor].layer != index) continue;
      ASSERT_LT(member, layout.members().size());
      EXPECT_EQ(layout.members()[member++], tensor);
      EXPECT_EQ(layout.tensors()[tensor].slot, slot);
      slot += (layout.tensors()[tensor].length + kChunkElements - 1) / kChunkElements;
    }
    EXPECT_EQ(layer.members, member - layer.member);
    EXPECT_EQ(layer.slots, slot - layer.slot);
  }
  EXPECT_EQ(slot, layout.chunks().size());
  EXPECT_EQ(layout.members().size(), layout.tensors().size());
}

void expect_sound(const Layout& layout) {
  expect_planes_apart(layout);
  expect_chunks_cover(layout);
  expect_slots_in_order(layout);
}

TEST(Layout, CutsTensorsAroundAChunksLength) {
  const Layout layout = untagged({0, 1, 4095, 4096, 4097, 8192, 8193});
  expect_sound(layout);
  const std::vector<std::uint64_t> chunks{0, 0, 1, 2, 3, 5, 7};
  for (std::size_t k = 0; k < chunks.size(); ++k) EXPECT_EQ(layout.tensors()[k].chunk, chunks[k]) << k;
  EXPECT_EQ(layout.chunks().size(), 10u);
}

TEST(Layout, KeepsALayersSlotsTogetherWhenTagsInterleave) {
  const Layout layout({{4097, 0, 0}, {10, 1, 0}, {1, 0, 1}, {9000, 2, 1}, {0, 1, 0}, {8192, 0, 0}, {5000, 1, 1}});
  expect_sound(layout);
  ASSERT_EQ(layout.layer_count(), 3u);
  EXPECT_EQ(layout.layers()[0].slots, 2u + 1 + 2);
  EXPECT_EQ(layout.layers()[1].slots, 1u + 0 + 2);
  EXPECT_EQ(layout.layers()[2].slots, 3u);
  EXPECT_EQ(layout.members(), (std::vector<std::uint32_t>{0, 2, 5, 1, 4, 6, 3}));
  EXPECT_EQ(layout.tensors()[2].group, 1u);
}

TEST(Layout, GivesEmptyTensorsNoChunkAtAnyPosition) {
  for (const std::vector<std::uint64_t>& lengths :
       std::vector<std::vector<std::uint64_t>>{{0, 7, 5000}, {7, 0, 5000}, {7, 5000, 0}, {0, 0, 7, 0, 0, 5000, 0, 0}}) {
    const Layout layout = untagged(lengths);
    expect_sound(layout);
    EXPECT_EQ(layout.chunks().size(), 3u);
    EXPECT_EQ(layout.tensor_count(), lengths.size());
  }
}

TEST(Layout, TakesEmptyTensorsOnly) {
  const Layout layout({{0, 0, 0}, {0, 1, 0}, {0, 0, 0}});
  expect_sound(layout);
  EXPECT_EQ(layout.plane_elements(), 0u);
  EXPECT_EQ(layout.layers()[0].slots, 0u);
  EXPECT_EQ(layout.layers()[0].members, 2u);
}

TEST(Layout, TakesNoTensors) {
  const Layout layout{std::vector<ParameterShape>()};
  expect_sound(layout);
  EXPECT_EQ(layout.layer_count(), 0u);
}

// Only described, not allocated: 32 bits can count neither 2³³ elements nor their bytes.
TEST(Layout, PlacesTensorsBeyondThirtyTwoBits) {
  constexpr std::uint64_t kHuge = std::uint64_t{1} << 33;
  const Layout layout({{5, 0, 0}, {kHuge, 1, 0}, {7, 0, 0}, {kHuge + 1, 1, 0}, {3, 0, 0}});
  expect_sound(layout);
  EXPECT_EQ(layout.tensors()[2].plane, 16 + kHuge);
  EXPECT_EQ(layout.tensors()[4].plane, 16 + kHuge + 16 + kHuge + 16);
  EXPECT_EQ(layout.tensors()[3].chunk, 1 + kHuge / 4096 + 1);
  EXPECT_EQ(layout.tensors()[3].slot, 3 + kHuge / 4096) << "layer 1 comes after layer 0's three chunks";
  EXPECT_EQ(layout.layers()[1].slots, 2 * kHuge / 4096 + 1);
  const Chunk& last = layout.chunks()[layout.tensors()[4].chunk - 1];
  EXPECT_EQ(first_of_chunk(last.index), kHuge);
  EXPECT_EQ(elements_of_chunk(kHuge + 1, last.index), 1u);
  EXPECT_EQ(elements_of_chunk(kHuge + 1, last.index - 1), kChunkElements);
}

// 16-byte accesses to θ and its moments begin at the same element, for any address of θ.
TEST(Layout, AlignsATensorLikeItsParameters) {
  for (const std::uint64_t length : {0, 1, 13, 15, 16, 4097}) {
    const Layout layout({{length, 0, 0, 3}, {length, 1, 0, 0}, {length, 2, 0, 1}, {length, 3, 0, 2}, {5, 4, 0, 3}});
    expect_chunks_cover(layout);
    const std::vector<std::uint64_t> phases{3, 0, 1, 2, 3};
    std::uint64_t end = 0;
    for (std::size_t k = 0; k < phases.size(); ++k) {
      const Tensor& tensor = layout.tensors()[k];
      EXPECT_EQ(tensor.plane % 4, phases[k]);
      EXPECT_GE(tensor.plane / 16 * 16, end) << "shares a line with the tensor before";
      end = tensor.plane + tensor.length;
    }
    EXPECT_GE(layout.plane_elements(), end);
    EXPECT_EQ(layout.plane_elements() % 16, 0u);
  }
}

TEST(Layout, NamesTheLayersWithoutElements) {
  const Layout layout({{0, 0, 0}, {7, 1, 0}, {0, 1, 0}, {0, 2, 0}, {0, 0, 0}, {0, 3, 0}, {1, 3, 0}});
  EXPECT_EQ(layout.empty_layers(), (std::vector<std::uint32_t>{0, 2}));
}

TEST(Layout, RejectsLengthsThatCannotBeAddressed) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  constexpr std::uint64_t kHalf = std::uint64_t{1} << 63;
  for (const std::vector<std::uint64_t>& lengths :
       std::vector<std::vector<std::uint64_t>>{{kMost},
                                               {kMost - 4094},
                                               {std::uint64_t{1} << 41},
                                               {(std::uint64_t{1} << 40) + 1},
                                               {kHalf, kHalf},  // their sum is 0 in 64 bits
                                               {16, kMost - 15},
                                               {std::uint64_t{1} << 39, (std::uint64_t{1} << 39) + 1},
                                               {std::uint64_t{1} << 39, std::uint64_t{1} << 39, 1}}) {
    try {
      untagged(lengths);
      FAIL() << "accepted " << lengths[0];
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), "LENGTH");
    }
  }
}

}  // namespace
}  // namespace mtadam
