#include <algorithm>
#include <chrono>

#include "test/simt/cuda/runtime.h"
#include "test/simt/cuda_runtime.h"

using simt::cuda::Event;
using simt::cuda::Operation;
using simt::cuda::Point;
using simt::cuda::Recipe;
using simt::cuda::Stream;

namespace {

double milliseconds_now() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::milli>(since).count();
}

}  // namespace

extern "C" {

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* handle, unsigned flags) {
  SIMT_CUDA_CALL(kContext);
  constexpr unsigned kKnown = cudaEventBlockingSync | cudaEventDisableTiming | cudaEventInterprocess;
  if (!handle || (flags & ~kKnown) != 0) return call.done(cudaErrorInvalidValue);
  auto created = std::make_shared<Event>();
  created->device = runtime.thread().device;
  created->flags = flags;
  *handle = runtime.events.add(std::move(created));
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  SIMT_CUDA_CALL(kContext);
  if (!runtime.events.find(handle)) return call.done(cudaErrorInvalidResourceHandle);
  runtime.events.remove(handle);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream_handle) {
  SIMT_CUDA_CALL(kContext);
  const std::shared_ptr<Event> event = runtime.events.find(handle);
  const std::shared_ptr<Stream> stream = runtime.stream(stream_handle);
  if (!event || !stream || event->device != stream->device) return call.done(cudaErrorInvalidResourceHandle);
  if (stream->capture) {
    if (stream->capture->invalidated) return call.done(cudaErrorStreamCaptureInvalidated);
    event->capture = stream->capture;
    event->capture_nodes = stream->capture_tail;
    event->point.reset();
    return cudaSuccess;
  }
  // Each record has a time of its own: an earlier one that is still queued must not change it.
  auto time = std::make_shared<std::optional<double>>();
  const Recipe recipe{cudaGraphNodeTypeEmpty, [=] {
                        Operation operation;
                        operation.run = [=] { *time = milliseconds_now(); };
                        return operation;
                      }};
  const cudaError_t error = runtime.enqueue(stream, recipe);
  if (error != cudaSuccess) return call.done(error);
  event->capture = nullptr;
  event->milliseconds = time;
  event->point = Point{stream, stream->last};
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  SIMT_CUDA_CALL(kSafe);
  const std::shared_ptr<Event> event = runtime.events.find(handle);
  if (!event) return call.done(cudaErrorInvalidResourceHandle);
  if (event->capture) return call.done(cudaErrorCapturedEvent);
  if (!event->point) return cudaSuccess;
  if (event->point->stream->done < event->point->number) {
    runtime.approach(*event->point);
    return call.done(cudaErrorNotReady);
  }
  runtime.observe(*event->point);
  return call.outcome(event->device);
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  SIMT_CUDA_CALL(kSafe);
  const std::shared_ptr<Event> event = runtime.events.find(handle);
  if (!event) return call.done(cudaErrorInvalidResourceHandle);
  if (event->capture) return call.done(cudaErrorCapturedEvent);
  if (!event->point) return cudaSuccess;
  const Point point = *event->point;
  runtime.reach(point);
  runtime.observe(point);
  return call.outcome(event->device);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start_handle, cudaEvent_t end_handle) {
  SIMT_CUDA_CALL(kContext);
  const std::shared_ptr<Event> start = runtime.events.find(start_handle);
  const std::shared_ptr<Event> end = runtime.events.find(end_handle);
  if (!milliseconds) return call.done(cudaErrorInvalidValue);
  for (const auto& event : {start, end}) {
    const bool timed = event && (event->flags & cudaEventDisableTiming) == 0 && event->point;
    if (!timed) return call.done(cudaErrorInvalidResourceHandle);
  }
  for (const auto& event : {start, end}) {
    if (event->point->stream->done < event->point->number) return call.done(cudaErrorNotReady);
  }
  *milliseconds = static_cast<float>(end->milliseconds->value_or(0) - start->milliseconds->value_or(0));
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream_handle, cudaEvent_t handle, unsigned flags) {
  SIMT_CUDA_CALL(kContext);
  const std::shared_ptr<Stream> stream = runtime.stream(stream_handle);
  const std::shared_ptr<Event> event = runtime.events.find(handle);
  if (!stream || !event) return call.done(cudaErrorInvalidResourceHandle);
  if (flags != 0) return call.done(cudaErrorInvalidValue);
  if (event->capture) {
    if (event->capture->ended) return call.done(cudaErrorCapturedEvent);
    if (!stream->capture && !stream->legacy) {
      // The stream joins the capture that the event was recorded in.
      stream->capture = event->capture;
      stream->capture_tail = event->capture_nodes;
      return cudaSuccess;
    }
    if (stream->capture != event->capture) {
      if (stream->capture) stream->capture->invalidated = true;
      event->capture->invalidated = true;
      return call.done(stream->legacy ? cudaErrorStreamCaptureImplicit : cudaErrorStreamCaptureMerge);
    }
    if (stream->capture->invalidated) return call.done(cudaErrorStreamCaptureInvalidated);
    for (const std::size_t node : event->capture_nodes) {
      if (std::find(stream->capture_tail.begin(), stream->capture_tail.end(), node) == stream->capture_tail.end()) {
        stream->capture_tail.push_back(node);
      }
    }
    return cudaSuccess;
  }
  if (!event->point) return cudaSuccess;
  if (stream->capture) {
    stream->capture->invalidated = true;
    return call.done(cudaErrorStreamCaptureIsolation);
  }
  const Recipe recipe{cudaGraphNodeTypeEmpty, [] { return Operation{}; }};
  return call.done(runtime.enqueue_after(stream, recipe, {*event->point}));
}

}  // extern "C"
