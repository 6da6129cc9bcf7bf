# What scripts/gpu-check measures side by side with the kernels as they are: each with one choice made differently. A text
# that the sources no longer hold is an error when CMake configures.

gpu_steps_variant(
  norm_blocks_5
  KERNELS norms
  REPLACE cuda/kernels/norms.cuh "kNormBlocks = 7" "kNormBlocks = 5")

gpu_steps_variant(
  norm_blocks_8
  KERNELS norms
  REPLACE cuda/kernels/norms.cuh "kNormBlocks = 7" "kNormBlocks = 8")

gpu_steps_variant(
  layer_sum_1
  KERNELS norms
  REPLACE cuda/kernels/norms.cuh "layer_sum<2>" "layer_sum<1>")

gpu_steps_variant(
  update_threads_256
  KERNELS update
  REPLACE cuda/kernels/update.cuh "kUpdateThreads = 224" "kUpdateThreads = 256"
          cuda/kernels/update.cuh "kWithGradients ? 64 : 56" "kWithGradients ? 52 : 44")

gpu_steps_variant(
  update_grid_4_times_as_large
  KERNELS update
  REPLACE cuda/update.cu "multiprocessors} * kernel." "multiprocessors} * 4 * kernel.")

# Small steps should gain about 2 µs.
gpu_steps_variant(
  dependent_launch
  KERNELS norms update
  REPLACE cuda/norms.cu "#include \"cuda/grid.h\"" "#include \"cuda/grid.h\"\n#include \"dependent_launch.h\""
          cuda/norms.cu "check(launch_kernel(" "check(launch_dependent("
          cuda/update.cu "#include \"cuda/grid.h\"" "#include \"cuda/grid.h\"\n#include \"dependent_launch.h\""
          cuda/update.cu "check(launch_kernel(" "check(launch_dependent("
          cuda/kernels/norms.cuh "#include \"cuda/kernels/sums.cuh\"" "#include \"cuda/kernels/sums.cuh\"\n#include \"dependent_launch.h\""
          cuda/kernels/norms.cuh "norms_kernel(Tables tables, Call call) {" "norms_kernel(Tables tables, Call call) { MTADAM_WAIT"
          cuda/kernels/update.cuh "#include \"math/moments.h\"" "#include \"dependent_launch.h\"\n#include \"math/moments.h\""
          cuda/kernels/update.cuh " update_kernel(Tables tables, Call call) {" " update_kernel(Tables tables, Call call) { MTADAM_WAIT"
          cuda/kernels/update.cuh " moments_kernel(Tables tables, Call call) {" " moments_kernel(Tables tables, Call call) { MTADAM_WAIT")
