#include "kernels/one_pass.cuh"

#include "cuda/errors.h"
#include "cuda/grid.h"
#include "cuda/kernels.h"

namespace mtadam::cuda {
namespace {

struct OnePassKernel {
  void (*function)(Tables, Call);
  std::uint32_t blocks;  // that a multiprocessor holds
};

template <std::uint32_t kTerms, bool kSummed>
OnePassKernel kernel_of() {
  using Form = kernels::OnePassForm<kTerms, kSummed>;
  return {&kernels::one_pass_kernel<Form>, kernels::kOnePassBlocks<Form>};
}

OnePassKernel one_pass_kernel(const Tables& tables) {
  const bool few = tables.term_count <= kernels::kFewTerms;
  if (tables.summed) return few ? kernel_of<kernels::kFewTerms, true>() : kernel_of<kernels::kMoreTerms, true>();
  return few ? kernel_of<kernels::kFewTerms, false>() : kernel_of<kernels::kMoreTerms, false>();
}

}  // namespace

bool has_one_pass(const Tables& tables) {
  return tables.term_count <= kernels::kMoreTerms && !tables.amsgrad && !tables.cosines &&
         tables.non_finite != NonFinite::kSkipStep;
}

void launch_one_pass(const Tables& tables, const Call& call, std::uint32_t multiprocessors, cudaStream_t stream) {
  const OnePassKernel kernel = one_pass_kernel(tables);
  const std::uint64_t blocks = std::uint64_t{multiprocessors} * kernel.blocks;
  check(launch_kernel(kernel.function, grid_for(std::min(blocks, tables.one_pass.count)), kernels::kOnePassThreads,
                      stream, tables, call),
        "one_pass_kernel");
}

void load_one_pass(const Tables& tables) { check(load_kernel(one_pass_kernel(tables).function), "one_pass_kernel"); }

}  // namespace mtadam::cuda
