#include "addon/exports.h"

#include "addon/assign.h"
#include "addon/buffer.h"
#include "addon/call_mark.h"
#include "addon/captured_step.h"
#include "addon/child.h"
#include "addon/communicator.h"
#include "addon/device.h"
#include "addon/diagnostics.h"
#include "addon/gradients.h"
#include "addon/optimizer.h"
#include "addon/shape.h"
#include "addon/shared_memory.h"
#include "addon/state.h"

namespace mtadam::addon {

void define_exports(Napi::Env env, Napi::Object exports) {
  exports.Set("version", MTADAM_VERSION);
  exports.Set("Device", Device::define(env));
  exports.Set("Diagnostics", Diagnostics::define(env));
  exports.Set("Buffer", Buffer::define(env));
  exports.Set("CallMark", CallMark::define(env));
  exports.Set("Child", Child::define(env));
  exports.Set("Communicator", Communicator::define(env));
  exports.Set("Gradients", Gradients::define(env));
  exports.Set("Optimizer", Optimizer::define(env));
  exports.Set("CapturedStep", CapturedStep::define(env));
  exports.Set("SharedMemory", SharedMemory::define(env));
  exports.Set("assign", Napi::Function::New(env, assign));
  exports.Set("describeCpu", Napi::Function::New(env, describe_cpu));
  exports.Set("describeCuda", Napi::Function::New(env, describe_cuda));
  exports.Set("ncclId", Napi::Function::New(env, nccl_id));
  exports.Set("cudaOwner", Napi::Function::New(env, cuda_owner));
  exports.Set("stateBytes", Napi::Function::New(env, state_bytes));
  exports.Set("decodeState", Napi::Function::New(env, decode_state));
}

}  // namespace mtadam::addon
