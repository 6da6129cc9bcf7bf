#include "engine/ticket_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "support.h"

namespace mtadam {
namespace {

using Part = Ticket::Part;
using test::Random;

Layout untagged(const std::vector<std::uint64_t>& chunks) {
  std::vector<ParameterShape> shapes;
  for (const std::uint64_t count : chunks) {
    shapes.push_back({count * kChunkElements, static_cast<std::uint32_t>(shapes.size()), 0});
  }
  return Layout(shapes);
}

/// The parts as letters: N and E with the chunk's number, 0 for an empty layer.
std::string letters(const Layout& layout, std::uint64_t lead) {
  std::string text;
  for (const Ticket& ticket : order_tickets(layout, lead)) {
    const std::uint64_t chunk = layout.tensors()[ticket.chunk.tensor].chunk + ticket.chunk.index;
    if (ticket.part == Part::kEmptyLayer) text += " 0";
    if (ticket.part == Part::kNorms) text += " N" + std::to_string(chunk);
    if (ticket.part == Part::kElements) text += " E" + std::to_string(chunk);
  }
  return text;
}

TEST(TicketOrder, HasEachLayersElementsBackwardsAfterItsNorms) {
  EXPECT_EQ(letters(untagged({3}), 0), " N0 N1 N2 E2 E1 E0");
  EXPECT_EQ(letters(untagged({2, 2}), 0), " N0 N1 E1 E0 N2 N3 E3 E2");
}

TEST(TicketOrder, HasNormsRunAhead) {
  EXPECT_EQ(letters(untagged({2, 3, 1}), 1), " N0 N1 N2 E1 E0 N3 N4 N5 E4 E3 E2 E5");
  EXPECT_EQ(letters(untagged({1, 1, 1, 1}), 2), " N0 N1 N2 E0 N3 E1 E2 E3");
}

TEST(TicketOrder, HasAllNormsFirstWhereTheyLeadByTheWholeModel) {
  EXPECT_EQ(letters(untagged({2, 1}), 100), " N0 N1 N2 E1 E0 E2");
  EXPECT_EQ(letters(untagged({2, 1}), ~std::uint64_t{0}), " N0 N1 N2 E1 E0 E2");
}

TEST(TicketOrder, HasOneForALayerWithoutElements) {
  EXPECT_EQ(letters(untagged({0, 1, 0}), 1), " 0 N0 E0 0");
  EXPECT_EQ(letters(untagged({0}), 1), " 0");
}

TEST(TicketOrder, FollowsLayersAndNotTensors) {
  const std::uint64_t one = kChunkElements;
  EXPECT_EQ(letters(Layout({{one, 0, 0}, {one, 1, 0}, {one, 0, 0}}), 0), " N0 N2 E2 E0 N1 E1");
}

// What lets blocks wait for one another: whatever a ticket waits for is earlier.
TEST(TicketOrder, HasEveryPartOnceAndNoneBeforeWhatItWaitsFor) {
  Random random(61);
  for (int round = 0; round < 300; ++round) {
    std::vector<ParameterShape> shapes;
    std::uint32_t layers = 0;
    for (std::uint64_t k = 1 + random.below(12); k > 0; --k) {
      const std::uint32_t layer =
          layers > 0 && random.chance(0.4) ? static_cast<std::uint32_t>(random.below(layers)) : layers++;
      shapes.push_back({random.chance(0.2) ? 0 : random.below(6 * kChunkElements), layer, 0});
    }
    const Layout layout(shapes);
    std::vector<std::uint64_t> norms(layers, 0), opened(layers, 0);
    std::vector<int> seen_norms(layout.chunks().size(), 0), seen_elements(layout.chunks().size(), 0);
    for (const Ticket& ticket : order_tickets(layout, random.below(8))) {
      const Tensor& tensor = layout.tensors()[ticket.chunk.tensor];
      const std::uint64_t slots = layout.layers()[tensor.layer].slots;
      if (ticket.part == Part::kEmptyLayer) {
        ASSERT_EQ(slots, 0u);
        opened[tensor.layer] += 1;
        continue;
      }
      const std::uint64_t chunk = tensor.chunk + ticket.chunk.index;
      if (ticket.part == Part::kNorms) {
        seen_norms[chunk] += 1;
        norms[tensor.layer] += 1;
      } else {
        seen_elements[chunk] += 1;
        ASSERT_EQ(norms[tensor.layer], slots) << "round " << round;
      }
    }
    for (std::size_t layer = 0; layer < opened.size(); ++layer) {
      ASSERT_EQ(opened[layer], layout.layers()[layer].slots == 0 ? 1u : 0u);
    }
    const auto is_one = [](int count) { return count == 1; };
    ASSERT_TRUE(std::all_of(seen_norms.begin(), seen_norms.end(), is_one));
    ASSERT_TRUE(std::all_of(seen_elements.begin(), seen_elements.end(), is_one));
  }
}

}  // namespace
}  // namespace mtadam
