#include "cuda/stream.h"

#include "cuda/errors.h"

namespace mtadam::cuda {
namespace {

cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream); }

// Checks the result of a call with a stream's handle.
void check_handle(cudaError_t error, const char* operation) {
  if (error == cudaErrorInvalidResourceHandle || error == cudaErrorInvalidValue) {
    cudaGetLastError();
    throw Error("OPTION", "must be a stream that exists; got another handle.");
  }
  check(error, operation);
}

enum class Capture {
  kNone,
  kOfTheStream,
  kOfAnother,  // of a stream that orders itself with this one, the default stream
};

Capture capture_of(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  const cudaError_t error = cudaStreamIsCapturing(stream, &status);
  if (error == cudaErrorStreamCaptureImplicit) {
    cudaGetLastError();
    return Capture::kOfAnother;
  }
  check_handle(error, "cudaStreamIsCapturing");
  return status == cudaStreamCaptureStatusNone ? Capture::kNone : Capture::kOfTheStream;
}

// The copies that a step makes before its kernels must not become part of a graph.
void check_not_captured(cudaStream_t stream) {
  const Capture capture = capture_of(stream);
  if (capture == Capture::kOfAnother) {
    throw Error("STATE",
                "must not be the default one while a stream that orders itself with it is being captured; use "
                "`captureStep()` and replay the step beside the graph.");
  }
  if (capture == Capture::kOfTheStream) {
    throw Error("STATE",
                "must not be capturing, except in a `step` with prepared gradients; use `captureStep()` and replay the "
                "step beside the graph.");
  }
}

}  // namespace

bool default_is_captured() { return capture_of(nullptr) == Capture::kOfAnother; }

void check_stream_of(int device, cudaStream_t stream) {
  // First: any other question about a stream that is being captured is refused and ends the capture.
  check_not_captured(stream);
  if (stream == nullptr) return;
  int owner = device;
  const cudaError_t error = cudaStreamGetDevice(stream, &owner);
  // A driver of the same major version may be too old to tell.
  if (error != cudaErrorCallRequiresNewerDriver) check_handle(error, "cudaStreamGetDevice");
  if (owner != device) {
    throw Error("OPTION", "must be a stream of " + device_name(device) + "; got one of " + device_name(owner) + ".");
  }
}

bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  if (cudaStreamIsCapturing(stream, &status) == cudaSuccess) return status == cudaStreamCaptureStatusActive;
  cudaGetLastError();
  return false;
}

OwnStream::OwnStream(SharedContext context) : context_(std::move(context)) {
  const CurrentContext current(*context_);
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}

// Work that is still enqueued on it goes on.
OwnStream::~OwnStream() {
  release_in(context_, [&] { cudaStreamDestroy(stream_); });
}

EnqueuedWork::EnqueuedWork(SharedContext context) : context_(std::move(context)), freeing_(context_) {
  const CurrentContext current(*context_);
  check(cudaEventCreateWithFlags(&end_of_default_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
}

EnqueuedWork::~EnqueuedWork() {
  release_in(context_, [&] { cudaEventDestroy(end_of_default_); });
}

// Memory that is freed later may have been used by the calls before the event.
void EnqueuedWork::forget(cudaEvent_t event) noexcept {
  ends_.erase(event);
  cudaStreamWaitEvent(freeing_.get(), event, 0);
}

void EnqueuedWork::make_wait(cudaStream_t stream) {
  // A capture that forbids the default stream came after the calls on it, whose ends have been marked.
  if (stream != nullptr && !default_is_captured()) {
    check(cudaEventRecord(end_of_default_, nullptr), "cudaEventRecord");
    check(cudaStreamWaitEvent(stream, end_of_default_, 0), "cudaStreamWaitEvent");
  }
  for (const cudaEvent_t event : ends_) check(cudaStreamWaitEvent(stream, event, 0), "cudaStreamWaitEvent");
}

// After an error the memory is not freed: work that cannot be waited for may still use it.
void EnqueuedWork::free_after(void* memory) noexcept {
  try {
    make_wait(freeing_.get());
    check(cudaFreeAsync(memory, freeing_.get()), "cudaFreeAsync");
  } catch (const Error&) {
  }
}

bool EnqueuedWork::wait_for_frees() {
  if (cudaStreamQuery(freeing_.get()) == cudaSuccess) return false;
  check(cudaStreamSynchronize(freeing_.get()), "cudaStreamSynchronize");
  return true;
}

CudaEvent::CudaEvent(SharedContext context, std::shared_ptr<EnqueuedWork> work)
    : context_(std::move(context)), work_(std::move(work)) {
  const CurrentContext current(*context_);
  // Blocking: a thread that waits sleeps.
  check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming | cudaEventBlockingSync), "cudaEventCreateWithFlags");
  if (work_ != nullptr) work_->add(event_);
}

CudaEvent::~CudaEvent() {
  release_in(context_, [&] {
    if (work_ != nullptr) work_->forget(event_);
    cudaEventDestroy(event_);
  });
}

void CudaEvent::record(Stream stream) {
  const CurrentContext current(*context_);
  check(cudaEventRecord(event_, native(stream)), "cudaEventRecord");
}

void CudaEvent::make_wait(Stream stream) {
  const CurrentContext current(*context_);
  check(cudaStreamWaitEvent(native(stream), event_, 0), "cudaStreamWaitEvent");
}

void CudaEvent::wait() {
  const CurrentContext current(*context_);
  check(cudaEventSynchronize(event_), "cudaEventSynchronize");
}

bool CudaEvent::is_reached() {
  const CurrentContext current(*context_);
  const cudaError_t error = cudaEventQuery(event_);
  cudaGetLastError();
  return error != cudaErrorNotReady;
}

namespace {

cudaGraph_t capture(cudaStream_t stream, const std::function<void(Stream)>& calls) {
  // Thread-local, so that other threads may go on with calls that a global capture would forbid.
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  cudaGraph_t graph = nullptr;
  try {
    calls(stream);
  } catch (...) {
    cudaStreamEndCapture(stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  return graph;
}

}  // namespace

CudaGraph::CudaGraph(SharedContext context, cudaStream_t stream, const std::function<void(Stream)>& calls)
    : context_(std::move(context)), stream_(stream) {
  const CurrentContext current(*context_);
  const OwnStream captured(context_);
  const cudaGraph_t graph = capture(captured.get(), calls);
  const cudaError_t instantiated = cudaGraphInstantiate(&graph_, graph, 0);
  cudaGraphDestroy(graph);
  check(instantiated, "cudaGraphInstantiate");
}

// A launch that still runs goes on; the runtime keeps its graph until then.
CudaGraph::~CudaGraph() {
  release_in(context_, [&] { cudaGraphExecDestroy(graph_); });
}

void CudaGraph::launch() {
  const CurrentContext current(*context_);
  check(cudaGraphLaunch(graph_, stream_), "cudaGraphLaunch");
}

}  // namespace mtadam::cuda
