#include "engine/exchange.h"

#include <algorithm>
#include <cstring>

#include "engine/narrow_values.h"
#include "math/scalars.h"

namespace mtadam {
namespace {

struct ParameterBytes {
  std::byte* first;
  std::size_t count;
};

// Follows ranges of memory that may lie one after another.
class Run {
 public:
  void add(const void* first, std::size_t bytes) {
    const auto address = reinterpret_cast<std::uintptr_t>(first);
    if (end_ == 0) first_ = address;
    whole_ &= end_ == 0 || address == end_;
    end_ = address + bytes;
  }
  // The first of their bytes; null if they do not lie one after another, or there are none.
  template <class T>
  T* start() const {
    return whole_ && end_ != 0 ? reinterpret_cast<T*>(first_) : nullptr;
  }

 private:
  std::uintptr_t first_ = 0, end_ = 0;
  bool whole_ = true;
};

// Of elements of a parameter, in its own type.
ParameterBytes bytes_of(const Layout& layout, const AddressTable& parameters, std::uint32_t tensor, std::uint64_t first,
                        std::uint64_t count) {
  const std::size_t each = element_bytes(layout.tensors()[tensor].type);
  return {reinterpret_cast<std::byte*>(parameters.get(0, tensor)) + first * each, count * each};
}

// Calls body(tensor, first element, elements) for the slots of tensors that have a gradient, or a sum of them.
template <class Body>
void for_present(const Layout& layout, const AddressTable& gradients, std::uint32_t term, const Slots& slots,
                 const Body& body) {
  layout.for_slots(slots.first, slots.end, [&](std::uint32_t tensor, std::uint64_t first, std::uint64_t count) {
    if (gradients.get(term, tensor) != nullptr) body(tensor, first, count);
  });
}

std::size_t count_present(const Layout& layout, const AddressTable& gradients, std::uint32_t term, const Slots& slots) {
  std::size_t sum = 0;
  for_present(layout, gradients, term, slots, [&](std::uint32_t, std::uint64_t, std::uint64_t count) { sum += count; });
  return sum;
}

}  // namespace

Exchange::Exchange(Sharing sharing, std::shared_ptr<Device> device, Layout& layout)
    : sharing_(std::move(sharing)), device_(std::move(device)), sum_(sharing_, place()) {
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

// Calls body(slots) with a piece of what each rank owns, for all pieces.
template <class Body>
void Exchange::for_pieces(const Layout& layout, const Body& body) const {
  const std::uint32_t ranks = collective().size();
  const std::uint64_t bytes = std::uint64_t{kChunkElements} * sizeof(float) * ranks;
  const std::uint64_t piece = std::max<std::uint64_t>(1, sharing_.staging_bytes / bytes);
  const std::uint64_t most = first_slot(layout, 1);
  for (std::uint64_t done = 0; done < most; done += piece) {
    std::vector<Slots> slots;
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      const std::uint64_t first = first_slot(layout, rank), end = first_slot(layout, rank + 1);
      slots.push_back({std::min(first + done, end), std::min(first + done + piece, end)});
    }
    body(slots);
  }
}

// Places the sums as the sum of the terms is in its plane, so that they are aligned as the float32 moments.
void Exchange::make_room(const Layout& layout, const AddressTable& gradients, std::uint32_t first,
                         std::uint32_t count) {
  const std::uint32_t rows = gradients.rows(), columns = gradients.columns();
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
      const bool present = gradients.get(first + k, tensor) != nullptr;
      sums_->set(first + k, tensor, present ? reinterpret_cast<float*>(place) : nullptr);
    }
  }
}

std::uint64_t Exchange::hash_of(const Layout& layout, const AddressTable& parameters, Stream stream) {
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
  return hash;
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
  std::uint16_t* const local = narrow_.of(count, nullptr, stream);
  device_->read(local, elements, count * sizeof(std::uint16_t), stream);
  widen_values(to, local, count, tensor.gradient);
}

void Exchange::put(void* to, const void* from, std::size_t bytes, Stream stream) {
  on_device() ? device_->copy(to, from, bytes, stream) : device_->write(to, from, bytes, stream);
}

Piece Exchange::present_piece(const Layout& layout, const AddressTable& gradients, std::uint32_t term,
                              const std::vector<Slots>& slots, std::size_t start) const {
  const auto count = [&](std::uint32_t rank) { return count_present(layout, gradients, term, slots[rank]); };
  return {slots, parts_of(count), start};
}

// The gradients of a piece where they are, if that is as stage_piece() would place them; else null.
const float* Exchange::lying_as_staged(const Layout& layout, const AddressTable& gradients, std::uint32_t term,
                                       const Piece& piece) const {
  if (!device_->in_host_memory()) return nullptr;
  Run run;
  bool wide = true;
  for (const Slots& slots : piece.slots) {
    for_present(layout, gradients, term, slots, [&](std::uint32_t tensor, std::uint64_t first, std::uint64_t count) {
      const Tensor& shape = layout.tensors()[tensor];
      wide &= shape.gradient == ElementType::kFloat32;
      run.add(gradient_at(shape, gradients.get(term, tensor), first), count * sizeof(float));
    });
  }
  return wide ? run.start<const float>() : nullptr;
}

void Exchange::stage_piece(const Layout& layout, const AddressTable& gradients, std::uint32_t term, const Piece& piece,
                           float* staged, Stream stream) {
  for (std::uint32_t rank = 0; rank < collective().size(); ++rank) {
    float* next = staged + piece.parts.starts[rank];
    for_present(layout, gradients, term, piece.slots[rank],
                [&](std::uint32_t tensor, std::uint64_t element, std::uint64_t elements) {
                  stage(next, layout.tensors()[tensor], gradients.get(term, tensor), element, elements, stream);
                  next += elements;
                });
  }
}

void Exchange::put_piece(const Layout& layout, std::uint32_t term, const Piece& piece, const float* staged,
                         Stream stream) {
  for (std::uint32_t rank = 0; rank < collective().size(); ++rank) {
    if (sharing_.state && rank != collective().rank()) continue;
    const float* next = staged + piece.parts.starts[rank];
    for_present(layout, *sums_, term, piece.slots[rank],
                [&](std::uint32_t tensor, std::uint64_t element, std::uint64_t elements) {
                  put(sums_->get(term, tensor) + element, next, elements * sizeof(float), stream);
                  next += elements;
                });
  }
}

AddressTable& Exchange::reduce(const Layout& layout, const AddressTable& gradients, std::uint32_t first,
                               std::uint32_t count, Stream stream) {
  make_room(layout, gradients, first, count);
  for (std::uint32_t term = first; term < first + count; ++term) {
    for_pieces(layout, [&](const std::vector<Slots>& slots) {
      const Piece piece = present_piece(layout, gradients, term, slots, 0);
      if (piece.parts.end() == 0) return;
      float* const staged = staging_.of(piece.parts.end(), place(), stream);
      const float* const lying = lying_as_staged(layout, gradients, term, piece);
      if (lying == nullptr) stage_piece(layout, gradients, term, piece, staged, stream);
      sum_.add_up(lying == nullptr ? staged : lying, piece.parts, staged, stream);
      put_piece(layout, term, piece, staged, stream);
    });
  }
  return *sums_;
}

void Exchange::add_own_chunks(const Layout& layout, const AddressTable& gradients, std::uint32_t term,
                              const Piece& piece, std::vector<TermExchange::OwnChunk>& chunks) const {
  const std::uint32_t own = collective().rank();
  std::size_t next = piece.start + piece.parts.starts[own];
  for_present(layout, gradients, term, piece.slots[own],
              [&](std::uint32_t tensor, std::uint64_t first, std::uint64_t count) {
                for (std::uint64_t done = 0; done < count; done += kChunkElements) {
                  const std::uint64_t slot = layout.tensors()[tensor].slot + (first + done) / kChunkElements;
                  const auto length = static_cast<std::uint32_t>(std::min<std::uint64_t>(kChunkElements, count - done));
                  chunks.push_back({slot, next, length});
                  next += length;
                }
              });
}

void Exchange::begin(const Layout& layout, const AddressTable& gradients, std::uint32_t term,
                     const Agreement& agreement, std::optional<std::uint64_t> parameters, Stream stream) {
  make_room(layout, gradients, term, 1);
  if (term_ == nullptr) term_ = std::make_shared<TermExchange>(sharing_);
  TermExchange::Content content{agreement, parameters, {}, {}, slot_bytes(layout)};
  std::size_t elements = 0;
  for_pieces(layout, [&](const std::vector<Slots>& slots) {
    Piece piece = present_piece(layout, gradients, term, slots, elements);
    if (piece.parts.end() == 0) return;
    elements += piece.parts.end();
    content.pieces.push_back(std::move(piece));
  });
  float* const staged = term_->stage(elements);
  for (const Piece& piece : content.pieces) {
    stage_piece(layout, gradients, term, piece, staged + piece.start, stream);
    if (sharing_.state) add_own_chunks(layout, gradients, term, piece, content.own_chunks);
  }
  term_->begin(std::move(content));
}

AddressTable& Exchange::end(const Layout& layout, std::uint32_t term, double* squares, Stream stream) {
  term_->end();
  for (const Piece& piece : term_->pieces()) put_piece(layout, term, piece, term_->sums() + piece.start, stream);
  if (sharing_.state) put(squares, term_->squares().data(), layout.slot_count() * sizeof(double), stream);
  return *sums_;
}

// The slots of the ranks follow one another.
Parts Exchange::slot_bytes(const Layout& layout) const {
  return parts_of(
      [&](std::uint32_t rank) { return (first_slot(layout, rank + 1) - first_slot(layout, rank)) * sizeof(double); });
}

void Exchange::gather_slots(const Layout& layout, double* values, Stream stream) {
  const Slots slots = own(layout);
  const Parts parts = slot_bytes(layout);
  double* const all = slots_.of(parts.end() / sizeof(double), place(), stream);
  const std::size_t start = parts.starts[collective().rank()] / sizeof(double);
  take(all + start, values + slots.first, (slots.end - slots.first) * sizeof(double), stream);
  collective().gather(all, parts, stream);
  put(values, all, layout.slot_count() * sizeof(double), stream);
}

void Exchange::gather_parameters(const Layout& layout, const AddressTable& parameters, Stream stream) {
  const std::uint32_t ranks = collective().size(), own = collective().rank();
  const auto for_bytes = [&](const Slots& slots, const auto& body) {
    layout.for_slots(slots.first, slots.end, [&](std::uint32_t tensor, std::uint64_t first, std::uint64_t count) {
      body(bytes_of(layout, parameters, tensor, first, count));
    });
  };
  for_pieces(layout, [&](const std::vector<Slots>& slots) {
    const Parts parts = parts_of([&](std::uint32_t rank) {
      std::size_t sum = 0;
      for_bytes(slots[rank], [&](const ParameterBytes& piece) { sum += piece.count; });
      return sum;
    });
    Run run;
    for (const Slots& each : slots) {
      for_bytes(each, [&](const ParameterBytes& piece) { run.add(piece.first, piece.count); });
    }
    auto* const lying = device_->in_host_memory() ? run.start<std::byte>() : nullptr;
    if (lying != nullptr) return collective().gather(lying, parts, stream);
    auto* const staged =
        reinterpret_cast<std::byte*>(staging_.of((parts.end() + sizeof(float) - 1) / sizeof(float), place(), stream));
    std::byte* mine = staged + parts.starts[own];
    for_bytes(slots[own], [&](const ParameterBytes& piece) {
      take(mine, piece.first, piece.count, stream);
      mine += piece.count;
    });
    collective().gather(staged, parts, stream);
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      if (rank == own) continue;
      const std::byte* next = staged + parts.starts[rank];
      for_bytes(slots[rank], [&](const ParameterBytes& piece) {
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
