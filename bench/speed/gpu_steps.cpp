// How long a step takes on a GPU, kernel by kernel, without Node: the device's own time between events.
//
//   gpu_steps [options]
//     --rounds <number>   of each measurement, whose median counts; 11
//     --shape <name>      only this shape; may be given several times
//     --terms <number>    only so many terms
//     --form <name>       only this form of state, such as per-term; may be given several times
//     --only <which>      only the columns of `step`, the step with current scales, or of `lagged`
//     --divide <number>   shapes of three tensors at most, so many times smaller: for a machine without a GPU
//     --shapes            prints the shapes' names and the lengths of their tensors, and ends
//     --describe          prints what this machine and this build have, and ends
//
// Prints the bandwidth of a copy, then a table with tabs between the cells, a row per shape, number of terms and form:
// microseconds of the norms, of the update and of the whole step, that step from a graph, the same streamed, what the
// calls cost the host, the step with lagged scales, and that with the network as one unit, with gradients read once, in
// three launches, and twice, in two. Shares are of the bandwidth of the copy. One set of buffers: what fits in the
// caches stays there. Exits with 2, and the reason, where there is no device to measure.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cuda/cuda.h"
#include "cuda/cuda_device.h"
#include "cuda/errors.h"
#include "cuda/kernels.h"
#include "cuda/runtime.h"
#include "engine/optimizer.h"
#include "math/bits.h"

namespace {

using namespace mtadam;
using cuda::check;

constexpr int kNoDevice = 2;

struct Options {
  int rounds = 11;
  std::uint64_t divisor = 1;
  std::vector<std::string> shapes;
  std::uint32_t terms = 0;          // 0: each number
  std::vector<std::string> forms;   // empty: all
  bool step = true, lagged = true;  // which columns
  bool list_shapes = false, describe = false;
};

Options options;

struct Shape {
  std::string name;
  std::vector<std::uint64_t> lengths;
};

/// How moments are summed and stored, and the type of the gradients.
struct Form {
  const char* name;
  bool summed, one_v;
  StateType state;
  ElementType gradient;

  /// Bytes per element of a plane of moments, without exponents (1/128 byte for 8 bits), and of a gradient.
  double moment() const { return state == StateType::kFloat32 ? sizeof(float) : code_bytes(state); }
  double gradient_bytes() const { return static_cast<double>(element_bytes(gradient)); }
  double planes(double terms) const { return (summed ? 1 : terms) + (one_v ? 1 : terms); }

  /// Bytes per element of a step, and of one that takes its terms one at a time.
  double resident(double terms) const { return 2 * gradient_bytes() * terms + 8 + 2 * moment() * planes(terms); }
  double streamed(double terms) const {
    const double moments = one_v ? 8 * terms + 4 * moment() : 4 * moment() * terms + moment() * planes(terms);
    return 2 * gradient_bytes() * terms + 8 + moments;
  }
  /// Whether it is measured with three terms only.
  bool is_special() const { return one_v || state != StateType::kFloat32; }
};

constexpr Form kForms[] = {
    {"per-term", false, false, StateType::kFloat32, ElementType::kFloat32},
    {"summed", true, false, StateType::kFloat32, ElementType::kFloat32},
    {"one pair", true, true, StateType::kFloat32, ElementType::kFloat32},
    {"one pair, bfloat16", true, true, StateType::kBfloat16, ElementType::kFloat32},
    {"one pair and gradients, bfloat16", true, true, StateType::kBfloat16, ElementType::kBfloat16},
    {"one pair, 8bit", true, true, StateType::k8bit, ElementType::kFloat32},
    {"summed, 8bit", true, false, StateType::k8bit, ElementType::kFloat32},
};

/// The terms of the forms that are measured with one number only.
constexpr std::uint32_t kSpecialTerms = 3;

/// ResNet-50 (He et al. 2015): every convolution has a scale and a shift beside it.
std::vector<std::uint64_t> resnet50() {
  std::vector<std::uint64_t> lengths;
  const auto convolution = [&](std::uint64_t in, std::uint64_t out, std::uint64_t side) {
    lengths.insert(lengths.end(), {in * out * side * side, out, out});
  };
  convolution(3, 64, 7);
  std::uint64_t channels = 64;
  const std::pair<std::uint64_t, int> stages[] = {{64, 3}, {128, 4}, {256, 6}, {512, 3}};
  for (const auto& [width, blocks] : stages) {
    for (int block = 0; block < blocks; ++block) {
      const std::uint64_t out = 4 * width;
      convolution(channels, width, 1);
      convolution(width, width, 3);
      convolution(width, out, 1);
      if (block == 0) convolution(channels, out, 1);
      channels = out;
    }
  }
  lengths.insert(lengths.end(), {channels * 1000, 1000});
  return lengths;
}

std::vector<Shape> shapes() {
  std::vector<Shape> all{
      {"one tensor of 50M", {50'000'000}},
      {"50 tensors of 1M", std::vector<std::uint64_t>(50, 1'000'000)},
      {"ResNet-50", resnet50()},
      {"3,000 tensors of 3,500", std::vector<std::uint64_t>(3000, 3500)},
      {"one tensor of 10.5M", {10'500'000}},
      {"MNIST CNN", {288, 32, 18432, 64, 1179648, 128, 1280, 10}},
      {"perceptron", {100352, 128, 1280, 10}},
      {"one tensor of 8", {8}},
  };
  if (options.divisor == 1) return all;
  for (Shape& shape : all) {
    shape.lengths.resize(std::min<std::size_t>(shape.lengths.size(), 3));
    for (std::uint64_t& length : shape.lengths) length = std::max<std::uint64_t>(1, length / options.divisor);
  }
  return all;
}

class Timer {
 public:
  Timer() {
    for (cudaEvent_t& event : events_) check(cudaEventCreateWithFlags(&event, cudaEventDefault), "cudaEventCreate");
  }
  ~Timer() {
    for (const cudaEvent_t event : events_) cudaEventDestroy(event);
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  /// Microseconds of what a call enqueues, the median over the rounds; `calls` of them between two events.
  double median(const std::function<void()>& call, int calls = 5) {
    for (int k = 0; k < 3; ++k) call();
    std::vector<double> times;
    for (int round = 0; round < options.rounds; ++round) {
      check(cudaEventRecord(events_[0], nullptr), "cudaEventRecord");
      for (int k = 0; k < calls; ++k) call();
      check(cudaEventRecord(events_[1], nullptr), "cudaEventRecord");
      check(cudaEventSynchronize(events_[1]), "cudaEventSynchronize");
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, events_[0], events_[1]), "cudaEventElapsedTime");
      times.push_back(milliseconds * 1000.0 / calls);
    }
    std::nth_element(times.begin(), times.begin() + options.rounds / 2, times.end());
    return times[static_cast<std::size_t>(options.rounds / 2)];
  }

 private:
  cudaEvent_t events_[2] = {};
};

/// Bytes a second, read and written, of a copy within the device.
double copy_bandwidth(Timer& timer) {
  const std::size_t bytes = (std::size_t{1} << 30) / options.divisor;
  void* memory = nullptr;
  check(cudaMalloc(&memory, 2 * bytes), "cudaMalloc");
  auto* const from = static_cast<std::byte*>(memory);
  const double time = timer.median(
      [&] { check(cudaMemcpyAsync(from + bytes, from, bytes, cudaMemcpyDeviceToDevice, nullptr), "cudaMemcpyAsync"); });
  cudaFree(memory);
  return 2.0 * static_cast<double>(bytes) / (time * 1e-6);
}

/// A model in device memory, with a gradient per term.
class Model {
 public:
  Model(std::shared_ptr<Device> device, const Shape& shape, std::uint32_t terms, const Form& of, const StateForm& form)
      : device_(std::move(device)), gradients_(device_, terms, static_cast<std::uint32_t>(shape.lengths.size())) {
    const auto tensors = static_cast<std::uint32_t>(shape.lengths.size());
    auto addresses = std::make_unique<AddressTable>(device_, 1, tensors);
    std::vector<ParameterShape> parameters;
    place(*addresses, 0, shape, ElementType::kFloat32);
    for (std::uint32_t k = 0; k < tensors; ++k) {
      const auto address = reinterpret_cast<std::uintptr_t>(places_[k]);
      const auto phase = static_cast<std::uint32_t>(address / sizeof(float) % 4);
      parameters.push_back({shape.lengths[k], k, 0, phase, k, of.gradient});
    }
    for (std::uint32_t term = 0; term < terms; ++term) place(gradients_, term, shape, of.gradient);
    OptimizerOptions chosen;
    chosen.terms = terms;
    chosen.form = form;
    optimizer_ = std::make_unique<Optimizer>(device_, Layout(parameters, of.state), chosen, std::move(addresses));
    optimizer_->set_groups({{1e-3, 0.9, 0.999, form.lagged ? 0.999 : 0.9, 1e-8, 0, false, false}});
  }

  Optimizer& optimizer() { return *optimizer_; }
  AddressTable& gradients() { return gradients_; }

 private:
  // Random values, since zeros may move faster.
  void place(AddressTable& table, std::uint32_t row, const Shape& shape, ElementType type) {
    const std::uint64_t size = element_bytes(type);
    std::uint64_t total = 0;
    for (const std::uint64_t length : shape.lengths) total += length;
    memory_.push_back(device_->allocate(total * size));
    auto* const start = static_cast<std::byte*>(memory_.back()->data());
    constexpr std::uint64_t kCount = 1 << 20;
    std::vector<std::byte> values(kCount * size);
    std::uniform_real_distribution<float> draw(-0.01F, 0.01F);
    for (std::uint64_t k = 0; k < kCount; ++k) {
      const std::uint32_t bits = bits_of(draw(random_));
      const std::uint32_t stored = type == ElementType::kFloat32 ? bits : bits >> 16;
      std::memcpy(values.data() + k * size, &stored, size);
    }
    for (std::uint64_t at = 0; at < total; at += kCount) {
      const std::size_t bytes = std::min(kCount, total - at) * size;
      check(cudaMemcpy(start + at * size, values.data(), bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
    }
    places_.clear();
    std::byte* at = start;
    for (std::uint32_t k = 0; k < shape.lengths.size(); at += size * shape.lengths[k++]) {
      table.set(row, k, reinterpret_cast<float*>(at));
      places_.push_back(at);
    }
  }

  std::shared_ptr<Device> device_;
  AddressTable gradients_;
  std::vector<std::unique_ptr<Memory>> memory_;
  std::vector<std::byte*> places_;
  std::unique_ptr<Optimizer> optimizer_;
  std::mt19937 random_{7};
};

/// A CUDA device that takes the time of a resident step's two launches.
class TimedDevice final : public Device {
 public:
  double norms_time = 0, update_time = 0;  // microseconds, medians of the last TimedDevice::take

  template <class Step>
  void take(const Step& step) {
    std::vector<double> norms, updates;
    timed_ = true;
    for (int round = 0; round < options.rounds; ++round) {
      for (int k = 0; k < 3; ++k) step();
      check(cudaEventSynchronize(events_[2]), "cudaEventSynchronize");
      float first = 0, second = 0;
      check(cudaEventElapsedTime(&first, events_[0], events_[1]), "cudaEventElapsedTime");
      check(cudaEventElapsedTime(&second, events_[1], events_[2]), "cudaEventElapsedTime");
      norms.push_back(first * 1000.0);
      updates.push_back(second * 1000.0);
    }
    timed_ = false;
    const auto median = [](std::vector<double>& times) {
      std::nth_element(times.begin(), times.begin() + options.rounds / 2, times.end());
      return times[static_cast<std::size_t>(options.rounds / 2)];
    };
    norms_time = median(norms);
    update_time = median(updates);
  }

  TimedDevice() {
    for (cudaEvent_t& event : events_) check(cudaEventCreateWithFlags(&event, cudaEventDefault), "cudaEventCreate");
  }
  ~TimedDevice() override {
    for (const cudaEvent_t event : events_) cudaEventDestroy(event);
  }

  std::string name() const override { return device_.name(); }
  bool immediate() const override { return device_.immediate(); }
  void check_stream(Stream stream) const override { device_.check_stream(stream); }
  void check_range(const void* address, std::size_t bytes) const override { device_.check_range(address, bytes); }
  std::unique_ptr<Memory> allocate(std::size_t bytes) override { return device_.allocate(bytes); }
  void write(void* to, const void* from, std::size_t bytes, Stream stream) override {
    device_.write(to, from, bytes, stream);
  }
  void read(void* to, const void* from, std::size_t bytes, Stream stream) override {
    device_.read(to, from, bytes, stream);
  }
  std::unique_ptr<HostCopy> read_later(const void* from, std::size_t bytes, Stream stream) override {
    return device_.read_later(from, bytes, stream);
  }
  void fill(void* to, std::uint64_t pattern, std::size_t element, std::size_t bytes, Stream stream) override {
    device_.fill(to, pattern, element, bytes, stream);
  }
  std::unique_ptr<Event> make_event() override { return device_.make_event(); }
  std::unique_ptr<Event> all_done() override { return device_.all_done(); }
  bool step_in_one_pass(const Tables& tables, const Call& call, const OnePass& pass) override {
    return device_.step_in_one_pass(tables, call, pass);
  }
  std::unique_ptr<Graph> capture(Stream stream, const std::function<void(Stream)>& calls) override {
    return device_.capture(stream, calls);
  }
  void load(const Tables& tables) override { device_.load(tables); }
  void norms(const Tables& tables, const Call& call, Stream stream) override {
    mark(0);
    device_.norms(tables, call, stream);
    mark(1);
  }
  void cosines(const Tables& tables, const Call& call, Stream stream) override {
    device_.cosines(tables, call, stream);
  }
  void moments(const Tables& tables, const Call& call, Stream stream) override {
    device_.moments(tables, call, stream);
  }
  void update(const Tables& tables, Stream stream) override { device_.update(tables, stream); }
  void update(const Tables& tables, const Call& call, Stream stream) override {
    device_.update(tables, call, stream);
    mark(2);
  }
  void zero(const Tables& tables, const Call& call, Stream stream) override { device_.zero(tables, call, stream); }
  void add(void* target, const void* source, std::uint64_t count, ElementType type, Stream stream) override {
    device_.add(target, source, count, type, stream);
  }

 private:
  void mark(int which) {
    if (timed_) check(cudaEventRecord(events_[which], nullptr), "cudaEventRecord");
  }

  cuda::CudaDevice device_{0};
  cudaEvent_t events_[3] = {};
  bool timed_ = false;
};

double host_time(Model& model) {
  const int calls = 9 * options.rounds;
  const auto begin = std::chrono::steady_clock::now();
  for (int k = 0; k < calls; ++k) model.optimizer().step(model.gradients(), 1);
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  return took.count() / calls;
}

/// The time of a step of this form on a device that has this much cache.
double step_time(const Shape& shape, std::uint32_t terms, const Form& of, const StateForm& form,
                 std::uint64_t cache_bytes, Timer& timer) {
  Model model(std::make_shared<cuda::CudaDevice>(0, cache_bytes), shape, terms, of, form);
  return timer.median([&] { model.optimizer().step(model.gradients(), 1); });
}

StateForm state_form(const Form& of) {
  StateForm form;
  form.summed = of.summed;
  form.one_v = of.one_v;
  return form;
}

/// Cells of a table, each after a tab.
template <class... Numbers>
std::string cells(Numbers... numbers) {
  std::string text;
  const auto add = [&](double number) {
    char cell[32];
    std::snprintf(cell, sizeof cell, "\t%.1f", number);
    text += cell;
  };
  (add(numbers), ...);
  return text;
}

constexpr char kStepHead[] = "\tnorms µs\t%\tupdate µs\t%\tstep µs\t%\tgraph µs\tstreamed µs\t%\thost µs";
constexpr char kLaggedHead[] = "\tlagged µs\t%\tnetwork once µs\tnetwork twice µs";

/// The share of the bandwidth, in percent, of a step that moves so many bytes per element.
double share_of(const Shape& shape, double bytes, double time, double bandwidth) {
  double elements = 0;
  for (const std::uint64_t length : shape.lengths) elements += static_cast<double>(length);
  return 100 * elements * bytes / bandwidth / (time * 1e-6);
}

std::string measure_step(const std::shared_ptr<TimedDevice>& device, const Shape& shape, std::uint32_t terms,
                         const Form& of, Timer& timer, double bandwidth) {
  const StateForm form = state_form(of);
  Model model(device, shape, terms, of, form);
  Optimizer& optimizer = model.optimizer();
  const auto share = [&](double bytes, double time) { return share_of(shape, bytes, time, bandwidth); };

  const auto take = [&] { optimizer.step(model.gradients(), 1); };
  const double step = timer.median(take);
  device->take(take);
  const std::unique_ptr<CapturedStep> captured = optimizer.capture(model.gradients());
  const double graph = timer.median([&] { optimizer.replay(*captured, 1); });
  const double streamed = timer.median(
      [&] {
        for (std::uint32_t term = 0; term < terms; ++term) optimizer.accumulate(model.gradients(), term, 1);
        optimizer.update();
      },
      2);
  const double host = host_time(model);
  const double bytes = of.resident(terms), gradients = of.gradient_bytes() * terms;
  return cells(device->norms_time, share(gradients, device->norms_time), device->update_time,
               share(bytes - gradients, device->update_time), step, share(bytes, step), graph, streamed,
               share(of.streamed(terms), streamed), host);
}

std::string measure_lagged(const Shape& shape, std::uint32_t terms, const Form& of, Timer& timer, double bandwidth) {
  StateForm form = state_form(of);
  form.lagged = true;
  form.non_finite = NonFinite::kSkipElement;
  const double lagged = step_time(shape, terms, of, form, 0, timer);
  form.network = true;
  const double network_once = step_time(shape, terms, of, form, 0, timer);
  const double network_twice = step_time(shape, terms, of, form, ~std::uint64_t{0}, timer);

  // With more terms it reads gradients twice.
  const double read_once = terms > cuda::kMostLaggedTerms ? 0 : of.gradient_bytes() * terms;
  const double share = share_of(shape, of.resident(terms) - read_once, lagged, bandwidth);
  return cells(lagged, share, network_once, network_twice);
}

void measure(const std::shared_ptr<TimedDevice>& device, const Shape& shape, std::uint32_t terms, const Form& of,
             Timer& timer, double bandwidth) {
  std::string row;
  if (options.step) row += measure_step(device, shape, terms, of, timer, bandwidth);
  if (options.lagged) row += measure_lagged(shape, terms, of, timer, bandwidth);
  std::printf("%s\t%u\t%s%s\n", shape.name.c_str(), terms, of.name, row.c_str());
  std::fflush(stdout);
}

/// A model that the device's memory does not hold is left out, and that is said.
void measure_all() {
  const auto device = std::make_shared<TimedDevice>();
  Timer timer;
  const double bandwidth = copy_bandwidth(timer);
  std::printf("%s: a copy has %.0f GB/s, read and written.\n", device->name().c_str(), bandwidth / 1e9);
  std::printf("shape\tI\tmoments%s%s\n", options.step ? kStepHead : "", options.lagged ? kLaggedHead : "");
  for (const Shape& shape : shapes()) {
    const auto& names = options.shapes;
    if (!names.empty() && std::find(names.begin(), names.end(), shape.name) == names.end()) continue;
    for (const std::uint32_t terms : {1u, 3u, 10u}) {
      if (options.terms != 0 && terms != options.terms) continue;
      for (const Form& form : kForms) {
        const auto& chosen = options.forms;
        if (!chosen.empty() && std::find(chosen.begin(), chosen.end(), form.name) == chosen.end()) continue;
        if (form.is_special() && terms != kSpecialTerms) continue;
        try {
          measure(device, shape, terms, form, timer, bandwidth);
        } catch (const Error& error) {
          if (std::string(error.code()) != "OUT_OF_MEMORY") throw;
          std::fprintf(stderr, "%s, %u terms, %s: %s\n", shape.name.c_str(), terms, form.name, error.what());
        }
      }
    }
  }
}

void list_shapes() {
  for (const Shape& shape : shapes()) {
    std::printf("%s\t", shape.name.c_str());
    for (std::size_t k = 0; k < shape.lengths.size(); ++k) {
      std::printf("%s%llu", k == 0 ? "" : ",", static_cast<unsigned long long>(shape.lengths[k]));
    }
    std::printf("\n");
  }
}

void describe(const cuda::Description& machine) {
  std::string architectures;
  for (const std::string& each : machine.architectures) architectures += (architectures.empty() ? "" : ", ") + each;
  const cuda::DeviceDescription& device = machine.devices.front();
  std::printf("device\t%s\ncompute capability\t%s\n", device.name.c_str(), device.compute_capability.c_str());
  std::printf("driver\tserves CUDA %s\nruntime\tCUDA %s\n", machine.driver.c_str(), machine.runtime.c_str());
  std::printf("code for\t%s\n", architectures.c_str());
}

/// Returns whether it understood all of them.
bool read_arguments(int count, char** arguments) {
  for (int k = 1; k < count; ++k) {
    const std::string name = arguments[k];
    if (name == "--shapes") {
      options.list_shapes = true;
    } else if (name == "--describe") {
      options.describe = true;
    } else if (++k == count) {
      return false;
    } else if (name == "--shape") {
      options.shapes.emplace_back(arguments[k]);
    } else if (name == "--form") {
      options.forms.emplace_back(arguments[k]);
    } else if (name == "--only") {
      const std::string which = arguments[k];
      options.step = which == "step";
      options.lagged = which == "lagged";
      if (!options.step && !options.lagged) return false;
    } else if (const int number = std::atoi(arguments[k]); number < 1) {
      return false;
    } else if (name == "--rounds") {
      options.rounds = number;
    } else if (name == "--terms") {
      options.terms = static_cast<std::uint32_t>(number);
    } else if (name == "--divide") {
      options.divisor = static_cast<std::uint64_t>(number);
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  if (!read_arguments(count, arguments)) {
    std::fprintf(stderr, "gpu_steps: unknown options; its source describes them.\n");
    return 1;
  }
  if (options.list_shapes) {
    list_shapes();
    return 0;
  }
  const cuda::Description machine = cuda::describe();
  if (!machine.reason.empty()) {
    std::fprintf(stderr, "%s\n", machine.reason.c_str());
    return kNoDevice;
  }
  try {
    options.describe ? describe(machine) : measure_all();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
