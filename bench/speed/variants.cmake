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
