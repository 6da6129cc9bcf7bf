// Trains small models on the CUDA device and compares them with the CPU's:
//   planted_driver [scenario]
// Prints "passed", "wrong: …" or "error: …". Sources compiled into it may have a planted bug, which a check must find.

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "cuda/cuda_device.h"
#include "cuda/errors.h"
#include "test/cuda/launches.h"
#include "test/displaced_device.h"
#include "test/simt/control.h"
#include "test/simt/executor.h"
#include "test/training.h"

namespace mtadam::test {
namespace {

using simt::cuda::Execution;

Model small_model(Random& random) {
  Model model = random_model(random, {5, 40}, 3);
  model.options.form.amsgrad = false;  // launches.cpp has no kernels for it
  return model;
}

std::shared_ptr<Device> open() { return std::make_shared<cuda::CudaDevice>(0, 0); }

/// Ends the program where something is wrong: what a bug has left queued might not survive what destructors do.
void require(const testing::AssertionResult& result) {
  if (result) return;
  std::printf("wrong: %s\n", result.message());
  std::fflush(stdout);
  std::_Exit(1);
}

/// Every form of state, present and absent terms, all alignments.
void kernels() {
  Random random(95);
  for (const int summed : {0, 1, 2}) {
    for (const Alignment alignment : {Alignment::kVectors, Alignment::kAlike, Alignment::kAnyhow}) {
      Model model = random_model(random, {5, 4099, 0, 302}, 3);
      model.options.form = {summed > 0, false};
      model.options.form.one_v = summed > 1;
      model.options.form.cosines = true;
      const std::vector<Gradients> steps = random_steps(random, model, 2, {0, 0.2, 0, 0});
      Training on_cpu(model, 1), on_cuda(model, open(), alignment);
      for (const Gradients& gradients : steps) {
        on_cpu.step(gradients);
        on_cuda.step(gradients);
        require(same_bits(on_cpu.cosines(), on_cuda.cosines()));
        on_cpu.stream(gradients);
        on_cuda.stream(gradients);
      }
      require(same_state(on_cpu.snapshot(), on_cuda.snapshot()));
    }
  }
}

/// A step at once, then one term by term.
void require_same_steps(Training& on_cpu, Training& on_cuda, const Gradients& gradients) {
  for (Training* const training : {&on_cpu, &on_cuda}) {
    training->step(gradients);
    training->stream(gradients);
  }
  require(same_state(on_cpu.snapshot(), on_cuda.snapshot()));
}

void silence(Gradients& gradients, std::uint32_t term) {
  for (std::optional<std::vector<float>>& values : gradients[term]) {
    if (values) values->assign(values->size(), 0);
  }
}

/// The network as one unit, with terms that are silent, not finite or too large somewhere in it.
void network() {
  Random random(98);
  for (int round = 0; round < 3; ++round) {
    Model model = random_model(random, {5, 4099, 0, 302, 40, 1}, 3);
    model.options.form = {random.chance(0.5), false, random.chance(0.5)};
    model.options.form.network = true;
    model.options.anchor = Anchor::kMax;  // reads the n of all terms
    model.options.rest = true;
    const std::vector<Gradients> steps = random_steps(random, model, 6, {0.1, 0.1, 0.1, 0.05, 0.2});
    Training on_cpu(model, 1), on_cuda(model, open());
    for (Gradients gradients : steps) {
      require_same_steps(on_cpu, on_cuda, gradients);
      // A term that is silent everywhere, in a unit that it has moved.
      silence(gradients, 1);
      for (Training* const training : {&on_cpu, &on_cuda}) training->step(gradients);
      require(same_state(on_cpu.snapshot(), on_cuda.snapshot()));
    }
  }
}

/// Lagged scales, with gradients that are absent, silent or not finite.
void lagged() {
  Random random(101);
  for (const int summed : {0, 1, 2}) {
    Model model = random_model(random, {5, 4099, 0, 302, 40, 1}, 3);
    model.options.form = {summed > 0, false};
    model.options.form.one_v = summed > 1;
    model.options.form.network = summed != 1;
    model = with_lagged_scales(random, model);
    model.options.form.non_finite = NonFinite::kSkipElement;
    Training on_cpu(model, 1), on_cuda(model, open());
    for (const Gradients& gradients : random_steps(random, model, 8, {0.1, 0.1, 0.1, 0.2})) {
      require_same_steps(on_cpu, on_cuda, gradients);
    }
  }
}

/// The same with one read of each gradient, with terms that come late in a layer of two tensors.
void one_read(bool network) {
  Random random(105);
  for (const int summed : {0, 1, 2}) {
    for (const Alignment alignment : {Alignment::kVectors, Alignment::kAnyhow}) {
      Model model = random_model(random, {5, 4099, 0, 302, 8200}, 3);
      for (std::uint32_t k = 0; k < 5; ++k) model.parameters[k].layer = k == 4 ? 1 : k;
      model.options.form = {summed > 0, false};
      model.options.form.one_v = summed > 1;
      model = with_lagged_scales(random, model);
      model.options.form.non_finite = NonFinite::kSkipElement;
      model.options.form.network = network;
      model.options.rest = network;
      Training on_cpu(model, 1), on_cuda(model, open(), alignment);
      for (Gradients gradients : random_steps(random, model, 4, {0.1, 0.4, 0.1, 0.2})) {
        require_same_steps(on_cpu, on_cuda, gradients);
        silence(gradients, 1);
        for (Training* const training : {&on_cpu, &on_cuda}) training->step(gradients);
        require(same_state(on_cpu.snapshot(), on_cuda.snapshot()));
      }
    }
  }
}

/// The same with moments in bfloat16 and in 8 bits, and with narrow gradients and parameters.
void one_launch_of_codes() {
  Random random(106);
  for (const int summed : {0, 1, 2}) {
    Model model = random_model(random, {5, 4099, 302, 8200}, 3);
    for (std::uint32_t k = 0; k < 4; ++k) model.parameters[k].layer = k == 3 ? 1 : k;
    model.options.form = {summed > 0, false};
    model.options.form.one_v = summed > 1;
    model = with_state(with_lagged_scales(random, model), summed == 1 ? StateType::k8bit : StateType::kBfloat16);
    model.options.form.non_finite = NonFinite::kSkipElement;
    model = with_narrow_parameters(random, with_narrow_gradients(random, model), Rounding::kMaster);
    Training on_cpu(model, 1), on_cuda(model, open(), Alignment::kAnyhow);
    for (const Gradients& gradients : random_steps(random, model, 4, {0.1, 0.4, 0.1, 0.2})) {
      require_same_steps(on_cpu, on_cuda, gradients);
    }
  }
}

/// Moments in bfloat16 and in 8 bits.
void lean() {
  Random random(102);
  for (const StateType type : {StateType::kBfloat16, StateType::k8bit}) {
    for (const bool summed : {false, true}) {
      Model model = random_model(random, {4500, 5}, 2);
      model.options.form = {summed, false};
      model = with_state(model, type);
      Training on_cpu(model, 1), on_cuda(model, open());
      for (const Gradients& gradients : random_steps(random, model, 3, {0, 0, 0, 0})) {
        require_same_steps(on_cpu, on_cuda, gradients);
      }
    }
  }
}

/// Gradients in bfloat16 and float16, at any address, against the same values in float32.
void narrow() {
  Random random(103);
  for (const int summed : {0, 1, 2}) {
    Model model = random_model(random, {4500, 300, 5}, 2);
    model.options.form = {summed > 0, false};
    model.options.form.one_v = summed > 1;
    for (std::size_t k = 0; k < 3; ++k) model.parameters[k].gradient = kElementTypes[2 - k];
    Training on_cpu(with_wide_gradients(model), 1), on_cuda(model, open(), Alignment::kAnyhow);
    for (const Gradients& given : random_steps(random, model, 3, {0, 0, 0, 0})) {
      const Gradients gradients = narrowed(random, model, given);
      require_same_steps(on_cpu, on_cuda, gradients);
    }
  }
}

/// Parameters in bfloat16 and float16, at any address, against the CPU.
void narrow_parameters() {
  Random random(104);
  for (const Rounding rounding : {Rounding::kStochastic, Rounding::kMaster}) {
    Model model = random_model(random, {4500, 300, 4101}, 2);
    for (std::size_t k = 0; k < 3; ++k) model.parameters[k].type = kElementTypes[1 + k % 2];
    model.options.form = {};
    model.options.form.rounding = rounding;
    Training on_cpu(model, 1), on_cuda(model, open(), Alignment::kAnyhow);
    for (const Gradients& gradients : random_steps(random, model, 3, {0, 0, 0, 0})) {
      on_cpu.step(gradients);
      on_cuda.step(gradients);
      require(same_state(on_cpu.snapshot(), on_cuda.snapshot()));
    }
  }
}

/// Steps that are left out because of gradients that are finite, but too large.
void skipped_steps() {
  Random random(100);
  for (const bool network : {false, true}) {
    Model model = small_model(random);
    model.options.form.non_finite = NonFinite::kSkipStep;
    model.options.form.network = network;
    Training on_cpu(model, 1), on_cuda(model, open());
    for (const Gradients& gradients : random_steps(random, model, 6, {0, 0.2, 0, 0, 0.3})) {
      on_cpu.step(gradients);
      on_cuda.step(gradients);
      require(same_state(on_cpu.snapshot(), on_cuda.snapshot()));
    }
  }
}

/// Elements whose offsets in their tensors need more than 32 bits.
void far_elements() {
  Random random(99);
  Model model = small_model(random);
  for (std::uint32_t k = 0; k < model.parameters.size(); ++k) model.parameters[k].layer = k;
  model.options.form.cosines = true;
  const Gradients gradients = random_gradients(random, model, {0, 0, 0, 0});
  Training on_cpu(model, 1), on_cuda(model, std::make_shared<DisplacedDevice>(open()));
  for (Training* const training : {&on_cpu, &on_cuda}) {
    training->step(gradients);
    training->stream(gradients);
    training->zero();
    training->step_again();
  }
  require(same_state(on_cpu.snapshot(), on_cuda.snapshot()));
}

/// More blocks in flight than there are pinned slots, with nothing that waits for them.
void many_writes() {
  simt::cuda::set_execution(Execution::kLazy);
  Random random(96);
  const Model model = small_model(random);
  const std::vector<Gradients> steps = random_steps(random, model, 12, {0, 0.5, 0, 0});
  Training on_cpu(model, 1), on_cuda(model, open());
  for (const Gradients& gradients : steps) {
    on_cpu.step(gradients);
    on_cuda.step(gradients);
  }
  require(same_state(on_cpu.snapshot(), on_cuda.snapshot()));
}

/// Successive steps on independent streams.
void two_streams() {
  Random random(97);
  const Model model = small_model(random);
  const Gradients gradients = random_gradients(random, model, {0, 0, 0, 0});
  Training on_cpu(model, 1), on_cuda(model, open());
  on_cpu.place(gradients);
  on_cuda.place(gradients);
  cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  cudaStream_t streams[2];
  for (cudaStream_t& stream : streams) {
    cuda::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }
  simt::cuda::set_execution(Execution::kLazy);
  for (int step = 0; step < 6; ++step) {
    on_cpu.step_again();
    on_cuda.step_again(streams[step % 2]);
  }
  const Snapshot expected = on_cpu.snapshot(), actual = on_cuda.snapshot();
  require(same_bits(expected.norms, actual.norms));
  require(same_bits(expected.clocks, actual.clocks));
}

/// Runs calls on the CPU, and on the device with independent streams `a` and `b` that run late.
template <class Calls>
void late(const Calls& calls) {
  Random random(97);
  const Model model = small_model(random);
  const Gradients gradients = random_gradients(random, model, {0, 0, 0, 0});
  Training on_cpu(model, 1), on_cuda(model, open());
  on_cpu.place(gradients);
  on_cuda.place(gradients);
  cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  cudaStream_t a = nullptr, b = nullptr;
  cuda::check(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  cuda::check(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  simt::cuda::set_execution(Execution::kLazy);
  calls(on_cpu, on_cuda, a, b);
  const Snapshot expected = on_cpu.snapshot(), actual = on_cuda.snapshot();
  require(same_bits(expected.norms, actual.norms));
  require(same_bits(expected.clocks, actual.clocks));
}

void default_then_own() {
  late([](Training& on_cpu, Training& on_cuda, cudaStream_t a, cudaStream_t) {
    for (const cudaStream_t stream : {cudaStream_t{nullptr}, a}) {
      on_cpu.step_again();
      on_cuda.step_again(stream);
    }
    // Runs the second step and only what it waits for.
    cuda::check(cudaStreamSynchronize(a), "cudaStreamSynchronize");
  });
}

void replay_on_another() {
  late([](Training& on_cpu, Training& on_cuda, cudaStream_t a, cudaStream_t b) {
    const std::unique_ptr<CapturedStep> captured = on_cuda.capture(b);
    for (int turn = 0; turn < 2; ++turn) {
      on_cpu.step_again();
      on_cuda.step_again(a);
      on_cpu.step_again();
      on_cuda.replay(*captured);
    }
    on_cuda.optimizer().done()->wait();
  });
}

void capture_after_step() {
  late([](Training& on_cpu, Training& on_cuda, cudaStream_t a, cudaStream_t) {
    on_cpu.step_again();
    on_cuda.step_again(a);
    const std::unique_ptr<CapturedStep> captured = on_cuda.capture(a);
    on_cpu.step_again();
    on_cuda.replay(*captured);
    on_cuda.optimizer().done()->wait();
  });
}

void zero_on_another() {
  late([](Training& on_cpu, Training& on_cuda, cudaStream_t a, cudaStream_t b) {
    on_cpu.step_again();
    on_cuda.step_again(b);
    on_cpu.zero();
    on_cuda.zero(a);
    on_cpu.step_again();
    on_cuda.step_again(b);
  });
}

/// A step on an independent stream must see the state that was restored just before.
void restored_then_step() {
  late([](Training& on_cpu, Training& on_cuda, cudaStream_t a, cudaStream_t) {
    on_cpu.step_again();
    on_cuda.step_again(a);
    for (Training* const training : {&on_cpu, &on_cuda}) {
      const std::size_t tensors = training->optimizer().layout().tensor_count();
      training->optimizer().restore_clocks(0, std::vector<SavedClock>(tensors, {7, 0.5, 0.25}));
    }
    on_cpu.step_again();
    on_cuda.step_again(a);
    cuda::check(cudaStreamSynchronize(a), "cudaStreamSynchronize");
  });
}

/// Kernels of a failed step must not change the state that is restored after it.
void failed_then_restored() {
  Random random(97);
  const Model model = small_model(random);
  Training training(model, open());
  training.place(random_gradients(random, model, {0, 0, 0, 0}));
  cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  cudaStream_t stream = nullptr;
  cuda::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  simt::cuda::set_execution(Execution::kLazy);
  simt::cuda::fail_call("cudaLaunchKernel", 2, cudaErrorLaunchOutOfResources);
  try {
    training.step_again(stream);
    require(testing::AssertionFailure() << "the step did not fail");
  } catch (const Error&) {
  }
  Optimizer& optimizer = training.optimizer();
  const std::vector<SavedNorm> saved(optimizer.layout().layer_count(), {2, true, 0});
  optimizer.restore_norms(0, saved);
  // Runs the copy of the restored norms first, which must wait for the failed step.
  cuda::check(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
  cuda::check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  for (const NormState& norm : optimizer.norm_states(0)) {
    if (norm.n != 2) require(testing::AssertionFailure() << "n is " << norm.n << ", due is 2");
  }
}

/// Larger than a pinned slot, and not a multiple of one.
void large_write() {
  const std::shared_ptr<Device> device = open();
  std::vector<float> sent(std::size_t{5} << 18), read(sent.size());
  for (std::size_t k = 0; k < sent.size(); ++k) sent[k] = static_cast<float>(k);
  const std::unique_ptr<Memory> memory = device->allocate(sent.size() * sizeof(float));
  device->write(memory->data(), sent.data(), sent.size() * sizeof(float), nullptr);
  device->read(read.data(), memory->data(), sent.size() * sizeof(float), nullptr);
  require(same_bits(sent, read));
}

cudaStream_t independent_stream() {
  cudaStream_t stream = nullptr;
  cuda::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return stream;
}

/// An optimizer that is destroyed while its work is queued.
void dropped() {
  Random random(98);
  const Model model = small_model(random);
  auto training = std::make_unique<Training>(model, open());
  training->place(random_gradients(random, model, {0, 0, 0, 0}));
  cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  const cudaStream_t stream = independent_stream();
  simt::cuda::set_execution(Execution::kLazy);
  training->step_again(stream);
  training.reset();
  cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

/// Memory that is freed while a copy to it is queued.
void freed_late() {
  const std::shared_ptr<Device> device = open();
  const cudaStream_t stream = independent_stream();
  simt::cuda::set_execution(Execution::kLazy);
  std::unique_ptr<Memory> memory = device->allocate(4);
  const float sent = 1;
  device->write(memory->data(), &sent, sizeof sent, stream);
  memory.reset();
  cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

/// Memory that is freed after the event that marks the end of the work with it.
void event_dropped() {
  const std::shared_ptr<Device> device = open();
  const cudaStream_t stream = independent_stream();
  simt::cuda::set_execution(Execution::kLazy);
  std::unique_ptr<Memory> memory = device->allocate(4);
  std::unique_ptr<Event> end = device->make_event();
  cuda::check(cudaMemsetAsync(memory->data(), 1, 4, stream), "cudaMemsetAsync");
  end->record(stream);
  end.reset();
  memory.reset();
  cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

/// Memory that is freed while work of the user's is queued that this library does not know.
void lent() {
  const std::shared_ptr<Device> device = open();
  const cudaStream_t stream = independent_stream();
  simt::cuda::set_execution(Execution::kLazy);
  std::unique_ptr<Memory> memory = device->allocate(4);
  memory->lend();
  cuda::check(cudaMemsetAsync(memory->data(), 1, 4, stream), "cudaMemsetAsync");
  memory.reset();
  cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

/// Frees memory, as the garbage collector does, and waits, while the user captures a stream.
void captured(bool pools) {
  simt::cuda::Settings settings = simt::cuda::settings();
  settings.pools = pools;
  simt::cuda::reset(settings);
  const std::shared_ptr<Device> device = open();
  std::unique_ptr<Memory> memory = device->allocate(4);
  cudaStream_t stream = nullptr;
  cuda::check(cudaStreamCreate(&stream), "cudaStreamCreate");
  cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "cudaStreamBeginCapture");
  memory.reset();
  device->all_done()->wait();
  cudaGraph_t graph = nullptr;
  cuda::check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
}

/// Uses memory at once on a stream that is independent of the default one.
void fresh_memory() {
  cudaStream_t stream = nullptr;
  cuda::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  simt::cuda::set_execution(Execution::kLazy);
  const std::shared_ptr<Device> device = open();
  const std::unique_ptr<Memory> memory = device->allocate(4);
  const std::vector<float> written{7};
  std::vector<float> read{0};
  device->write(memory->data(), written.data(), 4, stream);
  cuda::check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  device->read(read.data(), memory->data(), 4, stream);
  require(same_bits(written, read));
}

void run(const std::string& scenario) {
  simt::cuda::Settings settings;
  settings.hide_device_memory = false;
  settings.print_failures = false;
  simt::cuda::reset(settings);
  // As many as any launch here has: races between blocks need them resident at once.
  simt::configure({simt::Order::kRandom, 1, 16});
  if (scenario == "small_grid") set_grid(2);
  if (scenario == "far_elements") return far_elements();
  if (scenario == "many_writes") return many_writes();
  if (scenario == "two_streams") return two_streams();
  if (scenario == "default_then_own") return default_then_own();
  if (scenario == "replay_on_another") return replay_on_another();
  if (scenario == "capture_after_step") return capture_after_step();
  if (scenario == "zero_on_another") return zero_on_another();
  if (scenario == "restored_then_step") return restored_then_step();
  if (scenario == "failed_then_restored") return failed_then_restored();
  if (scenario == "large_write") return large_write();
  if (scenario == "captured") return captured(true);
  if (scenario == "captured_without_pools") return captured(false);
  if (scenario == "dropped") return dropped();
  if (scenario == "freed_late") return freed_late();
  if (scenario == "event_dropped") return event_dropped();
  if (scenario == "lent") return lent();
  if (scenario == "network") return network();
  if (scenario == "lagged") return lagged();
  if (scenario == "one_launch") return one_read(false);
  if (scenario == "network_in_one_read") return one_read(true);
  if (scenario == "one_launch_of_codes") return one_launch_of_codes();
  if (scenario == "lean") return lean();
  if (scenario == "narrow") return narrow();
  if (scenario == "narrow_parameters") return narrow_parameters();
  if (scenario == "skipped_steps") return skipped_steps();
  if (scenario == "fresh_memory") return fresh_memory();
  kernels();
}

}  // namespace
}  // namespace mtadam::test

int main(int count, char** arguments) {
  try {
    mtadam::test::run(count > 1 ? arguments[1] : "kernels");
    std::puts("passed");
    return 0;
  } catch (const mtadam::cuda::CudaError& error) {
    std::printf("error: %s: %s\n", error.what(), simt::cuda::failure().c_str());
  } catch (const std::exception& error) {
    std::puts(error.what());
  }
  return 1;
}
