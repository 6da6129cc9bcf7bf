#pragma once

#include "cuda/runtime.h"
#include "math/tables.h"

namespace mtadam::cuda {

// The launches of a step: one each unless said otherwise, however many tensors, layers and terms, on a device of so
// many multiprocessors. They throw CudaError.

/// Steps 1 to 4.
void launch_norms(const Tables& tables, const Call& call, cudaStream_t stream);
/// The cosines between the gradients of the call's terms, which are all.
void launch_cosines(const Tables& tables, const Call& call, cudaStream_t stream);
/// Steps 5 and 6 for the call's one term.
void launch_moments(const Tables& tables, const Call& call, std::uint32_t multiprocessors, cudaStream_t stream);
/// Step 7 from the moments, or with a call steps 5 to 7; and the end of the step.
void launch_update(const Tables& tables, const Call* call, std::uint32_t multiprocessors, cudaStream_t stream);
/// The same where large tensors have a lean state, or parameters or gradients are narrow.
void launch_lean_moments(const Tables& tables, const Call& call, std::uint32_t multiprocessors, cudaStream_t stream);
void launch_lean_update(const Tables& tables, const Call* call, std::uint32_t multiprocessors, cudaStream_t stream);
/// Which of the two a launch is. G is float32, so that a lean state alone does not change how it is gathered.
inline bool has_lean_moments(const Tables& tables) {
  return tables.narrow || tables.narrow_parameters || (tables.state_type != StateType::kFloat32 && !tables.one_v);
}
inline bool has_lean_update(const Tables& tables, bool gradients) {
  return tables.state_type != StateType::kFloat32 || tables.narrow_parameters || (gradients && tables.narrow);
}
/// With lagged scales, all of a step, or of one term's part of it, in one read of each gradient; where the network is
/// one unit, between two small launches. `begun` is set once the first launch has succeeded.
void launch_lagged_step(const Tables& tables, const Call& call, cudaStream_t stream, bool& begun);
void launch_lagged_term(const Tables& tables, const Call& call, cudaStream_t stream, bool& begun);
/// The kernels of a step with has_lean_update(tables, true), and of a term with has_lean_moments().
using LaggedKernel = void (*)(Tables, Call);
LaggedKernel lean_lagged_step_kernel(const Tables& tables);
LaggedKernel lean_lagged_term_kernel(const Tables& tables);
/// The most terms that their kernels take, and whether there are such kernels.
constexpr std::uint32_t kMostLaggedTerms = 8;
inline bool has_lagged(const Tables& tables) {
  return tables.lagged && !tables.cosines && tables.term_count <= kMostLaggedTerms;
}
/// Sets the call's gradients to 0.
void launch_zero(const Tables& tables, const Call& call, cudaStream_t stream);
/// target[k] += source[k].
void launch_add(void* target, const void* source, std::uint64_t count, ElementType type, cudaStream_t stream);
/// Rounds to the nearest bfloat16; converts from a narrow type.
void launch_narrow(std::uint16_t* to, const float* from, std::uint64_t count, cudaStream_t stream);
void launch_widen(float* to, const std::uint16_t* from, std::uint64_t count, ElementType type, cudaStream_t stream);
/// Fills `count` elements of 1, 2, 4 or 8 bytes.
void launch_fill(void* to, std::uint64_t pattern, std::size_t element, std::uint64_t count, cudaStream_t stream);

/// Load the code of the kernels of steps 1 to 4, of the cosines, and of steps 5 to 7 for tables like these, on the
/// current device.
void load_norms(const Tables& tables);
void load_cosines(const Tables& tables);
void load_update(const Tables& tables);
void load_lean(const Tables& tables);
void load_lagged(const Tables& tables);

}  // namespace mtadam::cuda
