#pragma once

#include <cstdint>
#include <vector>

#include "engine/layout.h"

namespace mtadam {

/// The tickets of a step in one launch. Blocks take them in this order, each as many as it gets to. A layer's elements
/// come soon after its norms, from the last chunk to the first, so that its gradients are read while they are still in
/// the second-level cache. Before a layer's elements come its own norms and those of `lead` chunks after it: with as
/// many as are at work at once, nobody waits. The norms are in order, and every ticket waits only for earlier ones.
std::vector<Ticket> order_tickets(const Layout& layout, std::uint64_t lead);

}  // namespace mtadam
