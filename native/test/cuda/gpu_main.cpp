// The CUDA device's tests on the first GPU of this machine:
//   mtadam_gpu_tests [--divide-rounds=<number>] [GoogleTest's options]
// Exits with 0 where all passed, 1 where some failed and 2, with the reason, where there is no device to test.

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "cuda/cuda.h"
#include "cuda/runtime.h"
#include "test/cuda/on_gpu.h"

namespace {

constexpr int kNoDevice = 2;

/// Ends the device's context: only then does compute-sanitizer report leaks.
class ContextEnd final : public testing::Environment {
 public:
  void TearDown() override { EXPECT_EQ(cudaDeviceReset(), cudaSuccess); }
};

/// Returns whether all arguments that GoogleTest left are known.
bool read_arguments(int count, char** arguments) {
  const std::string option = "--divide-rounds=";
  for (int k = 1; k < count; ++k) {
    const std::string argument = arguments[k];
    if (argument.rfind(option, 0) != 0) {
      std::fprintf(stderr, "mtadam_gpu_tests: unknown option %s\n", arguments[k]);
      return false;
    }
    mtadam::test::divide_rounds(std::atoi(argument.c_str() + option.size()));
  }
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  testing::InitGoogleTest(&count, arguments);
  if (!read_arguments(count, arguments)) return 1;
  const mtadam::cuda::Description machine = mtadam::cuda::describe();
  if (!machine.reason.empty()) {
    std::fprintf(stderr, "%s\n", machine.reason.c_str());
    return kNoDevice;
  }
  testing::AddGlobalTestEnvironment(new ContextEnd);  // GoogleTest owns it
  return RUN_ALL_TESTS();
}
