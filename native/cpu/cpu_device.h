#pragma once

#include <atomic>
#include <string>

#include "cpu/chunk_range.h"
#include "cpu/host_memory.h"
#include "cpu/instruction_set.h"
#include "cpu/thread_pool.h"
#include "engine/device.h"

namespace mtadam {

/// The CPU as a device: a thread pool over chunks of parameters, with vectorised loops over math/moments.h. Calls are
/// done when they return. Results have the same bits with any number of threads and any instruction set.
class CpuDevice final : public Device {
 public:
  /// Throws Error (OPTION) for an instruction set that this machine lacks; "" is the widest.
  explicit CpuDevice(unsigned threads, const std::string& instruction_set = "");

  /// The instruction set.
  std::string name() const override { return set_.name; }
  bool immediate() const override { return true; }
  bool in_host_memory() const override { return true; }
  void check_stream(Stream stream) const override;
  /// Always throws: a host address cannot be checked.
  void check_range(const void* address, std::size_t bytes) const override;
  std::unique_ptr<Memory> allocate(std::size_t bytes) override;
  void write(void* to, const void* from, std::size_t bytes, Stream stream) override;
  void read(void* to, const void* from, std::size_t bytes, Stream stream) override;
  std::unique_ptr<HostCopy> read_later(const void* from, std::size_t bytes, Stream stream) override;
  void fill(void* to, std::uint64_t pattern, std::size_t element, std::size_t bytes, Stream stream) override;
  std::unique_ptr<Event> make_event() override;
  std::unique_ptr<Graph> capture(Stream stream, const std::function<void(Stream)>& calls) override;
  std::unique_ptr<Event> all_done() override { return make_event(); }
  void load(const Tables&) override {}
  void norms(const Tables& tables, const Call& call, Stream stream) override;
  void cosines(const Tables& tables, const Call& call, Stream stream) override;
  void moments(const Tables& tables, const Call& call, Stream stream) override;
  void update(const Tables& tables, Stream stream) override;
  void update(const Tables& tables, const Call& call, Stream stream) override;
  bool step_in_one_pass(const Tables& tables, const Call& call, const OnePass&) override;
  bool accumulate_in_one_pass(const Tables& tables, const Call& call, const OnePass&) override;
  bool take_skipped() override { return skipped_.exchange(false); }
  void zero(const Tables& tables, const Call& call, Stream stream) override;
  void add(void* target, const void* source, std::uint64_t count, ElementType type, Stream stream) override;

 private:
  /// What a call does with the elements of a range.
  using RangeStep = void (*)(const Loops&, const Tables&, const Call&, const ChunkRange&);

  template <class Body>
  void for_blocks(std::uint64_t count, std::uint64_t elements, const Body& body);
  template <class Body>
  void for_ranges(const Tables& tables, std::uint64_t terms, const Body& body);
  template <class Body>
  void for_layers(const Tables& tables, std::uint64_t cost, const Body& body);
  void in_one_read(const Tables& tables, const Call& call, RangeStep step, RangeStep step_and_sums);
  bool in_one_pass(const Tables& tables, const Call& call, RangeStep step);

  InstructionSet set_;
  HostHeap heap_;
  ThreadPool pool_;
  std::atomic<bool> skipped_ = false;
};

}  // namespace mtadam
