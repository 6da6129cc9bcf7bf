#include "cuda/stream.h"

#include "cuda/errors.h"
#include "cuda/memory.h"

namespace mtadam::cuda {
namespace {

cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream); }

std::string device_name(int device) { return "cuda:" + std::to_string(device); }

}  // namespace

void check_stream_of(int device, cudaStream_t stream) {
  if (stream == nullptr) return;
  int owner = device;
  const cudaError_t error = cudaStreamGetDevice(stream, &owner);
  if (error == cudaErrorInvalidResourceHandle || error == cudaErrorInvalidValue) {
    cudaGetLastError();
    throw Error("OPTION", "must be a stream that exists; got another handle.");
  }
  // A driver of the same major version may be too old to tell.
  if (error != cudaErrorCallRequiresNewerDriver) check(error, "cudaStreamGetDevice");
  if (owner != device) {
    throw Error("OPTION", "must be a stream of " + device_name(device) + "; got one of " + device_name(owner) + ".");
  }
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
  if (status != cudaStreamCaptureStatusNone) {
    // What the step sends ahead of its kernels must not become part of a graph.
    throw Error("STATE", "must not be capturing; use `captureStep()` and replay the step beside the graph.");
  }
}

CudaEvent::CudaEvent(int device) : device_(device) {
  const CurrentDevice current(device_);
  // Blocking: a thread that waits sleeps.
  check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming | cudaEventBlockingSync), "cudaEventCreateWithFlags");
}

CudaEvent::~CudaEvent() { cudaEventDestroy(event_); }

void CudaEvent::record(Stream stream) {
  const CurrentDevice current(device_);
  check(cudaEventRecord(event_, native(stream)), "cudaEventRecord");
}

void CudaEvent::hold(Stream stream) {
  const CurrentDevice current(device_);
  check(cudaStreamWaitEvent(native(stream), event_, 0), "cudaStreamWaitEvent");
}

void CudaEvent::wait() {
  const CurrentDevice current(device_);
  check(cudaEventSynchronize(event_), "cudaEventSynchronize");
}

CudaRecording::CudaRecording(int device, cudaStream_t stream, const std::function<void(Stream)>& calls)
    : device_(device), stream_(stream) {
  const CurrentDevice current(device_);
  try {
    if (stream_ == nullptr) {
      // Orders itself with the default stream, as the optimizer's own calls do.
      check(cudaStreamCreateWithFlags(&own_, cudaStreamDefault), "cudaStreamCreateWithFlags");
      stream_ = own_;
    }
    capture(calls);
  } catch (...) {
    release();
    throw;
  }
}

void CudaRecording::capture(const std::function<void(Stream)>& calls) {
  // Of this thread alone: another thread's calls are no part of it and may go on.
  check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  cudaGraph_t graph = nullptr;
  try {
    calls(stream_);
  } catch (...) {
    cudaStreamEndCapture(stream_, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(stream_, &graph), "cudaStreamEndCapture");
  const cudaError_t instantiated = cudaGraphInstantiate(&graph_, graph, 0);
  cudaGraphDestroy(graph);
  check(instantiated, "cudaGraphInstantiate");
}

CudaRecording::~CudaRecording() { release(); }

// What still runs goes on; the runtime keeps it until it is done.
void CudaRecording::release() {
  if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
  if (own_ != nullptr) cudaStreamDestroy(own_);
}

void CudaRecording::replay() {
  const CurrentDevice current(device_);
  check(cudaGraphLaunch(graph_, stream_), "cudaGraphLaunch");
}

}  // namespace mtadam::cuda
