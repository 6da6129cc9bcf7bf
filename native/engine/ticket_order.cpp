#include "engine/ticket_order.h"

namespace mtadam {
namespace {

/// By slot: layer after layer.
std::vector<Chunk> chunks_by_slot(const Layout& layout) {
  std::vector<Chunk> chunks;
  chunks.reserve(layout.chunks().size());
  for (const std::uint32_t member : layout.members()) {
    const Tensor& tensor = layout.tensors()[member];
    for (std::uint64_t k = 0; k < chunks_of(tensor.length); ++k) chunks.push_back(layout.chunks()[tensor.chunk + k]);
  }
  return chunks;
}

}  // namespace

std::vector<Ticket> order_tickets(const Layout& layout, std::uint64_t lead) {
  const std::vector<Chunk> chunks = chunks_by_slot(layout);
  std::vector<Ticket> tickets;
  tickets.reserve(2 * chunks.size() + layout.empty_layers().size());
  std::uint64_t norms = 0;
  for (const Layer& layer : layout.layers()) {
    if (layer.slots == 0) {
      tickets.push_back({Ticket::Part::kEmptyLayer, {layout.members()[layer.member], 0}});
      continue;
    }
    const std::uint64_t end = layer.slot + layer.slots;
    const std::uint64_t due = chunks.size() - end < lead ? chunks.size() : end + lead;
    for (; norms < due; ++norms) tickets.push_back({Ticket::Part::kNorms, chunks[norms]});
    for (std::uint64_t slot = end; slot > layer.slot; --slot) {
      tickets.push_back({Ticket::Part::kElements, chunks[slot - 1]});
    }
  }
  return tickets;
}

}  // namespace mtadam
