#pragma once

#include "cuda/runtime.h"
#include "engine/device.h"

namespace mtadam::cuda {

/// Throws Error (OPTION, STATE) unless calls can come on the stream of the device, which is current. The message lacks
/// its subject.
void check_stream_of(int device, cudaStream_t stream);

class CudaEvent final : public Event {
 public:
  explicit CudaEvent(int device);
  ~CudaEvent() override;

  void record(Stream stream) override;
  void hold(Stream stream) override;
  void wait() override;

 private:
  int device_;
  cudaEvent_t event_ = nullptr;
};

/// A graph of the calls that were made on a stream while it was captured.
class CudaRecording final : public Recording {
 public:
  /// Captures on `stream`, or on one of its own where that is null: the default stream cannot be captured.
  CudaRecording(int device, cudaStream_t stream, const std::function<void(Stream)>& calls);
  ~CudaRecording() override;

  Stream stream() const override { return stream_; }
  void replay() override;

 private:
  void capture(const std::function<void(Stream)>& calls);
  void release();

  int device_;
  cudaStream_t own_ = nullptr;
  cudaStream_t stream_;
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace mtadam::cuda
