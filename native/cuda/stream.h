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

/// The events of a device that mark the end of calls on the user's streams.
using LiveEvents = std::set<cudaEvent_t>;

class CudaEvent final : public Event {
 public:
  /// Adds the event to `live`, if given.
  explicit CudaEvent(SharedContext context, std::shared_ptr<LiveEvents> live = nullptr);
  ~CudaEvent() override;

  void record(Stream stream) override;
  void make_wait(Stream stream) override;
  void wait() override;

 private:
  SharedContext context_;
  cudaEvent_t event_ = nullptr;
  std::shared_ptr<LiveEvents> live_;
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
