#include <algorithm>
#include <cstdint>
#include <vector>

#include "test/simt/cuda/runtime.h"
#include "test/simt/cuda_runtime.h"

namespace simt::cuda {

bool Runtime::refuses_unsafe_calls() {
  if (Capture::alive == 0) return false;
  bool refused = false;
  const ThreadState& here = thread();
  if (here.capture_mode == cudaStreamCaptureModeRelaxed) return false;
  each_stream([&](const auto& stream) {
    if (!stream->capture || stream->capture->origin.lock() != stream) return;
    const bool own = stream->capture->thread == std::this_thread::get_id();
    const cudaStreamCaptureMode mode = stream->capture->mode;
    const bool others = mode == cudaStreamCaptureModeGlobal && here.capture_mode == cudaStreamCaptureModeGlobal;
    if ((own && mode != cudaStreamCaptureModeRelaxed) || others) {
      stream->capture->invalidated = true;
      refused = true;
    }
  });
  return refused;
}

bool Runtime::refuses_legacy(const Stream& legacy) {
  if (Capture::alive == 0) return false;
  bool refused = false;
  each_stream([&](const auto& stream) {
    if (!stream->capture || !stream->blocking() || stream->device != legacy.device) return;
    stream->capture->invalidated = true;
    refused = true;
  });
  return refused;
}

bool Runtime::captures_with(const Stream& legacy) {
  if (Capture::alive == 0) return false;
  bool captures = false;
  each_stream([&](const auto& stream) {
    captures = captures || (stream->capture && stream->blocking() && stream->device == legacy.device);
  });
  return captures;
}

namespace {

/// The nodes that these come after, and these.
std::vector<bool> ancestors(const Nodes& nodes, const std::vector<std::size_t>& of) {
  std::vector<bool> reached(nodes.size(), false);
  for (const std::size_t node : of) reached[node] = true;
  for (std::size_t k = nodes.size(); k-- > 0;) {
    if (!reached[k]) continue;
    for (const std::size_t before : nodes[k].after) reached[before] = true;
  }
  return reached;
}

/// An order of the nodes that their dependencies allow: that of the capture, or with `random` any.
std::vector<std::size_t> order_of(const Nodes& nodes, Runtime& runtime, bool random) {
  std::vector<std::size_t> order;
  std::vector<bool> placed(nodes.size(), false);
  while (order.size() < nodes.size()) {
    std::vector<std::size_t> candidates;
    for (std::size_t k = 0; k < nodes.size(); ++k) {
      const bool possible =
          std::all_of(nodes[k].after.begin(), nodes[k].after.end(), [&](std::size_t before) { return placed[before]; });
      if (!placed[k] && possible) candidates.push_back(k);
    }
    const std::size_t chosen = candidates[random ? runtime.random() % candidates.size() : 0];
    placed[chosen] = true;
    order.push_back(chosen);
  }
  return order;
}

}  // namespace

}  // namespace simt::cuda

using simt::cuda::ancestors;
using simt::cuda::Capture;
using simt::cuda::Execution;
using simt::cuda::Graph;
using simt::cuda::GraphExecutable;
using simt::cuda::Node;
using simt::cuda::Nodes;
using simt::cuda::order_of;
using simt::cuda::Stream;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  SIMT_CUDA_CALL(kContext);
  const std::shared_ptr<Stream> stream = runtime.stream(handle);
  if (!stream) return call.done(cudaErrorInvalidResourceHandle);
  if (stream->legacy) return call.done(cudaErrorStreamCaptureUnsupported);
  if (stream->capture) return call.done(cudaErrorIllegalState);
  stream->capture = std::make_shared<Capture>(mode, std::this_thread::get_id(), stream);
  stream->capture_tail.clear();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  SIMT_CUDA_CALL(kContext);
  if (!graph) return call.done(cudaErrorInvalidValue);
  *graph = nullptr;
  const std::shared_ptr<Stream> stream = runtime.stream(handle);
  if (!stream) return call.done(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<Capture> capture = stream->capture;
  if (!capture) return call.done(cudaErrorIllegalState);
  if (capture->origin.lock() != stream) {
    capture->invalidated = true;
    return call.done(cudaErrorStreamCaptureUnmatched);
  }
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id()) {
    return call.done(cudaErrorStreamCaptureWrongThread);
  }

  const std::vector<bool> joined = ancestors(*capture->nodes, stream->capture_tail);
  bool unjoined = false;
  for (const auto& other : runtime.all_streams()) {
    if (other->capture != capture) continue;
    for (const std::size_t node : other->capture_tail) unjoined = unjoined || !joined[node];
    other->capture = nullptr;
    other->capture_tail.clear();
  }
  capture->ended = true;
  if (capture->invalidated) return call.done(cudaErrorStreamCaptureInvalidated);
  if (unjoined) {
    return call.done(cudaErrorStreamCaptureUnjoined);
  }
  *graph = runtime.graphs.add(std::make_shared<Graph>(Graph{capture->nodes}));
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  SIMT_CUDA_CALL(kContext);
  const std::shared_ptr<Stream> stream = runtime.stream(handle);
  if (!stream) return call.done(cudaErrorInvalidResourceHandle);
  if (!status) return call.done(cudaErrorInvalidValue);
  // A query is no use of the stream, so it invalidates no capture.
  if (stream->legacy && runtime.captures_with(*stream)) return call.done(cudaErrorStreamCaptureImplicit);
  *status = !stream->capture               ? cudaStreamCaptureStatusNone
            : stream->capture->invalidated ? cudaStreamCaptureStatusInvalidated
                                           : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  SIMT_CUDA_CALL(kContext);
  if (!mode) return call.done(cudaErrorInvalidValue);
  std::swap(*mode, runtime.thread().capture_mode);
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t handle, unsigned long long) {
  SIMT_CUDA_CALL(kContext);
  const std::shared_ptr<Graph> graph = runtime.graphs.find(handle);
  if (!executable || !graph) return call.done(cudaErrorInvalidValue);
  *executable = runtime.executables.add(std::make_shared<GraphExecutable>(GraphExecutable{graph->nodes}));
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream_handle) {
  SIMT_CUDA_CALL(kContext);
  const std::shared_ptr<GraphExecutable> executable = runtime.executables.find(handle);
  const std::shared_ptr<Stream> stream = runtime.stream(stream_handle);
  if (!executable) return call.done(cudaErrorInvalidValue);
  if (!stream) return call.done(cudaErrorInvalidResourceHandle);
  if (stream->capture) {
    stream->capture->invalidated = true;
    return call.done(cudaErrorStreamCaptureUnsupported);
  }
  const Nodes& nodes = *executable->nodes;
  const bool random = runtime.settings.execution == Execution::kRandom;
  for (const std::size_t node : order_of(nodes, runtime, random)) {
    const cudaError_t error = runtime.enqueue(stream, nodes[node].recipe);
    if (error != cudaSuccess) return call.done(error);
  }
  return cudaSuccess;
}

// A node's handle is the address of the node, which lives as long as its graph.

cudaError_t cudaGraphGetNodes(cudaGraph_t handle, cudaGraphNode_t* nodes, size_t* count) {
  SIMT_CUDA_CALL(kContext);
  const std::shared_ptr<Graph> graph = runtime.graphs.find(handle);
  if (!graph || !count) return call.done(cudaErrorInvalidValue);
  const Nodes& all = *graph->nodes;
  if (nodes) {
    for (std::size_t k = 0; k < *count; ++k) {
      nodes[k] = k < all.size() ? reinterpret_cast<cudaGraphNode_t>(const_cast<Node*>(&all[k])) : nullptr;
    }
    *count = std::min(*count, all.size());
  } else {
    *count = all.size();
  }
  return cudaSuccess;
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t handle, cudaGraphNodeType* type) {
  SIMT_CUDA_CALL(kContext);
  if (!handle || !type) return call.done(cudaErrorInvalidValue);
  *type = reinterpret_cast<const Node*>(handle)->recipe.type;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t handle) {
  SIMT_CUDA_CALL(kContext);
  if (!runtime.graphs.find(handle)) return call.done(cudaErrorInvalidValue);
  runtime.graphs.remove(handle);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t handle) {
  SIMT_CUDA_CALL(kContext);
  if (!runtime.executables.find(handle)) return call.done(cudaErrorInvalidValue);
  runtime.executables.remove(handle);
  return cudaSuccess;
}

}  // extern "C"
