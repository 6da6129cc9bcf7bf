#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "cpu/host_memory.h"
#include "engine/device.h"

namespace mtadam::test {

/// A device in host memory that counts allocated and written bytes. It computes nothing.
class CountingDevice final : public Device {
 public:
  std::unique_ptr<Memory> allocate(std::size_t bytes) override {
    allocated_ += bytes;
    return heap_.allocate(bytes);
  }
  void write(void* to, const void* from, std::size_t bytes, Stream) override {
    written_ += bytes;
    const std::byte* const source = static_cast<const std::byte*>(from);
    for (std::size_t k = 0; k < bytes; ++k) static_cast<std::byte*>(to)[k] = source[k];
  }
  void read(void*, const void*, std::size_t, Stream) override {}
  std::unique_ptr<HostCopy> read_later(const void*, std::size_t, Stream) override { return nullptr; }
  void fill(void*, std::uint64_t, std::size_t, std::size_t, Stream) override {}
  std::string name() const override { return "counting"; }
  bool immediate() const override { return true; }
  void check_stream(Stream) const override {}
  void check_range(const void*, std::size_t) const override {}
  std::unique_ptr<Event> make_event() override { return nullptr; }
  std::unique_ptr<Graph> capture(Stream, const std::function<void(Stream)>&) override { return nullptr; }
  std::unique_ptr<Event> all_done() override { return nullptr; }
  void load(const Tables&) override {}
  void zero(const Tables&, const Call&, Stream) override {}
  void norms(const Tables&, const Call&, Stream) override {}
  void cosines(const Tables&, const Call&, Stream) override {}
  void moments(const Tables&, const Call&, Stream) override {}
  void update(const Tables&, Stream) override {}
  void update(const Tables&, const Call&, Stream) override {}
  void add(void*, const void*, std::uint64_t, ElementType, Stream) override {}

  std::size_t allocated() const { return allocated_; }
  std::size_t written() const { return written_; }

 private:
  HostHeap heap_;
  std::size_t allocated_ = 0;
  std::size_t written_ = 0;
};

}  // namespace mtadam::test
