# What scripts/gpu-check measures side by side with the kernels as they are: each with one choice made differently. A text
# that the sources no longer hold is an error when CMake configures.

gpu_steps_variant(
  no_evict_first
  KERNELS norms update
  REPLACE cuda/kernels/vector_io.cuh "kEvictFirst = true" "kEvictFirst = false")

gpu_steps_variant(
  norm_blocks_4
  KERNELS norms
  REPLACE cuda/kernels/norms.cuh "kNormBlocks = 5" "kNormBlocks = 4")

gpu_steps_variant(
  norm_blocks_8
  KERNELS norms
  REPLACE cuda/kernels/norms.cuh "kNormBlocks = 5" "kNormBlocks = 8")

gpu_steps_variant(
  update_threads_256
  KERNELS update
  REPLACE cuda/kernels/update.cuh "kUpdateThreads = 224" "kUpdateThreads = 256"
          cuda/kernels/update.cuh "kWithGradients ? 64 : 56" "kWithGradients ? 52 : 44")

gpu_steps_variant(
  grids_4_times_as_large
  KERNELS norms update
  REPLACE cuda/norms.cu "multiprocessors} * kernels" "multiprocessors} * 4 * kernels"
          cuda/update.cu "multiprocessors} * kernel." "multiprocessors} * 4 * kernel.")
