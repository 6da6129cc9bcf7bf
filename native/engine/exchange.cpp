#include "engine/exchange.h"

#include <algorithm>
#include <cstring>

#include "engine/errors.h"
#include "engine/float_environment.h"
#include "math/scalars.h"

namespace mtadam {
namespace {

// What one rank says of its call.
struct Statement {
  char call[32];
  std::uint64_t optimizer;
  std::uint64_t values;
};

// What one rank says of itself. All versions of this package begin with it, so its size never changes.
struct Greeting {
  char version[64];
};

template <std::size_t kSize>
void set_text(char (&field)[kSize], const std::string& text) {
  std::memcpy(field, text.data(), std::min(text.size(), kSize - 1));
}

template <std::size_t kSize>
std::string text_of(const char (&field)[kSize]) {
  return std::string(field, strnlen(field, kSize));
}

std::string told(const std::vector<Statement>& statements, std::size_t rank) {
  return "rank " + std::to_string(rank) + " `" + text_of(statements[rank].call) + "`";
}

Parts in_bytes(const Parts& parts, std::size_t element) {
  Parts bytes;
  for (const std::size_t count : parts.counts) bytes.add(count * element);
  return bytes;
}

Parts equal_parts(std::size_t ranks, std::size_t count) {
  Parts parts;
  for (std::size_t rank = 0; rank < ranks; ++rank) parts.add(count);
  return parts;
}

struct ParameterBytes {
  std::byte* first;
  std::size_t count;
};

// Of elements of a parameter, in its own type.
ParameterBytes bytes_of(const Layout& layout, const AddressTable& parameters, std::uint32_t tensor, std::uint64_t first,
                        std::uint64_t count) {
  const std::size_t each = element_bytes(layout.tensors()[tensor].type);
  return {reinterpret_cast<std::byte*>(parameters.get(0, tensor)) + first * each, count * each};
}

// What every rank puts in its place.
template <class T>
std::vector<T> gathered(Collective& collective, const T& own) {
  std::vector<T> all(collective.size());
  all[collective.rank()] = own;
  collective.gather_on_host(all.data(), equal_parts(all.size(), sizeof(T)));
  return all;
}

}  // namespace

void agree_on_version(Collective& collective, const std::string& version) {
  Greeting own{};
  set_text(own.version, version);
  const std::vector<Greeting> greetings = gathered(collective, own);
  const std::string first = text_of(greetings[0].version);
  for (std::size_t rank = 1; rank < greetings.size(); ++rank) {
    const std::string other = text_of(greetings[rank].version);
    if (other == first) continue;
    throw Error("DISTRIBUTED", "All ranks must have the same version of mtadam; got " + first + " in rank 0 and " +
                                   other + " in rank " + std::to_string(rank) + ".");
  }
}

void agree(Collective& collective, const std::string& call, std::uint64_t optimizer, std::uint64_t values) {
  collective.name_call(call);
  Statement own{{}, optimizer, values};
  set_text(own.call, call);
  const std::vector<Statement> statements = gathered(collective, own);
  for (std::size_t rank = 1; rank < statements.size(); ++rank) {
    const Statement &first = statements[0], &other = statements[rank];
    const std::string both = told(statements, 0) + " and " + told(statements, rank);
    if (std::memcmp(first.call, other.call, sizeof first.call) != 0) {
      throw Error("DISTRIBUTED", "All ranks must make the same calls in the same order; got " + both + ".");
    }
    if (first.optimizer != other.optimizer) {
      throw Error("DISTRIBUTED", "All ranks must have optimizers with the same parameters, terms and options; got " +
                                     both + " of different ones.");
    }
    if (first.values != other.values) {
      throw Error("DISTRIBUTED",
                  "All ranks must give a call the same options, weights and present gradients at the same iteration; "
                  "got different ones in " +
                      both + ".");
    }
  }
}

Exchange::Exchange(Sharing sharing, std::shared_ptr<Device> device, Layout& layout)
    : sharing_(std::move(sharing)), device_(std::move(device)) {
  if (!sharing_.state) return;
  const Slots slots = own(layout);
  layout.own(slots.first, slots.end);
}

Slots Exchange::own(const Layout& layout) const {
  const std::uint32_t rank = collective().rank();
  return {first_slot(layout, rank), first_slot(layout, rank + 1)};
}

std::uint64_t Exchange::first_slot(const Layout& layout, std::uint32_t rank) const {
  const std::uint64_t ranks = collective().size();
  return std::min(layout.slot_count(), rank * ((layout.slot_count() + ranks - 1) / ranks));
}

// Calls body(first, last), which give for each rank the slots of a piece of what it owns.
template <class Body>
void Exchange::for_pieces(const Layout& layout, const Body& body) const {
  const std::uint32_t ranks = collective().size();
  const std::uint64_t bytes = std::uint64_t{kChunkElements} * sizeof(float) * ranks;
  const std::uint64_t piece = std::max<std::uint64_t>(1, sharing_.staging_bytes / bytes);
  const std::uint64_t most = first_slot(layout, 1);
  for (std::uint64_t done = 0; done < most; done += piece) {
    const auto bound = [&](std::uint32_t rank, std::uint64_t slots) {
      return std::min(first_slot(layout, rank) + slots, first_slot(layout, rank + 1));
    };
    body([&](std::uint32_t rank) { return bound(rank, done); },
         [&](std::uint32_t rank) { return bound(rank, done + piece); });
  }
}

// Places the sums as the sum of the terms is in its plane, so that they are aligned as the float32 moments.
void Exchange::make_room(const Layout& layout, std::uint32_t rows, std::uint32_t columns, std::uint32_t first,
                         std::uint32_t count) {
  if (sums_ == nullptr || sums_->rows() != rows) sums_ = std::make_unique<AddressTable>(device_, rows, columns);
  while (memory_.size() < count) {
    constexpr std::size_t kLine = 64;
    memory_.push_back(device_->allocate(layout.gathered_elements() * sizeof(float) + kLine));
  }
  for (std::uint32_t k = 0; k < count; ++k) {
    const auto plane = reinterpret_cast<std::uintptr_t>(memory_[k]->data());
    for (std::uint32_t tensor = 0; tensor < columns; ++tensor) {
      // Modulo 2**64, as Tensor::gathered.
      const std::uintptr_t place = plane + layout.tensors()[tensor].gathered * sizeof(float);
      sums_->set(first + k, tensor, reinterpret_cast<float*>(place));
    }
  }
}

template <class T>
T* Exchange::Room<T>::of(std::size_t count, Device* device) {
  if (device == nullptr) {
    if (host.size() < count) host.resize(count);
    return host.data();
  }
  if (memory == nullptr || memory->size() < count * sizeof(T)) memory = device->allocate(count * sizeof(T));
  return reinterpret_cast<T*>(memory->data());
}

void Exchange::compare_parameters(const Layout& layout, const AddressTable& parameters, Stream stream) {
  constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;
  std::vector<std::uint64_t> words;
  std::uint64_t hash = 0;  // word by word: Hash, byte by byte, is slow for a whole model
  for (std::uint32_t tensor = 0; tensor < layout.tensor_count(); ++tensor) {
    const std::uint64_t length = layout.tensors()[tensor].length;
    for (std::uint64_t first = 0; first < length; first += kPiece) {
      const ParameterBytes piece = bytes_of(layout, parameters, tensor, first, std::min(kPiece, length - first));
      words.assign((piece.count + sizeof(std::uint64_t) - 1) / sizeof(std::uint64_t), 0);
      device_->read(words.data(), piece.first, piece.count, stream);
      for (const std::uint64_t word : words) {
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;  // or the highest bits of two words could make up for each other
      }
    }
  }
  const std::vector<std::uint64_t> hashes = gathered(collective(), hash);
  for (std::size_t rank = 1; rank < hashes.size(); ++rank) {
    if (hashes[rank] == hashes[0]) continue;
    throw Error("DISTRIBUTED",
                "All ranks must have the same parameters when they begin to train; got different ones in "
                "rank 0 and rank " +
                    std::to_string(rank) + ".");
  }
}

// Where the ranks exchange device memory, all parts get the size of the largest.
template <class Count>
Parts Exchange::parts_of(const Count& count) const {
  Parts parts;
  for (std::uint32_t rank = 0; rank < collective().size(); ++rank) parts.add(count(rank));
  if (!on_device()) return parts;
  return equal_parts(parts.counts.size(), *std::max_element(parts.counts.begin(), parts.counts.end()));
}

void Exchange::take(void* to, const void* from, std::size_t bytes, Stream stream) {
  on_device() ? device_->copy(to, from, bytes, stream) : device_->read(to, from, bytes, stream);
}

// Elements of a gradient, as float32.
void Exchange::stage(float* to, const Tensor& tensor, const float* gradient, std::uint64_t first, std::uint64_t count,
                     Stream stream) {
  const float* const from = gradient_at(tensor, gradient, first);
  if (tensor.gradient == ElementType::kFloat32) return take(to, from, count * sizeof(float), stream);
  const auto* const elements = reinterpret_cast<const std::uint16_t*>(from);
  if (on_device()) return device_->widen(to, elements, count, tensor.gradient, stream);
  std::uint16_t* const local = codes_.of(count, nullptr);
  device_->read(local, elements, count * sizeof(std::uint16_t), stream);
  widen_values(to, local, count, tensor.gradient);
}

void Exchange::put(void* to, const void* from, std::size_t bytes, Stream stream) {
  on_device() ? device_->copy(to, from, bytes, stream) : device_->write(to, from, bytes, stream);
}

AddressTable& Exchange::reduce(const Layout& layout, const AddressTable& gradients, std::uint32_t first,
                               std::uint32_t count, Stream stream) {
  make_room(layout, gradients.rows(), gradients.columns(), first, count);
  const std::uint32_t ranks = collective().size(), own = collective().rank();
  for (std::uint32_t term = first; term < first + count; ++term) {
    const auto for_present = [&](std::uint64_t from, std::uint64_t to, const auto& body) {
      layout.for_slots(from, to, [&](std::uint32_t tensor, std::uint64_t element, std::uint64_t elements) {
        if (gradients.get(term, tensor) != nullptr) body(tensor, element, elements);
      });
    };
    for_pieces(layout, [&](const auto& begin, const auto& end) {
      const Parts parts = parts_of([&](std::uint32_t rank) {
        std::size_t sum = 0;
        for_present(begin(rank), end(rank),
                    [&](std::uint32_t, std::uint64_t, std::uint64_t elements) { sum += elements; });
        return sum;
      });
      if (parts.end() == 0) return;
      float* const staged = staging_.of(parts.end(), place());
      for (std::uint32_t rank = 0; rank < ranks; ++rank) {
        float* next = staged + parts.starts[rank];
        for_present(begin(rank), end(rank), [&](std::uint32_t tensor, std::uint64_t element, std::uint64_t elements) {
          stage(next, layout.tensors()[tensor], gradients.get(term, tensor), element, elements, stream);
          next += elements;
        });
      }
      sum_piece(staged, parts, stream);
      if (!sharing_.state) collective().gather(staged, in_bytes(parts, sizeof(float)), stream);
      for (std::uint32_t rank = 0; rank < ranks; ++rank) {
        if (sharing_.state && rank != own) continue;
        const float* next = staged + parts.starts[rank];
        for_present(begin(rank), end(rank), [&](std::uint32_t tensor, std::uint64_t element, std::uint64_t elements) {
          put(sums_->get(term, tensor) + element, next, elements * sizeof(float), stream);
          next += elements;
        });
      }
    });
    for (std::uint32_t tensor = 0; tensor < gradients.columns(); ++tensor) {
      if (gradients.get(term, tensor) == nullptr) sums_->set(term, tensor, nullptr);
    }
  }
  return *sums_;
}

// Replaces this rank's part of the staged gradients by its sum over the ranks.
void Exchange::sum_piece(float* staged, const Parts& parts, Stream stream) {
  if (sharing_.reduction == Reduction::kLibrary && sharing_.wire == Wire::kFloat32) {
    return collective().reduce_scatter(staged, parts, stream);
  }
  const DefaultFloatEnvironment environment;
  const std::size_t ranks = collective().size(), count = parts.counts[collective().rank()];
  const Parts arriving = equal_parts(ranks, count);
  float* const received = received_.of(arriving.end(), place());
  if (sharing_.wire == Wire::kBfloat16) {
    std::uint16_t* const sent = sent_.of(parts.end(), place());
    std::uint16_t* const codes = codes_.of(arriving.end(), place());
    on_device() ? device_->narrow(sent, staged, parts.end(), stream) : narrow_values(sent, staged, parts.end());
    collective().all_to_all(sent, in_bytes(parts, 2), codes, in_bytes(arriving, 2), stream);
    on_device() ? device_->widen(received, codes, arriving.end(), ElementType::kBfloat16, stream)
                : widen_values(received, codes, arriving.end(), ElementType::kBfloat16);
  } else {
    collective().all_to_all(staged, in_bytes(parts, 4), received, in_bytes(arriving, 4), stream);
  }
  add_as_tree(received, ranks, count, stream);
  float* const sum = staged + parts.starts[collective().rank()];
  on_device() ? device_->copy(sum, received, count * sizeof(float), stream)
              : static_cast<void>(std::copy_n(received, count, sum));
}

// Adds `count` elements of each rank into those of rank 0: neighbours first, then pairs of them, and so on.
void Exchange::add_as_tree(float* values, std::size_t ranks, std::size_t count, Stream stream) {
  for (std::size_t step = 1; step < ranks; step *= 2) {
    for (std::size_t rank = 0; rank + step < ranks; rank += 2 * step) {
      float* const to = values + rank * count;
      const float* const from = values + (rank + step) * count;
      if (on_device()) {
        device_->add(to, from, count, ElementType::kFloat32, stream);
        continue;
      }
      for (std::size_t k = 0; k < count; ++k) to[k] += from[k];
    }
  }
}

// The slots of the ranks follow one another.
void Exchange::gather_slots(const Layout& layout, double* values, Stream stream) {
  const Slots slots = own(layout);
  const Parts parts = parts_of(
      [&](std::uint32_t rank) { return (first_slot(layout, rank + 1) - first_slot(layout, rank)) * sizeof(double); });
  double* const all = slots_.of(parts.end() / sizeof(double), place());
  const std::size_t start = parts.starts[collective().rank()] / sizeof(double);
  take(all + start, values + slots.first, (slots.end - slots.first) * sizeof(double), stream);
  collective().gather(all, parts, stream);
  put(values, all, layout.slot_count() * sizeof(double), stream);
}

void Exchange::gather_parameters(const Layout& layout, const AddressTable& parameters, Stream stream) {
  const std::uint32_t ranks = collective().size(), own = collective().rank();
  const auto for_bytes = [&](std::uint64_t from, std::uint64_t to, const auto& body) {
    layout.for_slots(from, to, [&](std::uint32_t tensor, std::uint64_t first, std::uint64_t count) {
      body(bytes_of(layout, parameters, tensor, first, count));
    });
  };
  for_pieces(layout, [&](const auto& begin, const auto& end) {
    const Parts parts = parts_of([&](std::uint32_t rank) {
      std::size_t sum = 0;
      for_bytes(begin(rank), end(rank), [&](const ParameterBytes& piece) { sum += piece.count; });
      return sum;
    });
    auto* const staged =
        reinterpret_cast<std::byte*>(staging_.of((parts.end() + sizeof(float) - 1) / sizeof(float), place()));
    std::byte* mine = staged + parts.starts[own];
    for_bytes(begin(own), end(own), [&](const ParameterBytes& piece) {
      take(mine, piece.first, piece.count, stream);
      mine += piece.count;
    });
    collective().gather(staged, parts, stream);
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      if (rank == own) continue;
      const std::byte* next = staged + parts.starts[rank];
      for_bytes(begin(rank), end(rank), [&](const ParameterBytes& piece) {
        put(piece.first, next, piece.count, stream);
        next += piece.count;
      });
    }
  });
}

void Exchange::gather_range(const Layout& layout, const StoredRange& range,
                            const std::function<void(std::uint64_t, std::uint64_t, std::byte*)>& read, void* to) {
  const std::uint64_t slot = layout.tensors()[range.tensor].slot, end = range.first + range.count;
  // Where the part of a rank begins, within the range.
  const auto begin = [&](std::uint32_t rank) {
    const std::uint64_t owned = std::max(slot, first_slot(layout, rank)) - slot;
    return std::clamp(owned * (kChunkElements / range.unit), range.first, end);
  };
  Parts parts;
  const std::uint32_t ranks = collective().size(), own = collective().rank();
  for (std::uint32_t rank = 0; rank < ranks; ++rank) {
    const std::uint64_t last = rank + 1 == ranks ? end : begin(rank + 1);
    parts.add((last - begin(rank)) * range.bytes);
  }
  const std::uint64_t mine = parts.counts[own] / range.bytes;
  if (mine > 0) read(begin(own), mine, static_cast<std::byte*>(to) + parts.starts[own]);
  collective().gather_on_host(to, parts);
}

}  // namespace mtadam
