#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/device.h"

namespace mtadam::test {

/// Describes every tensor to another device as if kFarChunks chunks without memory came before its elements: element k
/// of the memory is element kFarElements + k of the tensor. So kernels and loops compute offsets beyond 32 bits without
/// that much memory. Each layer must have one tensor.
class DisplacedDevice final : public Device {
 public:
  static constexpr std::uint32_t kFarChunks = std::uint32_t{1} << 20;
  static constexpr std::uint64_t kFarElements = std::uint64_t{kFarChunks} * kChunkElements;
  static_assert(kFarElements == std::uint64_t{1} << 32);

  explicit DisplacedDevice(std::shared_ptr<Device> device) : device_(std::move(device)) {}

  void norms(const Tables& tables, const Call& call, Stream stream) override {
    device_->norms(displaced(tables), displaced(tables, call), stream);
  }
  void cosines(const Tables& tables, const Call& call, Stream stream) override {
    device_->cosines(displaced(tables), displaced(tables, call), stream);
  }
  void moments(const Tables& tables, const Call& call, Stream stream) override {
    device_->moments(displaced(tables), displaced(tables, call), stream);
  }
  void update(const Tables& tables, Stream stream) override { device_->update(displaced(tables), stream); }
  void update(const Tables& tables, const Call& call, Stream stream) override {
    device_->update(displaced(tables), displaced(tables, call), stream);
  }
  bool step_in_one_pass(const Tables& tables, const Call& call, const OnePass& pass) override {
    return device_->step_in_one_pass(displaced(tables), displaced(tables, call), pass);
  }
  bool accumulate_in_one_pass(const Tables& tables, const Call& call, const OnePass& pass) override {
    return device_->accumulate_in_one_pass(displaced(tables), displaced(tables, call), pass);
  }
  void zero(const Tables& tables, const Call& call, Stream stream) override {
    device_->zero(displaced(tables), displaced(tables, call), stream);
  }

  std::string name() const override { return device_->name(); }
  bool immediate() const override { return device_->immediate(); }
  void check_stream(Stream stream) const override { device_->check_stream(stream); }
  void check_range(const void* address, std::size_t bytes) const override { device_->check_range(address, bytes); }
  std::unique_ptr<Memory> allocate(std::size_t bytes) override { return device_->allocate(bytes); }
  void write(void* to, const void* from, std::size_t bytes, Stream stream) override {
    device_->write(to, from, bytes, stream);
  }
  void read(void* to, const void* from, std::size_t bytes, Stream stream) override {
    device_->read(to, from, bytes, stream);
  }
  std::unique_ptr<HostCopy> read_later(const void* from, std::size_t bytes, Stream stream) override {
    return device_->read_later(from, bytes, stream);
  }
  void fill(void* to, std::uint64_t pattern, std::size_t element, std::size_t bytes, Stream stream) override {
    device_->fill(to, pattern, element, bytes, stream);
  }
  std::unique_ptr<Event> make_event() override { return device_->make_event(); }
  std::unique_ptr<Event> all_done() override { return device_->all_done(); }
  std::unique_ptr<Graph> capture(Stream stream, const std::function<void(Stream)>& calls) override {
    return device_->capture(stream, calls);
  }
  void load(const Tables& tables) override { device_->load(tables); }
  void add(void* target, const void* source, std::uint64_t count, ElementType type, Stream stream) override {
    device_->add(target, source, count, type, stream);
  }

 private:
  /// The address of an array whose element `count` is the first of `array`; null stays null.
  template <class T>
  static T* displaced(T* array, std::uint64_t count) {
    if (array == nullptr) return nullptr;
    return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(array) - count * sizeof(T));
  }

  /// The address of a tensor's memory, of elements of `type`, as if far elements came before it.
  template <class T>
  static T* displaced(T* tensor, ElementType type) {
    if (tensor == nullptr) return nullptr;
    return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(tensor) - kFarElements * element_bytes(type));
  }

  template <class T>
  std::vector<T> copy_of(const T* entries, std::uint64_t count) {
    std::vector<T> copy(count);
    device_->read(copy.data(), entries, count * sizeof(T), nullptr);
    return copy;
  }

  /// A copy of a table on the device, with `change` applied to each entry and its index.
  template <class T, class Change>
  const T* changed(const T* entries, std::uint64_t count, const Change& change) {
    std::vector<T> copy = copy_of(entries, count);
    for (std::uint64_t k = 0; k < count; ++k) change(copy[k], k);
    copies_.push_back(device_->allocate(count * sizeof(T)));
    device_->write(copies_.back()->data(), copy.data(), count * sizeof(T), nullptr);
    return reinterpret_cast<const T*>(copies_.back()->data());
  }

  Tables displaced(const Tables& tables) {
    Tables moved = tables;
    const std::vector<Tensor> tensors = copy_of(tables.tensors, tables.tensor_count);
    moved.tensors = changed(tables.tensors, tables.tensor_count, [](Tensor& tensor, std::uint64_t) {
      tensor.length += kFarElements;
      tensor.plane -= kFarElements;
      tensor.gathered -= kFarElements;
      tensor.master -= kFarElements * master_bytes(tensor.type);
    });
    moved.chunks =
        changed(tables.chunks, tables.chunk_count, [](Chunk& chunk, std::uint64_t) { chunk.index += kFarChunks; });
    moved.layers =
        changed(tables.layers, tables.layer_count, [](Layer& layer, std::uint64_t) { layer.slot += kFarChunks; });
    moved.parameters = changed(tables.parameters, tables.tensor_count,
                               [&](float*& theta, std::uint64_t k) { theta = displaced(theta, tensors[k].type); });
    moved.terms = changed(tables.terms, tables.term_count, [](Term& term, std::uint64_t) {
      term.partial = displaced(term.partial, kFarChunks);
      term.dots = displaced(term.dots, kFarChunks);
    });
    return moved;
  }

  Call displaced(const Tables& tables, const Call& call) {
    Call moved = call;
    const std::vector<Tensor> tensors = copy_of(tables.tensors, tables.tensor_count);
    moved.gradients = changed(call.gradients, std::uint64_t{call.count} * tables.tensor_count,
                              [&](const float*& gradient, std::uint64_t k) {
                                gradient = displaced(gradient, tensors[k % tensors.size()].gradient);
                              });
    return moved;
  }

  std::shared_ptr<Device> device_;
  std::vector<std::unique_ptr<Memory>> copies_;  // calls may read them after they return
};

}  // namespace mtadam::test
