// What a GPU's memory gives to plain kernels over whole arrays, measured while the optimizer is. Lives as long as its
// standard input and takes one line at a time:
//
//   memory <bytes> <sets>     ok
//   copy <calls>              ok <seconds>   one half of a set becomes the other, by a kernel
//   memcpy <calls>            ok <seconds>   the same by cudaMemcpyAsync
//   update <calls>            ok <seconds>   a = s·a + b, all of a set
//   read <calls>              ok <seconds>   all of a set
//
// One call is one launch and goes through the next set. Seconds are the device's, between two events around all calls,
// of which one more comes before. What cannot be done is answered `error <sentence>`. The only argument is the device's
// number. The tests run this on the host executor (native/test/simt).

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/kernels/platform.cuh"
#include "cuda/runtime.h"

namespace {

// ---- Kernels: a tile per block, 16 bytes per access, several in flight per thread ----

constexpr unsigned kThreads = 256;
constexpr unsigned kFlight = 4;
constexpr std::uint64_t kTile = std::uint64_t{kThreads} * kFlight;

/// Where the k-th access of this thread lies.
__device__ __forceinline__ std::uint64_t place(unsigned k) { return blockIdx.x * kTile + k * kThreads + threadIdx.x; }

__device__ __forceinline__ void load(float4 (&values)[kFlight], const float4* from, std::uint64_t count) {
#pragma unroll
  for (unsigned k = 0; k < kFlight; ++k) {
    if (place(k) < count) values[k] = from[place(k)];
  }
}

__device__ __forceinline__ void store(float4* to, const float4 (&values)[kFlight], std::uint64_t count) {
#pragma unroll
  for (unsigned k = 0; k < kFlight; ++k) {
    if (place(k) < count) to[place(k)] = values[k];
  }
}

__global__ void __launch_bounds__(kThreads) copy_kernel(float4* to, const float4* from, std::uint64_t count) {
  float4 values[kFlight] = {};
  load(values, from, count);
  store(to, values, count);
}

__global__ void __launch_bounds__(kThreads) update_kernel(float4* a, float scale, float addend, std::uint64_t count) {
  float4 values[kFlight] = {};
  load(values, a, count);
#pragma unroll
  for (unsigned k = 0; k < kFlight; ++k) {
    const float4 v = values[k];
    values[k] = make_float4(scale * v.x + addend, scale * v.y + addend, scale * v.z + addend, scale * v.w + addend);
  }
  store(a, values, count);
}

/// No sum is `never`, which only the caller knows: so every element is read.
__global__ void __launch_bounds__(kThreads) read_kernel(float4* a, float never, std::uint64_t count) {
  float4 values[kFlight] = {};
  load(values, a, count);
  float sum = 0;
#pragma unroll
  for (unsigned k = 0; k < kFlight; ++k) sum += values[k].x + values[k].y + values[k].z + values[k].w;
  if (sum == never) a->x = sum;
}

// ---- The runtime ----

void check(cudaError_t error, const char* operation) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // what is no fault of the device is said once
  if (error == cudaErrorMemoryAllocation) throw std::bad_alloc();
  throw std::runtime_error(std::string(operation) + " failed: " + cudaGetErrorName(error) + ".");
}

class Event {
 public:
  Event() { check(cudaEventCreateWithFlags(&event_, cudaEventDefault), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record() { check(cudaEventRecord(event_, nullptr), "cudaEventRecord"); }
  double seconds_since(const Event& start) const {
    check(cudaEventSynchronize(event_), "cudaEventSynchronize");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start.event_, event_), "cudaEventElapsedTime");
    return milliseconds / 1000.0;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

/// Two halves of as many vectors of 16 bytes.
class Set {
 public:
  explicit Set(std::uint64_t half) : half_(half) {
    check(cudaMalloc(reinterpret_cast<void**>(&memory_), bytes()), "cudaMalloc");
  }
  ~Set() { cudaFree(memory_); }
  Set(Set&& other) noexcept : half_(other.half_), memory_(other.memory_) { other.memory_ = nullptr; }
  Set& operator=(Set&&) = delete;

  float4* first() const { return memory_; }
  float4* second() const { return memory_ + half_; }
  std::uint64_t half() const { return half_; }
  std::uint64_t bytes() const { return 2 * half_ * sizeof(float4); }

 private:
  std::uint64_t half_;
  float4* memory_ = nullptr;
};

// ---- The lines ----

class Roof {
 public:
  void memory(std::uint64_t bytes, std::uint64_t sets) {
    sets_.clear();
    turn_ = 0;
    const std::uint64_t half = (bytes + 2 * sizeof(float4) - 1) / (2 * sizeof(float4));
    if (sets > 0 && half == 0) throw std::invalid_argument("A set must have memory.");
    for (std::uint64_t k = 0; k < sets; ++k) {
      sets_.emplace_back(half);
      check(cudaMemsetAsync(sets_.back().first(), 0, sets_.back().bytes(), nullptr), "cudaMemsetAsync");
      run("update");  // no element stays 0
    }
    turn_ = 0;
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }

  double time(const std::string& verb, std::uint64_t calls) {
    if (sets_.empty()) throw std::invalid_argument("A call must come after `memory`.");
    run(verb);
    start_.record();
    for (std::uint64_t k = 0; k < calls; ++k) run(verb);
    end_.record();
    return end_.seconds_since(start_);
  }

 private:
  static constexpr float kScale = 0.5F;
  static constexpr float kAddend = 0.5F;
  static constexpr float kNever = -1;

  template <class... Parameters, class... Arguments>
  static void launch(void (*kernel)(Parameters...), std::uint64_t count, Arguments... arguments) {
    const std::uint64_t blocks = (count + kTile - 1) / kTile;
    if (blocks > std::numeric_limits<std::int32_t>::max()) throw std::invalid_argument("A set is too large.");
    check(mtadam::cuda::launch_kernel<Parameters...>(kernel, dim3(static_cast<unsigned>(blocks)), kThreads, nullptr,
                                                     arguments..., count),
          "A launch");
  }

  void run(const std::string& verb) {
    const Set& set = sets_[turn_++ % sets_.size()];
    const std::uint64_t half = set.half();
    if (verb == "copy") return launch(copy_kernel, half, set.first(), set.second());
    if (verb == "update") return launch(update_kernel, 2 * half, set.first(), kScale, kAddend);
    if (verb == "read") return launch(read_kernel, 2 * half, set.first(), kNever);
    if (verb != "memcpy") {
      throw std::invalid_argument("The first word must be `copy`, `memcpy`, `update`, `read` or `memory`.");
    }
    check(cudaMemcpyAsync(set.first(), set.second(), half * sizeof(float4), cudaMemcpyDeviceToDevice, nullptr),
          "cudaMemcpyAsync");
  }

  Event start_;
  Event end_;
  std::vector<Set> sets_;
  std::uint64_t turn_ = 0;
};

std::string answer(Roof& roof, const std::string& line) {
  std::istringstream words(line);
  std::string verb;
  words >> verb;
  const auto number = [&words] {
    std::uint64_t value = 0;
    if (!(words >> value)) throw std::invalid_argument("A line must be `memory` and two numbers, or a word and one.");
    return value;
  };
  if (verb == "memory") {
    const std::uint64_t bytes = number();
    roof.memory(bytes, number());
    return "ok";
  }
  std::ostringstream text;
  text.precision(9);
  text << "ok " << roof.time(verb, number());
  return text.str();
}

int serve(int device) {
  check(cudaSetDevice(device), "cudaSetDevice");
  Roof roof;
  for (std::string line; std::getline(std::cin, line);) {
    try {
      std::cout << answer(roof, line) << std::endl;
    } catch (const std::bad_alloc&) {
      std::cout << "error There is not enough memory for these sets." << std::endl;
    } catch (const std::exception& error) {
      std::cout << "error " << error.what() << std::endl;
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "gpu_roof <device>\n";
    return 2;
  }
  try {
    return serve(std::atoi(argv[1]));
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
