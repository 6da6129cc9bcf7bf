#pragma once

#include <cstdint>

#include "cuda/kernels/lagged.cuh"
#include "cuda/kernels/lean.cuh"

// lagged.cuh where large tensors have a lean state, or parameters or gradients are narrow, with the blocks of codes of
// lean.cuh. A warp takes whole segments, so that it alone adds up the squares of each.

namespace mtadam::kernels {

/// As LaggedForm; all else are branches at run time.
template <std::uint32_t kTermCount, LeanSums kLeanSums, bool kWholeStep>
struct LeanLaggedForm {
  static constexpr std::uint32_t kTerms = kTermCount;
  static constexpr std::uint32_t kParts = kTermCount;
  static constexpr LeanSums kSums = kLeanSums;
  static constexpr bool kSummed = kLeanSums != LeanSums::kNone;
  static constexpr bool kOneV = kLeanSums == LeanSums::kBoth;
  static constexpr bool kOneX = false;  // update_block() looks at amsgrad
  static constexpr bool kWhole = kWholeStep;
  static constexpr std::uint32_t kBlocks = 5;

  using Work = lean::WorkOf<kTermCount>;
  static __device__ lean::Part part_of(const Tables& tables, const Call& call, std::uint32_t term, const Chunk& chunk,
                                       std::uint64_t open) {
    return lean::part_of(tables, call, term, chunk, open, true);
  }
  static __device__ update::TermRun& run_of(lean::Part& part) { return part.run; }
  static __device__ void describe(Work& work, const update::TensorRun& run, const Tables& tables, std::uint64_t open) {
    lean::describe(work, run, tables, open);
  }
};

namespace lagged {

constexpr std::uint32_t kBlocksPerSegment = kSegmentElements / kCodeBlock;
constexpr std::uint32_t kRowsPerBlock = kCodeBlock / kChunkLanes;

/// Adds the squares of a block to the sums of its segment, by a warp. A thread has four neighbours of one row and adds
/// up one lane, so that each row is turned in shared memory.
struct SeeSquares {
  double* sums;  // of the first term
  float4* turn;  // a warp's own, a block of elements
  bool adds;

  __device__ __forceinline__ void operator()(std::uint32_t i, const lean::Place& at, const lean::Values& g) const {
    if (!adds) return;
    const std::uint32_t lane = threadIdx.x % kWarpThreads;
    __syncwarp();  // all lanes have read the block before
    turn[lane] = make_float4(g.e[0], g.e[1], g.e[2], g.e[3]);
    __syncwarp();
    const float* const rows = &turn->x;
    double& sum = sums[i * kSums + place_of(at.first / kSegmentElements, lane)];
    double squares = sum;
#pragma unroll
    for (std::uint32_t row = 0; row < kRowsPerBlock; ++row) {
      norms::add_square(squares, rows[row * kChunkLanes + lane]);
    }
    sum = squares;
  }
};

/// As pass_over().
template <class Form>
__device__ __forceinline__ void pass_over_codes(const typename Form::Work& work, double* sums, Pass pass,
                                                const Tables& tables, std::uint32_t terms) {
  MTADAM_SHARED(float4, turns, kNormThreads);
  const lean::Options<SeeSquares> options{
      terms,
      tables.amsgrad,
      skips_elements(tables.non_finite),
      shared_stream(),
      {sums, turns + threadIdx.x / kWarpThreads * kWarpThreads, pass != Pass::kMoments}};
  const auto part_at = [&](std::uint32_t i) -> const lean::Part& { return work.parts[i]; };
  lean::for_blocks<kNormThreads, kBlocksPerSegment>(work, [&](const lean::Place& at) {
    if (!work.run.present) {
#pragma unroll 1
      for (std::uint32_t i = 0; i < terms; ++i) {
        if (part_at(i).run.g != nullptr) lean::load_gradient(work, part_at(i), i, at, options);
      }
    } else if constexpr (!Form::kWhole && Form::kOneV) {
      lean::gather_block(work, part_at(0), at, options);
    } else if constexpr (!Form::kWhole) {
      lean::moments_block<Form::kSummed>(work, part_at(0), at, options);
    } else if constexpr (Form::kOneV) {
      lean::adam_block<true>(work, at, options, part_at);
    } else {
      lean::update_block<Form::kSummed, true>(work, at, options, part_at);
    }
  });
}

}  // namespace lagged

/// As lagged_kernel.
template <class Form>
__global__ void __launch_bounds__(kNormThreads, Form::kBlocks) lean_lagged_kernel(Tables tables, Call call) {
  take_lagged<Form>(tables, call, [&](const typename Form::Work& work, double* sums, lagged::Pass pass) {
    lagged::pass_over_codes<Form>(work, sums, pass, tables, call.count);
  });
}

}  // namespace mtadam::kernels
