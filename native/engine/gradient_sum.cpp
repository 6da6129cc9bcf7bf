#include "engine/gradient_sum.h"

#include <algorithm>

#include "engine/float_environment.h"
#include "engine/narrow_values.h"

namespace mtadam {
namespace {

Parts in_bytes(const Parts& parts, std::size_t element) {
  Parts bytes;
  for (const std::size_t count : parts.counts) bytes.add(count * element);
  return bytes;
}

}  // namespace

void GradientSum::add_up(const float* gradients, const Parts& parts, float* sums, Stream stream) {
  reduce(gradients, parts, sums + parts.starts[sharing_.collective->rank()], stream);
  if (!sharing_.state) sharing_.collective->gather(sums, in_bytes(parts, sizeof(float)), stream);
}

void GradientSum::reduce(const float* gradients, const Parts& parts, float* sum, Stream stream) {
  Collective& collective = *sharing_.collective;
  if (sharing_.reduction == Reduction::kLibrary && sharing_.wire == Wire::kFloat32) {
    return collective.reduce_scatter(gradients, parts, sum, stream);
  }
  const DefaultFloatEnvironment environment;
  const std::size_t ranks = collective.size(), count = parts.counts[collective.rank()];
  const Parts arriving = equal_parts(ranks, count);
  float* const received = received_.of(arriving.end(), device_, stream);
  if (sharing_.wire == Wire::kBfloat16) {
    std::uint16_t* const sent = sent_.of(parts.end(), device_, stream);
    std::uint16_t* const codes = codes_.of(arriving.end(), device_, stream);
    device_ != nullptr ? device_->narrow(sent, gradients, parts.end(), stream)
                       : narrow_values(sent, gradients, parts.end());
    collective.all_to_all(sent, in_bytes(parts, 2), codes, in_bytes(arriving, 2), stream);
    device_ != nullptr ? device_->widen(received, codes, arriving.end(), ElementType::kBfloat16, stream)
                       : widen_values(received, codes, arriving.end(), ElementType::kBfloat16);
  } else {
    collective.all_to_all(gradients, in_bytes(parts, 4), received, in_bytes(arriving, 4), stream);
  }
  add_as_tree(received, ranks, count, stream);
  device_ != nullptr ? device_->copy(sum, received, count * sizeof(float), stream)
                     : static_cast<void>(std::copy_n(received, count, sum));
}

// Adds `count` elements of each rank into those of rank 0: neighbours first, then pairs of them, and so on.
void GradientSum::add_as_tree(float* values, std::size_t ranks, std::size_t count, Stream stream) {
  for (std::size_t step = 1; step < ranks; step *= 2) {
    for (std::size_t rank = 0; rank + step < ranks; rank += 2 * step) {
      float* const to = values + rank * count;
      const float* const from = values + (rank + step) * count;
      if (device_ != nullptr) {
        device_->add(to, from, count, ElementType::kFloat32, stream);
        continue;
      }
      for (std::size_t k = 0; k < count; ++k) to[k] += from[k];
    }
  }
}

}  // namespace mtadam
