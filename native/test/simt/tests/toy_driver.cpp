// Runs the toy kernels on a device of the executor and compares with the host:
//   toy_driver [order 0..2] [seed] [resident blocks] [elements of a single large array]
// Prints "passed", "wrong: …" or "error: …", and how long the kernels took.

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "test/simt/control.h"
#include "test/simt/launch.h"
#include "test/simt/tests/toy_norms.cuh"

namespace {

using toy::Arrays;
using toy::kBlock;
using toy::kChunk;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void require(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::printf("error: %s: %s\n", cudaGetErrorName(error), simt::cuda::failure().c_str());
  std::exit(3);
}

/// Device memory with a copy of these values, which ends where they end.
template <class T>
T* to_device(const std::vector<T>& values) {
  T* memory = nullptr;
  require(cudaMalloc(&memory, values.size() * sizeof(T)));
  require(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  return memory;
}

template <class T>
std::vector<T> to_host(const T* memory, std::size_t count) {
  std::vector<T> values(count);
  require(cudaMemcpy(values.data(), memory, count * sizeof(T), cudaMemcpyDeviceToHost));
  return values;
}

std::vector<float> numbers(std::size_t count) {
  std::vector<float> values(count);
  unsigned state = 12345;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(static_cast<int>(state >> 8) % 2001 - 1000) / 1000.0f;
  }
  return values;
}

double squares_of(const std::vector<float>& values, std::size_t begin) {
  double sum = 0;
  for (std::size_t k = begin; k < values.size(); ++k) sum += static_cast<double>(values[k]) * values[k];
  return sum;
}

bool close(double value, double expected) { return std::fabs(value - expected) <= 1e-5 * expected + 1e-12; }

/// Arrays that begin this many elements after a 16-byte boundary.
bool norms_are_right(const std::vector<int>& lengths, int offset) {
  Arrays arrays{};
  std::vector<double> expected;
  for (const int length : lengths) {
    const std::vector<float> values = numbers(static_cast<std::size_t>(length + offset));
    arrays.data[arrays.count] = to_device(values) + offset;
    arrays.length[arrays.count] = length;
    arrays.first_chunk[arrays.count + 1] = arrays.first_chunk[arrays.count] + (length + kChunk - 1) / kChunk;
    ++arrays.count;
    expected.push_back(squares_of(values, static_cast<std::size_t>(offset)));
  }
  const int chunks = arrays.first_chunk[arrays.count];
  float* partial = to_device(std::vector<float>(static_cast<std::size_t>(chunks)));
  unsigned* tickets = to_device(std::vector<unsigned>(lengths.size()));
  float* squares = to_device(std::vector<float>(lengths.size()));

  const double start = seconds();
  require(simt::launch(toy::norms, static_cast<unsigned>(chunks), kBlock, nullptr, arrays, partial, tickets, squares));
  require(cudaDeviceSynchronize());
  std::printf("norms of %zu arrays in %d chunks: %.3f s\n", lengths.size(), chunks, seconds() - start);

  const std::vector<float> found = to_host(squares, lengths.size());
  for (std::size_t k = 0; k < found.size(); ++k) {
    if (close(static_cast<double>(found[k]), expected[k])) continue;
    std::printf("wrong: array %zu of %d elements has %g for %g\n", k, lengths[k], static_cast<double>(found[k]),
                expected[k]);
    return false;
  }
  return true;
}

bool normalising_is_right(int chunks, unsigned grid) {
  const std::vector<float> values = numbers(static_cast<std::size_t>(chunks * kBlock));
  float* data = to_device(values);
  float* partial = to_device(std::vector<float>(static_cast<std::size_t>(chunks)));
  toy::Progress* progress = to_device(std::vector<toy::Progress>(1));
  require(simt::launch(toy::normalise, grid, kBlock, nullptr, data, chunks, partial, progress));
  require(cudaDeviceSynchronize());
  const double norm = std::sqrt(squares_of(values, 0));
  const std::vector<float> found = to_host(data, values.size());
  for (std::size_t k = 0; k < found.size(); ++k) {
    if (std::fabs(found[k] - values[k] / norm) < 1e-5) continue;
    std::printf("wrong: element %zu is %g for %g\n", k, static_cast<double>(found[k]), values[k] / norm);
    return false;
  }
  return true;
}

int argument(int count, char** arguments, int index, int otherwise) {
  return count > index ? std::atoi(arguments[index]) : otherwise;
}

}  // namespace

int main(int count, char** arguments) {
  simt::Config config;
  config.order = static_cast<simt::Order>(argument(count, arguments, 1, static_cast<int>(simt::Order::kRandom)));
  config.seed = static_cast<std::uint64_t>(argument(count, arguments, 2, 1));
  config.resident_blocks = static_cast<unsigned>(argument(count, arguments, 3, 4));
  const int large = argument(count, arguments, 4, 0);
  simt::configure(config);

  bool right = true;
  if (large > 0) {
    right = norms_are_right({large}, 0);
  } else {
    for (const int offset : {0, 1, 3}) {
      right = right && norms_are_right({1, 3, 31, 257, 4096, 4097, 9001, 3 * kChunk}, offset);
    }
    right = right && normalising_is_right(12, 4) && normalising_is_right(12, 1);
  }
  if (right) std::puts("passed");
  return right ? 0 : 1;
}
