#pragma once

#include <functional>
#include <memory>
#include <set>

#include "cuda/context.h"
#include "cuda/runtime.h"
#include "engine/device.h"

namespace mtadam::cuda {

/// Throws Error (OPTION, STATE) unless calls can come on the stream of the device, whose context is current. The
/// message lacks its subject.
void check_stream_of(int device, cudaStream_t stream);

/// False if there is no such stream and if its capture has been invalidated.
bool is_capturing(cudaStream_t stream);

/// Whether a stream that orders itself with the default one of the current context is being captured, which forbids the
/// default one meanwhile.
bool default_is_captured();

/// A stream that does not order itself with the default one.
class OwnStream {
 public:
  explicit OwnStream(SharedContext context);
  ~OwnStream();
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;

  cudaStream_t get() const { return stream_; }

 private:
  SharedContext context_;
  cudaStream_t stream_ = nullptr;
};

/// What the calls of a device have enqueued, on any stream, and the memory that is freed after it. The context is
/// current in every call.
class EnqueuedWork {
 public:
  explicit EnqueuedWork(SharedContext context);
  ~EnqueuedWork();
  EnqueuedWork(const EnqueuedWork&) = delete;
  EnqueuedWork& operator=(const EnqueuedWork&) = delete;

  /// The event will mark ends of calls, until it is forgotten.
  void add(cudaEvent_t event) { ends_.insert(event); }
  void forget(cudaEvent_t event) noexcept;

  /// Makes later work on the stream wait for all work so far. Throws CudaError.
  void make_wait(cudaStream_t stream);
  /// Frees memory of a pool after all work so far. Does not wait.
  void free_after(void* memory) noexcept;
  /// Waits until all memory given to free_after() is free; false if it is already. Throws CudaError.
  bool wait_for_frees();

 private:
  SharedContext context_;
  OwnStream freeing_;
  std::set<cudaEvent_t> ends_;
  cudaEvent_t end_of_default_ = nullptr;
};

class CudaEvent final : public Event {
 public:
  /// Adds the event to `work`, if given.
  explicit CudaEvent(SharedContext context, std::shared_ptr<EnqueuedWork> work = nullptr);
  ~CudaEvent() override;

  void record(Stream stream) override;
  void make_wait(Stream stream) override;
  void wait() override;
  bool is_reached() override;

 private:
  SharedContext context_;
  cudaEvent_t event_ = nullptr;
  std::shared_ptr<EnqueuedWork> work_;
};

/// A graph of the calls that were made on a stream while it was captured.
class CudaGraph final : public Graph {
 public:
  /// For launches on `stream`. The calls are captured on another: capturing one that orders itself with the default
  /// stream would forbid the default stream to all other code meanwhile.
  CudaGraph(SharedContext context, cudaStream_t stream, const std::function<void(Stream)>& calls);
  ~CudaGraph() override;

  Stream stream() const override { return stream_; }
  void launch() override;

 private:
  SharedContext context_;
  cudaStream_t stream_;
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace mtadam::cuda
