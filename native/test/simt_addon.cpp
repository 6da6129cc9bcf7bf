#include <dlfcn.h>
#include <napi.h>

#include "addon/arguments.h"
#include "addon/exports.h"
#include "test/failing_new.h"
#include "test/simt/control.h"
#include "test/simt/cuda_runtime.h"

// The addon of the tests: its CUDA is the host executor. Beside the addon's exports it has `simt`, with which a test
// sets up the machine, does what a user's own CUDA code does, and observes the effects.

namespace mtadam::addon {
namespace {

cudaStream_t stream_at(const Napi::Value& value) {
  bool lossless = true;
  return reinterpret_cast<cudaStream_t>(value.As<Napi::BigInt>().Uint64Value(&lossless));
}

Napi::BigInt handle(Napi::Env env, const void* pointer) {
  return Napi::BigInt::New(env, static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(pointer)));
}

void check(Napi::Env env, cudaError_t error) {
  if (error != cudaSuccess) throw Napi::Error::New(env, cudaGetErrorName(error));
}

void set_device(const Napi::Value& index) { check(index.Env(), cudaSetDevice(index.As<Napi::Number>().Int32Value())); }

// (words): a fresh machine; see simt::cuda::reset_from.
void reset(const Napi::CallbackInfo& info) {
  try {
    simt::cuda::reset_from(info[0].ToString());
  } catch (const std::invalid_argument& error) {
    throw Napi::Error::New(info.Env(), error.what());
  }
}

// (execution: "eager" | "lazy" | "random", seed): when the operations of streams run, from now on.
void set_execution(const Napi::CallbackInfo& info) {
  using simt::cuda::Execution;
  const std::string name = info[0].ToString();
  const Execution execution = name == "lazy"     ? Execution::kLazy
                              : name == "random" ? Execution::kRandom
                                                 : Execution::kEager;
  simt::cuda::set_execution(execution, info[1].ToNumber().Uint32Value());
}

// (n): the n-th launch from now fails for good.
void fail_launch(const Napi::CallbackInfo& info) { simt::cuda::fail_launch(info[0].ToNumber().Int32Value()); }

// (n): the n-th allocation from now is out of memory.
void fail_allocation(const Napi::CallbackInfo& info) { simt::cuda::fail_allocation(info[0].ToNumber().Int32Value()); }

// (n): the n-th allocation by operator new in this addon from now fails; 0: none does.
void fail_new(const Napi::CallbackInfo& info) { test::allocations_left = info[0].ToNumber().Int64Value() - 1; }

// () -> whether some call or allocation was still to fail; from now on none does.
Napi::Value clear_faults(const Napi::CallbackInfo& info) {
  const bool any = simt::cuda::clear_faults();
  return Napi::Boolean::New(info.Env(), test::allocations_left.exchange(-1) >= 0 || any);
}

// (function, n = 1): its n-th call from now fails with cudaErrorUnknown; "": the n-th call of any function.
void fail_call(const Napi::CallbackInfo& info) {
  const int n = info[1].IsNumber() ? info[1].As<Napi::Number>().Int32Value() : 1;
  simt::cuda::fail_call(info[0].ToString(), n, cudaErrorUnknown);
}

// () -> { launches, calls: { [function]: number }, copies, pageableCopies }
Napi::Value counters(const Napi::CallbackInfo& info) {
  const simt::cuda::Counters now = simt::cuda::counters();
  Napi::Object calls = Napi::Object::New(info.Env());
  for (const auto& [name, count] : now.calls) calls.Set(name, static_cast<double>(count));
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("launches", static_cast<double>(simt::cuda::launches()));
  result.Set("calls", calls);
  result.Set("copies", static_cast<double>(now.copies));
  result.Set("pageableCopies", static_cast<double>(now.pageable_copies));
  return result;
}

void reset_counters(const Napi::CallbackInfo&) { simt::cuda::reset_counters(); }

// () -> { deviceBytes, pinnedBytes, streams, events, graphs, queued }
Napi::Value live(const Napi::CallbackInfo& info) {
  const simt::cuda::Live now = simt::cuda::live();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("deviceBytes", static_cast<double>(now.device_bytes));
  result.Set("pinnedBytes", static_cast<double>(now.pinned_bytes));
  result.Set("streams", static_cast<double>(now.streams));
  result.Set("events", static_cast<double>(now.events));
  result.Set("graphs", static_cast<double>(now.graphs + now.graph_executables));
  result.Set("queued", static_cast<double>(now.queued_operations));
  return result;
}

// (bytes, device) -> address
Napi::Value allocate(const Napi::CallbackInfo& info) {
  set_device(info[1]);
  void* memory = nullptr;
  check(info.Env(), ::cudaMalloc(&memory, static_cast<std::size_t>(info[0].ToNumber().Int64Value())));
  return handle(info.Env(), memory);
}

// (bytes) -> address of pinned host memory
Napi::Value allocate_pinned(const Napi::CallbackInfo& info) {
  void* memory = nullptr;
  check(info.Env(), ::cudaMallocHost(&memory, static_cast<std::size_t>(info[0].ToNumber().Int64Value())));
  return handle(info.Env(), memory);
}

void free_device(const Napi::CallbackInfo& info) { check(info.Env(), cudaFree(stream_at(info[0]))); }

// (nonBlocking, device) -> handle
Napi::Value create_stream(const Napi::CallbackInfo& info) {
  set_device(info[1]);
  cudaStream_t stream = nullptr;
  const unsigned flags = info[0].ToBoolean() ? cudaStreamNonBlocking : cudaStreamDefault;
  check(info.Env(), cudaStreamCreateWithFlags(&stream, flags));
  return handle(info.Env(), stream);
}

void destroy_stream(const Napi::CallbackInfo& info) { check(info.Env(), cudaStreamDestroy(stream_at(info[0]))); }

// (stream, mode: "global" | "threadLocal" | "relaxed")
void begin_capture(const Napi::CallbackInfo& info) {
  const std::string name = info[1].ToString();
  const cudaStreamCaptureMode mode = name == "global"    ? cudaStreamCaptureModeGlobal
                                     : name == "relaxed" ? cudaStreamCaptureModeRelaxed
                                                         : cudaStreamCaptureModeThreadLocal;
  check(info.Env(), cudaStreamBeginCapture(stream_at(info[0]), mode));
}

void end_capture(const Napi::CallbackInfo& info) {
  cudaGraph_t graph = nullptr;
  check(info.Env(), cudaStreamEndCapture(stream_at(info[0]), &graph));
  if (graph != nullptr) cudaGraphDestroy(graph);
}

// (stream) -> executable graph of the capture that this ends.
Napi::Value instantiate_capture(const Napi::CallbackInfo& info) {
  cudaGraph_t graph = nullptr;
  check(info.Env(), cudaStreamEndCapture(stream_at(info[0]), &graph));
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(info.Env(), error);
  return handle(info.Env(), executable);
}

cudaGraphExec_t graph_at(const Napi::Value& value) { return reinterpret_cast<cudaGraphExec_t>(stream_at(value)); }

// (graph, stream)
void launch_graph(const Napi::CallbackInfo& info) {
  check(info.Env(), cudaGraphLaunch(graph_at(info[0]), stream_at(info[1])));
}

void destroy_graph(const Napi::CallbackInfo& info) { check(info.Env(), cudaGraphExecDestroy(graph_at(info[0]))); }

// (to, from, bytes, stream): device to device, on the stream or in its capture.
void copy(const Napi::CallbackInfo& info) {
  const auto bytes = static_cast<std::size_t>(info[2].ToNumber().Int64Value());
  check(info.Env(),
        ::cudaMemcpyAsync(stream_at(info[0]), stream_at(info[1]), bytes, cudaMemcpyDeviceToDevice, stream_at(info[3])));
}

// (stream): waits for all work on the stream.
void synchronize_stream(const Napi::CallbackInfo& info) {
  check(info.Env(), cudaStreamSynchronize(stream_at(info[0])));
}

// (file): has the stand-in of NCCL enqueue its work on this machine's streams.
void use_nccl(const Napi::CallbackInfo& info) {
  using Launch = cudaError_t (*)(cudaStream_t, cudaHostFn_t, void*);
  const std::string file = info[0].ToString();
  void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw Napi::Error::New(info.Env(), dlerror());
  reinterpret_cast<void (*)(Launch)>(dlsym(library, "stand_in_use"))(&cudaLaunchHostFunc);
}

// (to, from: Uint8Array): copies host to device; done on return.
void write(const Napi::CallbackInfo& info) {
  const Napi::Uint8Array from = info[1].As<Napi::Uint8Array>();
  check(info.Env(), ::cudaMemcpy(stream_at(info[0]), from.Data(), from.ByteLength(), cudaMemcpyHostToDevice));
}

// (to: Uint8Array, from)
void read(const Napi::CallbackInfo& info) {
  Napi::Uint8Array to = info[0].As<Napi::Uint8Array>();
  check(info.Env(), ::cudaMemcpy(to.Data(), stream_at(info[1]), to.ByteLength(), cudaMemcpyDeviceToHost));
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  define_exports(env, exports);
  Napi::Object simt = Napi::Object::New(env);
  simt.Set("reset", Napi::Function::New(env, reset));
  simt.Set("setExecution", Napi::Function::New(env, set_execution));
  simt.Set("failLaunch", Napi::Function::New(env, fail_launch));
  simt.Set("failAllocation", Napi::Function::New(env, fail_allocation));
  simt.Set("failCall", Napi::Function::New(env, fail_call));
  simt.Set("failNew", Napi::Function::New(env, fail_new));
  simt.Set("clearFaults", Napi::Function::New(env, clear_faults));
  simt.Set("counters", Napi::Function::New(env, counters));
  simt.Set("resetCounters", Napi::Function::New(env, reset_counters));
  simt.Set("live", Napi::Function::New(env, live));
  simt.Set("allocate", Napi::Function::New(env, allocate));
  simt.Set("allocatePinned", Napi::Function::New(env, allocate_pinned));
  simt.Set("free", Napi::Function::New(env, free_device));
  simt.Set("createStream", Napi::Function::New(env, create_stream));
  simt.Set("destroyStream", Napi::Function::New(env, destroy_stream));
  simt.Set("beginCapture", Napi::Function::New(env, begin_capture));
  simt.Set("endCapture", Napi::Function::New(env, end_capture));
  simt.Set("instantiateCapture", Napi::Function::New(env, instantiate_capture));
  simt.Set("launchGraph", Napi::Function::New(env, launch_graph));
  simt.Set("destroyGraph", Napi::Function::New(env, destroy_graph));
  simt.Set("copy", Napi::Function::New(env, copy));
  simt.Set("synchronizeStream", Napi::Function::New(env, synchronize_stream));
  simt.Set("useNccl", Napi::Function::New(env, use_nccl));
  simt.Set("write", Napi::Function::New(env, write));
  simt.Set("read", Napi::Function::New(env, read));
  exports.Set("simt", simt);
  return exports;
}

NODE_API_MODULE(mtadam, initialize)

}  // namespace
}  // namespace mtadam::addon
