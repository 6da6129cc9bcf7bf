#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>

#include "test/simt/cuda/runtime.h"
#include "test/simt/cuda_runtime.h"
#include "test/simt/error.h"
#include "test/simt/sanitizers.h"

namespace simt::cuda {

namespace {

cudaError_t code_of(Fault fault) {
  switch (fault) {
    case Fault::kLaunch:
      return cudaErrorInvalidConfiguration;
    case Fault::kAddress:
      return cudaErrorIllegalAddress;
    case Fault::kAlignment:
      return cudaErrorMisalignedAddress;
    case Fault::kDeadlock:
    case Fault::kLivelock:
      return cudaErrorLaunchTimeout;
    case Fault::kBarrier:
    case Fault::kWarp:
    case Fault::kSharedMemory:
    case Fault::kUninitialised:
    case Fault::kException:
      return cudaErrorLaunchFailure;
  }
  return cudaErrorLaunchFailure;
}

bool overlap(const HostRange& one, const HostRange& other) {
  return one.begin < other.begin + other.bytes && other.begin < one.begin + one.bytes;
}

HostRange range_of(const Delivery& delivery) { return {delivery.target, delivery.data.size()}; }

}  // namespace

// ---- Finding streams ----

std::shared_ptr<Stream> Runtime::stream(cudaStream_t handle) {
  Device& here = current();
  if (handle == nullptr || handle == cudaStreamLegacy) return here.legacy;
  if (handle != cudaStreamPerThread) return streams.find(handle);
  std::shared_ptr<Stream>& own = here.per_thread[std::this_thread::get_id()];
  if (!own) {
    own = std::make_shared<Stream>();
    own->device = thread().device;
  }
  return own;
}

std::vector<std::shared_ptr<Stream>> Runtime::all_streams() {
  std::vector<std::shared_ptr<Stream>> found;
  each_stream([&](const auto& stream) { found.push_back(stream); });
  return found;
}

// ---- Queueing ----

cudaError_t Runtime::enqueue(const std::shared_ptr<Stream>& stream, const Recipe& recipe) {
  return enqueue_after(stream, recipe, {});
}

cudaError_t Runtime::enqueue_after(const std::shared_ptr<Stream>& stream, const Recipe& recipe,
                                   std::vector<Point> after) {
  if (stream->capture) {
    if (stream->capture->invalidated) return cudaErrorStreamCaptureInvalidated;
    Nodes& nodes = *stream->capture->nodes;
    nodes.push_back({recipe, stream->capture_tail});
    stream->capture_tail = {nodes.size() - 1};
    return cudaSuccess;
  }
  if (stream->legacy && refuses_legacy(*stream)) return cudaErrorStreamCaptureImplicit;
  push(stream, recipe.make(), std::move(after));
  return cudaSuccess;
}

void Runtime::push(const std::shared_ptr<Stream>& stream, Operation operation, std::vector<Point> after) {
  if (stream->legacy) {
    each_stream([&](const auto& other) {
      const bool blocks = other->blocking() && other->device == stream->device && !other->capture;
      if (blocks && other->last > other->observed) after.push_back({other, other->last});
    });
  } else if (stream->blocking()) {
    const std::shared_ptr<Stream>& legacy = device(stream->device).legacy;
    after.push_back({legacy, legacy->last});
  }
  // Forgets streams with nothing to wait for or to learn.
  std::erase_if(after, [](const Point& point) { return point.number <= point.stream->observed; });

  operation.number = ++stream->last;
  operation.after = std::move(after);
  // Later operations may still read it.
  if (operation.delivery && !reads_later(range_of(*operation.delivery))) conceal(*operation.delivery);
  stream->queue.push_back(std::move(operation));
  if (settings.execution == Execution::kEager) reach({stream, stream->last});
}

// ---- Running ----

bool Runtime::ready(const Operation& operation) const {
  return std::all_of(operation.after.begin(), operation.after.end(),
                     [](const Point& point) { return point.stream->done >= point.number; });
}

bool Runtime::step(const std::shared_ptr<Stream>& stream) {
  if (stream->busy || stream->queue.empty() || !ready(stream->queue.front())) return false;
  Operation operation = std::move(stream->queue.front());
  stream->queue.pop_front();
  run_operation(stream, operation);
  stream->done = operation.number;
  if (operation.delivery) {
    conceal(*operation.delivery);
    stream->undelivered.emplace_back(operation.number, operation.delivery);
  }
  for (Point& point : operation.after) stream->joins.emplace_back(operation.number, std::move(point));
  return true;
}

void Runtime::run_operation(const std::shared_ptr<Stream>& stream, Operation& operation) {
  if (!operation.run || device(stream->device).sticky != cudaSuccess) return;
  if (operation.calls_host) return call_host(stream, operation);
  show_memory();
  try {
    operation.run();
  } catch (const Error& error) {
    fail(code_of(error.fault()), stream->device, error.what());
  } catch (const OperationFailed& failed) {
    fail(failed.error, stream->device, failed.what());
  }
}

// As in CUDA, on a thread of its own and without the lock: such a function may wait for another thread that makes a
// call.
void Runtime::call_host(const std::shared_ptr<Stream>& stream, Operation& operation) {
  observe({stream, operation.number - 1});
  for (const Point& point : operation.after) observe(point);
  hide_memory();
  stream->busy = true;
  std::unique_lock<std::mutex>* const held = lock;
  held->unlock();
  std::thread([&] {
    in_host_function = true;
    operation.run();
  }).join();
  held->lock();
  lock = held;
  stream->busy = false;
  host_function_ended.notify_all();
}

void Runtime::reach(const Point& point) {
  const std::shared_ptr<Stream> stream = point.stream;
  while (stream->done < point.number) {
    if (stream->busy) {
      std::unique_lock<std::mutex>* const held = lock;
      host_function_ended.wait(*held, [&] { return !stream->busy; });
      lock = held;
      continue;
    }
    if (stream->queue.empty()) return;  // its device was reset meanwhile
    for (const Point& needed : std::vector(stream->queue.front().after)) reach(needed);
    step(stream);
  }
}

void Runtime::approach(const Point& point) {
  const std::shared_ptr<Stream> stream = point.stream;
  if (stream->done >= point.number || stream->busy || stream->queue.empty()) return;
  for (const Point& needed : std::vector(stream->queue.front().after)) {
    if (needed.stream->done < needed.number) return approach(needed);
  }
  step(stream);
}

void Runtime::run_some() {
  if (settings.execution != Execution::kRandom) return;
  std::vector<std::shared_ptr<Stream>> candidates;
  each_stream([&](const auto& stream) {
    if (!stream->queue.empty()) candidates.push_back(stream);
  });
  if (candidates.empty()) return;
  for (std::uint64_t count = random() % 4; count > 0; --count) step(candidates[random() % candidates.size()]);
}

// ---- What the program knows ----

void Runtime::observe(const Point& point) {
  Stream& stream = *point.stream;
  if (stream.observed >= point.number) return;
  stream.observed = point.number;
  while (!stream.undelivered.empty() && stream.undelivered.front().first <= point.number) {
    deliver(*stream.undelivered.front().second);
    stream.undelivered.pop_front();
  }
  while (!stream.joins.empty() && stream.joins.front().first <= point.number) {
    const Point joined = std::move(stream.joins.front().second);
    stream.joins.pop_front();
    observe(joined);
  }
  std::erase_if(closing, [](const auto& each) { return each->settled(); });
}

bool Runtime::reads_later(const HostRange& range) {
  bool reads = false;
  each_stream([&](const auto& stream) {
    for (const Operation& operation : stream->queue) reads = reads || overlap(operation.source, range);
  });
  return reads;
}

void Runtime::conceal(Delivery& delivery) {
  if (delivery.concealed) return;
  delivery.concealed = true;
  const bool freed = pinned->contains(delivery.target) && !pinned->live(delivery.target, delivery.data.size());
  if (freed) return;
  unpoison(delivery.target, delivery.data.size());
  std::memset(delivery.target, 0xff, delivery.data.size());
  poison(delivery.target, delivery.data.size());
}

void Runtime::deliver(Delivery& delivery) {
  if (delivery.delivered) return;
  delivery.delivered = true;
  const bool freed = pinned->contains(delivery.target) && !pinned->live(delivery.target, delivery.data.size());
  if (freed) return;
  unpoison(delivery.target, delivery.data.size());
  std::memcpy(delivery.target, delivery.data.data(), delivery.data.size());
}

bool Runtime::awaits_delivery(const HostRange& range) {
  bool awaits = false;
  each_stream([&](const auto& stream) {
    for (const Operation& operation : stream->queue) {
      awaits = awaits || (operation.delivery && overlap(range_of(*operation.delivery), range));
    }
    for (const auto& [number, delivery] : stream->undelivered) {
      awaits = awaits || (!delivery->delivered && overlap(range_of(*delivery), range));
    }
  });
  return awaits;
}

void Runtime::deliver_into(const HostRange& range) {
  each_stream([&](const auto& stream) {
    for (const auto& [number, delivery] : stream->undelivered) {
      if (overlap(range_of(*delivery), range)) deliver(*delivery);
    }
  });
}

void Runtime::synchronise(const std::shared_ptr<Stream>& stream) {
  const Point end{stream, stream->last};
  reach(end);
  observe(end);
}

void Runtime::synchronise_device(int index) {
  for (const auto& stream : all_streams()) {
    if (stream->device == index) synchronise(stream);
  }
}

}  // namespace simt::cuda

using simt::cuda::Execution;
using simt::cuda::Operation;
using simt::cuda::Point;
using simt::cuda::Recipe;
using simt::cuda::Stream;

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* handle, unsigned flags) {
  SIMT_CUDA_CALL(kContext);
  if (!handle || (flags & ~unsigned{cudaStreamNonBlocking}) != 0) return call.done(cudaErrorInvalidValue);
  auto created = std::make_shared<Stream>();
  created->device = runtime.thread().device;
  created->flags = flags;
  *handle = runtime.streams.add(std::move(created), runtime.settings.reuse_streams);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  SIMT_CUDA_CALL(kContext);
  const std::shared_ptr<Stream> stream = runtime.streams.find(handle);
  if (!stream) return call.done(cudaErrorInvalidResourceHandle);
  if (stream->capture) stream->capture->invalidated = true;
  runtime.streams.remove(handle);
  if (!stream->settled()) runtime.closing.push_back(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamGetDevice(cudaStream_t handle, int* device) {
  SIMT_CUDA_CALL(kContext);
  const std::shared_ptr<Stream> stream = runtime.stream(handle);
  if (!stream) return call.done(cudaErrorInvalidResourceHandle);
  if (!device) return call.done(cudaErrorInvalidValue);
  if (stream->capture) {
    stream->capture->invalidated = true;
    return call.done(cudaErrorStreamCaptureUnsupported);
  }
  *device = stream->device;
  return cudaSuccess;
}

cudaError_t cudaStreamGetFlags(cudaStream_t handle, unsigned* flags) {
  SIMT_CUDA_CALL(kContext);
  const std::shared_ptr<Stream> stream = runtime.stream(handle);
  if (!stream) return call.done(cudaErrorInvalidResourceHandle);
  if (!flags) return call.done(cudaErrorInvalidValue);
  *flags = stream->flags;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  SIMT_CUDA_CALL(kSafe);
  const std::shared_ptr<Stream> stream = runtime.stream(handle);
  if (!stream) return call.done(cudaErrorInvalidResourceHandle);
  if (stream->capture) {
    stream->capture->invalidated = true;
    return call.done(cudaErrorStreamCaptureUnsupported);
  }
  if (stream->legacy && runtime.refuses_legacy(*stream)) return call.done(cudaErrorStreamCaptureImplicit);
  runtime.synchronise(stream);
  return call.outcome(stream->device);
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  SIMT_CUDA_CALL(kSafe);
  const std::shared_ptr<Stream> stream = runtime.stream(handle);
  if (!stream) return call.done(cudaErrorInvalidResourceHandle);
  if (stream->capture) {
    stream->capture->invalidated = true;
    return call.done(cudaErrorStreamCaptureUnsupported);
  }
  const Point end{stream, stream->last};
  if (stream->done < end.number) {
    runtime.approach(end);
    return call.done(cudaErrorNotReady);
  }
  runtime.observe(end);
  return call.outcome(stream->device);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* user_data) {
  SIMT_CUDA_CALL(kContext);
  const std::shared_ptr<Stream> stream = runtime.stream(handle);
  if (!stream) return call.done(cudaErrorInvalidResourceHandle);
  if (!function) return call.done(cudaErrorInvalidValue);
  const Recipe recipe{cudaGraphNodeTypeHost, [=] {
                        Operation operation;
                        operation.run = [=] { function(user_data); };
                        operation.calls_host = true;
                        return operation;
                      }};
  return call.done(runtime.enqueue(stream, recipe));
}

}  // extern "C"
