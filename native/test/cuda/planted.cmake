# Bugs in copies of the kernels and of the host's side, each with the checks that are meant to find it and what those
# say. A check that has never failed is no check.

foreach(flavour IN LISTS SIMT_FLAVOURS)
  add_library(mtadam_planted_driver_${flavour} OBJECT planted_driver.cpp)
  target_link_libraries(mtadam_planted_driver_${flavour} PUBLIC mtadam_cuda_${flavour} GTest::gtest)
  # The driver without a bug passes in every flavour.
  simt_add_program(planted_cuda_nothing_${flavour} ${flavour} SOURCES launches.cpp)
  set_target_properties(planted_cuda_nothing_${flavour} PROPERTIES SIMT_UNOPTIMISED ON)
  target_link_libraries(planted_cuda_nothing_${flavour} PRIVATE mtadam_planted_driver_${flavour})
  foreach(scenario kernels network one_launch network_in_one_read one_launch_of_codes lean narrow narrow_parameters skipped_steps small_grid far_elements many_writes two_streams default_then_own
                   replay_on_another capture_after_step zero_on_another restored_then_step failed_then_restored large_write dropped
                   freed_late event_dropped lent captured captured_without_pools fresh_memory)
    add_test(NAME planted.cuda_nothing.${scenario}.${flavour} COMMAND planted_cuda_nothing_${flavour} ${scenario})
  endforeach()
endforeach()

# planted_bug(<name> FILE <path below native/> PATTERN <text> REPLACEMENT <text> FOUND_BY <flavour> <regular expression>...
#             [SCENARIO <of planted_driver.cpp>])
function(planted_bug name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "FILE;PATTERN;REPLACEMENT;SCENARIO" "FOUND_BY")
  set(sources launches.cpp)
  if(arg_FILE MATCHES "\\.cpp$")
    list(APPEND sources ${CMAKE_CURRENT_BINARY_DIR}/planted/cuda_${name}/${arg_FILE})
  elseif(arg_FILE STREQUAL "cuda/kernels/elementwise.cuh")
    list(APPEND sources ${CMAKE_SOURCE_DIR}/native/cuda/elementwise.cu)
  elseif(arg_FILE STREQUAL "cuda/kernels/lean_lagged.cuh")
    list(APPEND sources ${CMAKE_SOURCE_DIR}/native/cuda/lean_lagged.cu)
  elseif(arg_FILE MATCHES "cuda/kernels/lean.cuh|cuda/kernels/narrow_io.cuh|math/(element_types|parameter_codes|state_codes).h")
    list(APPEND sources ${CMAKE_SOURCE_DIR}/native/cuda/lean.cu)
  endif()
  while(arg_FOUND_BY)
    list(POP_FRONT arg_FOUND_BY flavour expect)
    simt_add_planted_test(
      cuda_${name} ${flavour}
      DRIVER ${sources}
      HEADER ${arg_FILE}
      PATTERN "${arg_PATTERN}"
      REPLACEMENT "${arg_REPLACEMENT}"
      EXPECT "${expect}"
      ARGUMENTS ${arg_SCENARIO})
    target_link_libraries(planted_cuda_${name}_${flavour} PRIVATE mtadam_planted_driver_${flavour})
  endwhile()
endfunction()

# ---- Norms ----

planted_bug(
  sum_read_before_the_barrier
  FILE cuda/kernels/norms.cuh
  PATTERN [=[  __syncthreads();
  double total = 0;]=]
  REPLACEMENT [=[  double total = 0;]=]
  FOUND_BY tsan "data race.*chunk_sum" access "no thread has written to this shared memory")

planted_bug(
  lanes_used_again_without_barrier
  FILE cuda/kernels/norms.cuh
  PATTERN [=[    // The next round writes to the shared arrays that some threads may still be reading.
    __syncthreads();]=]
  REPLACEMENT ""
  SCENARIO small_grid
  FOUND_BY tsan "data race.*is_last")

planted_bug(
  chunk_read_one_too_far
  FILE cuda/kernels/norms.cuh
  PATTERN [=[return k < count ? chunk[k]]=]
  REPLACEMENT [=[return k <= count ? chunk[k]]=]
  FOUND_BY asan "AddressSanitizer: use-after-poison.*element" access "outside the allocation that it is next to")

planted_bug(
  vectors_from_where_the_segment_begins
  FILE cuda/kernels/norms.cuh
  PATTERN [=[const Elements first = segment + head + part * kVector;]=]
  REPLACEMENT [=[const Elements first = segment + part * kVector;]=]
  FOUND_BY plain "misaligned.*vector_io.cuh" access "misaligned.*vector_io.cuh")

planted_bug(
  shuffle_of_half_the_warp
  FILE cuda/kernels/norms.cuh
  PATTERN [=[if (threadIdx.x < kChunkLanes) {]=]
  REPLACEMENT [=[if (threadIdx.x < kChunkLanes / 2) {]=]
  FOUND_BY plain "a lane in the mask of a warp operation waits at a barrier.*sums.cuh")

planted_bug(
  barrier_of_half_the_block
  FILE cuda/kernels/norms.cuh
  PATTERN [=[  const bool good = __syncthreads_or(bad) == 0;  // all scales before the first clock]=]
  REPLACEMENT [=[  const bool good = !bad;
  if (threadIdx.x < kNormThreads / 2) __syncthreads();]=]
  FOUND_BY plain "threads of one block wait at different barriers.*norms.cuh.*norms.cuh")

planted_bug(
  sums_counted_before_the_fence
  FILE cuda/kernels/sums.cuh
  PATTERN [=[    fence_acq_rel();
    const bool is =]=]
  REPLACEMENT [=[    const bool is =]=]
  FOUND_BY tsan "data race.*norms")

planted_bug(
  sums_read_without_a_fence
  FILE cuda/kernels/sums.cuh
  PATTERN [=[    if (is) {
      fence_acq_rel();]=]
  REPLACEMENT [=[    if (is) {]=]
  FOUND_BY tsan "data race.*norms")

planted_bug(
  ticket_without_atomic
  FILE cuda/kernels/sums.cuh
  PATTERN [=[atomicAdd(ticket, 1ull) == expected - 1;]=]
  REPLACEMENT [=[(*ticket)++ == expected - 1;]=]
  FOUND_BY tsan "data race.*is_last")

planted_bug(
  shared_array_too_short
  FILE cuda/kernels/norms.cuh
  PATTERN [=[MTADAM_SHARED(double, lanes, kChunkElements / kSegmentElements * kChunkLanes);]=]
  REPLACEMENT [=[MTADAM_SHARED(double, lanes, kChunkElements / kSegmentElements * kChunkLanes - 1);]=]
  FOUND_BY plain "shared array of 4088 bytes.*was written outside its bounds"
           asan "index 511 out of bounds for type .double"
           access "outside the arrays of shared memory")

planted_bug(
  anchor_read_before_the_barrier
  FILE cuda/kernels/norms.cuh
  PATTERN [=[anchor_of_layer(tables, call, layer_index, withdrawn);
    }
  }
  __syncthreads();]=]
  REPLACEMENT [=[anchor_of_layer(tables, call, layer_index, withdrawn);
    }
  }]=]
  FOUND_BY tsan "data race.*begin_layer")

planted_bug(
  anchor_found_before_all_norms
  FILE cuda/kernels/norms.cuh
  PATTERN [=[  __syncthreads();  // all norms before the anchor: it may be any term]=]
  REPLACEMENT ""
  FOUND_BY tsan "data race.*begin_layer")

planted_bug(
  network_finished_before_all_have_withdrawn
  FILE cuda/kernels/norms.cuh
  PATTERN [=[        withdraw_from(tables, call, k, left);
      }
      __syncthreads();]=]
  REPLACEMENT [=[        withdraw_from(tables, call, k, left);
      }]=]
  SCENARIO network
  FOUND_BY tsan "data race.*finish_term")

planted_bug(
  network_anchor_before_all_norms
  FILE cuda/kernels/norms.cuh
  PATTERN [=[      finish_term<kLagged>(tables, call, term, lane);
    }
    __syncthreads();]=]
  REPLACEMENT [=[      finish_term<kLagged>(tables, call, term, lane);
    }]=]
  SCENARIO network
  FOUND_BY tsan "data race.*finish_network")

planted_bug(
  network_anchor_not_searched_again
  FILE cuda/kernels/norms.cuh
  PATTERN [=[    if (__syncthreads_or(leaves) != 0) continue;]=]
  REPLACEMENT [=[    __syncthreads();]=]
  SCENARIO network
  FOUND_BY plain "wrong: ")

planted_bug(
  step_taken_though_a_gradient_is_too_large
  FILE cuda/kernels/norms.cuh
  PATTERN [=[  bad |= withdrawn && tables.non_finite == NonFinite::kSkipStep;]=]
  REPLACEMENT ""
  SCENARIO skipped_steps
  FOUND_BY plain "wrong: ")

planted_bug(
  step_taken_though_a_term_left_the_network
  FILE cuda/kernels/norms.cuh
  PATTERN [=[    if (finish_network<kLagged>(tables, call, good) || !skips_step) return;]=]
  REPLACEMENT [=[    finish_network<kLagged>(tables, call, good);
    return;]=]
  SCENARIO skipped_steps
  FOUND_BY plain "wrong: ")

planted_bug(
  network_norm_of_a_silent_term_decays
  FILE cuda/kernels/norms.cuh
  PATTERN [=[    sum_of_q = rested.total();]=]
  REPLACEMENT ""
  SCENARIO network
  FOUND_BY plain "wrong: ")

planted_bug(
  lagged_scales_from_the_squares_of_the_step
  FILE cuda/kernels/norms.cuh
  PATTERN [=[const FormerSquare former = former_square(tables, term, tensor, moved);]=]
  REPLACEMENT [=[const FormerSquare former = former_square(tables, term, tensor, false && moved);]=]
  SCENARIO lagged
  FOUND_BY plain "wrong: ")

planted_bug(
  elements_that_are_not_finite_do_not_rest
  FILE cuda/kernels/update.cuh
  PATTERN [=[const bool rests = Form::kSkips && element_rests(in.g.e[j], part.k.f);]=]
  REPLACEMENT [=[const bool rests = false;]=]
  SCENARIO lagged
  FOUND_BY plain "wrong: ")

planted_bug(
  resting_element_gathered
  FILE math/moments.h
  PATTERN [=[  if constexpr (kSkips) return unless_resting(element_rests(g, f), 0.0f, f * g);]=]
  REPLACEMENT ""
  SCENARIO lagged
  FOUND_BY plain "wrong: ")

# ---- One launch with lagged scales ----

planted_bug(
  sums_counted_before_all_are_stored
  FILE cuda/kernels/lagged.cuh
  PATTERN [=[        lagged::store_sums(tables, call, chunk, sums);
        __syncthreads();]=]
  REPLACEMENT [=[        lagged::store_sums(tables, call, chunk, sums);]=]
  SCENARIO one_launch
  FOUND_BY tsan "data race.*")

planted_bug(
  layer_ended_without_waiting_for_others
  FILE cuda/kernels/lagged.cuh
  PATTERN [=[if (tables.network || !is_last(tables.shared.tickets + layer_index, layer.slots)) break;]=]
  REPLACEMENT [=[if (chunk.index != 0) break;]=]
  SCENARIO one_launch
  FOUND_BY plain "wrong: " tsan "data race.*")

planted_bug(
  layer_scaled_without_its_norms
  FILE cuda/kernels/lagged.cuh
  PATTERN [=[const bool waits = !tables.network && lagged]=]
  REPLACEMENT [=[const bool waits = false && lagged]=]
  SCENARIO one_launch
  FOUND_BY plain "wrong: ")

planted_bug(
  first_elements_of_a_misaligned_segment_left_out
  FILE cuda/kernels/lagged.cuh
  PATTERN [=[if (wraps) e -= kStride;]=]
  REPLACEMENT [=[if (wraps && e < 0) e -= kStride;]=]
  SCENARIO one_launch
  FOUND_BY plain "wrong: ")

planted_bug(
  moments_of_a_late_term_from_the_clock_before
  FILE cuda/kernels/lagged.cuh
  PATTERN [=[        pass = Pass::kMoments;]=]
  REPLACEMENT [=[        pass = Pass::kBoth;]=]
  SCENARIO one_launch
  FOUND_BY plain "wrong: ")

planted_bug(
  every_term_opens_the_sum
  FILE cuda/kernels/lagged.cuh
  PATTERN [=[run.opens = ahead ? !takes_part(tables.shared.clocks[chunk.tensor], open)]=]
  REPLACEMENT [=[run.opens = ahead ? true]=]
  SCENARIO one_launch
  FOUND_BY plain "wrong: ")

planted_bug(
  network_scaled_without_its_norms
  FILE cuda/kernels/lagged_network.cuh
  PATTERN [=[layer.slots > 0 && !lagged::scales_wait(]=]
  REPLACEMENT [=[layer.slots > 0 && call.count > 0 + 0 * lagged::scales_wait(]=]
  SCENARIO network_in_one_read
  FOUND_BY plain "wrong: ")

planted_bug(
  network_rests_since_the_step_before
  FILE cuda/kernels/lagged_network.cuh
  PATTERN [=[    state.norms[layer_index].r = NAN;]=]
  REPLACEMENT ""
  SCENARIO network_in_one_read
  FOUND_BY plain "wrong: ")

planted_bug(
  norms_of_a_layer_taken_twice
  FILE cuda/kernels/lagged_network.cuh
  PATTERN [=[    if (tables.shared.ahead[layer] != 0) {]=]
  REPLACEMENT [=[    {]=]
  SCENARIO network_in_one_read
  FOUND_BY plain "wrong: ")

planted_bug(
  layers_counted_before_they_are_written
  FILE cuda/kernels/norms.cuh
  PATTERN [=[  __syncthreads();  // what all threads have written to the layer
]=]
  REPLACEMENT ""
  SCENARIO network_in_one_read
  FOUND_BY tsan "data race.*")

planted_bug(
  squares_of_half_a_segment
  FILE cuda/kernels/lean_lagged.cuh
  PATTERN [=[    double squares = sum;]=]
  REPLACEMENT [=[    double squares = 0;]=]
  SCENARIO one_launch_of_codes
  FOUND_BY plain "wrong: ")

planted_bug(
  late_codes_without_their_squares
  FILE cuda/kernels/lean_lagged.cuh
  PATTERN [=[if (part_at(i).run.g != nullptr) lean::load_gradient(work, part_at(i), i, at, options);]=]
  REPLACEMENT ""
  SCENARIO one_launch_of_codes
  FOUND_BY plain "wrong: ")

planted_bug(
  turned_before_all_have_read
  FILE cuda/kernels/lean_lagged.cuh
  PATTERN [=[    __syncwarp();  // all lanes have read the block before]=]
  REPLACEMENT ""
  SCENARIO one_launch_of_codes
  FOUND_BY tsan "data race.*")

# ---- Lean state ----

planted_bug(
  second_moment_rounded_to_nearest
  FILE math/state_codes.h
  PATTERN [=[{ return word >> 12; }]=]
  REPLACEMENT [=[{ return word == 0 ? 0 : 0x80000u; }]=]
  SCENARIO lean
  FOUND_BY plain "wrong: ")

planted_bug(
  second_moment_rounded_to_zero
  FILE math/state_codes.h
  PATTERN [=[code < 1 ? 1 : code]=]
  REPLACEMENT [=[code < 0 ? 0 : code]=]
  SCENARIO lean
  FOUND_BY plain "wrong: ")

planted_bug(
  first_moment_drawn_from_another_stream
  FILE cuda/kernels/lean.cuh
  PATTERN [=[store(part.m, work.type, false, at, m, part.stream);]=]
  REPLACEMENT [=[store(part.m, work.type, false, at, m, part.stream + 1);]=]
  SCENARIO lean
  FOUND_BY plain "wrong: ")

planted_bug(
  exponent_of_another_block
  FILE cuda/kernels/lean.cuh
  PATTERN [=[moment.codes.exponents[at.first / kCodeBlock];]=]
  REPLACEMENT [=[moment.codes.exponents[0];]=]
  SCENARIO lean
  FOUND_BY plain "wrong: ")

planted_bug(
  network_not_shown_in_empty_layers
  FILE cuda/kernels/update.cuh
  PATTERN [=[  if (Form::kGradients) update::show_in_empty_layers(tables, 0, tables.term_count);]=]
  REPLACEMENT ""
  SCENARIO network
  FOUND_BY plain "wrong: ")

planted_bug(
  elements_behind_the_vectors_left_out
  FILE cuda/kernels/norms.cuh
  PATTERN [=[if (wraps && q < split) add_square(sum[q], segment[kSegmentElements - split + q]);]=]
  REPLACEMENT ""
  FOUND_BY plain "wrong: ")

# ---- Narrow gradients ----

planted_bug(
  float16_read_as_bfloat16
  FILE math/element_types.h
  PATTERN [=[return type == ElementType::kFloat16 ? decoded_float16(code) : decoded_bfloat16(code);]=]
  REPLACEMENT [=[return decoded_bfloat16(type == ElementType::kFloat32 ? 0 : code);]=]
  SCENARIO narrow
  FOUND_BY plain "wrong: ")

planted_bug(
  subnormal_float16_flushed
  FILE math/element_types.h
  PATTERN [=[(subnormal & small)]=]
  REPLACEMENT [=[(subnormal & small & 0u)]=]
  SCENARIO narrow
  FOUND_BY plain "wrong: ")

planted_bug(
  narrow_elements_in_steps_of_four_bytes
  FILE math/scalars.h
  PATTERN [=[first * element_bytes(tensor.gradient));]=]
  REPLACEMENT [=[first * (4 + 0 * element_bytes(tensor.gradient)));]=]
  SCENARIO narrow
  FOUND_BY access "the memory is neither the device's nor pinned|outside the allocation")

planted_bug(
  narrow_vectors_wherever_they_begin
  FILE cuda/kernels/narrow_io.cuh
  PATTERN [=[sizeof(std::uint16_t)) %]=]
  REPLACEMENT [=[sizeof(std::uint16_t)) * 0 %]=]
  SCENARIO narrow
  FOUND_BY access "misaligned pointer")

planted_bug(
  pairs_of_elements_exchanged
  FILE cuda/kernels/narrow_io.cuh
  PATTERN [=[k % 2 == 0 ? pair & 0xffffu : pair >> 16]=]
  REPLACEMENT [=[k % 2 != 0 ? pair & 0xffffu : pair >> 16]=]
  SCENARIO narrow
  FOUND_BY plain "wrong: ")

# ---- Narrow parameters ----

planted_bug(
  parameters_drawn_alike_in_all_blocks
  FILE cuda/kernels/lean.cuh
  PATTERN [=[element_word(work.key, at.first + j), stream)]=]
  REPLACEMENT [=[element_word(work.key, at.first % kCodeBlock + j), stream)]=]
  SCENARIO narrow_parameters
  FOUND_BY plain "wrong: ")

planted_bug(
  lower_halves_not_kept
  FILE cuda/kernels/lean.cuh
  PATTERN [=[    store_narrow(reinterpret_cast<std::uint16_t*>(work.master), at, low);]=]
  REPLACEMENT [=[    static_cast<void>(low);]=]
  SCENARIO narrow_parameters
  FOUND_BY plain "wrong: ")

planted_bug(
  masters_of_all_parameters_in_one_place
  FILE cuda/kernels/lean.cuh
  PATTERN [=[work.master += tensor.master + begin]=]
  REPLACEMENT [=[work.master += 0 * tensor.master + begin]=]
  SCENARIO narrow_parameters
  FOUND_BY plain "wrong: ")

planted_bug(
  halves_joined_without_the_carry
  FILE math/parameter_codes.h
  PATTERN [=[((code - (low >> 15)) << 16)]=]
  REPLACEMENT [=[(code << 16)]=]
  SCENARIO narrow_parameters
  FOUND_BY plain "wrong: ")

# ---- Cosines ----

planted_bug(
  segments_read_before_the_barrier
  FILE cuda/kernels/cosines.cuh
  PATTERN [=[    __syncthreads();
    const Lane now = own;]=]
  REPLACEMENT [=[    const Lane now = own;]=]
  FOUND_BY tsan "data race.*multiply_chunk" access "no thread has written to this shared memory")

planted_bug(
  segments_replaced_while_in_use
  FILE cuda/kernels/cosines.cuh
  PATTERN [=[    __syncthreads();  // the segment before has been read]=]
  REPLACEMENT ""
  FOUND_BY tsan "data race.*multiply_chunk")

planted_bug(
  products_counted_before_all_are_written
  FILE cuda/kernels/cosines.cuh
  PATTERN [=[    __syncthreads();  // all warps' products are written]=]
  REPLACEMENT ""
  FOUND_BY tsan "data race.*cosines")

planted_bug(
  gradient_read_one_too_far
  FILE cuda/kernels/cosines.cuh
  PATTERN [=[at < count ? chunk[at] : 0.0f]=]
  REPLACEMENT [=[at <= count ? chunk[at] : 0.0f]=]
  FOUND_BY asan "AddressSanitizer: use-after-poison.*load_lane" access "outside the allocation that it is next to")

planted_bug(
  pair_left_out
  FILE cuda/kernels/cosines.cuh
  PATTERN [=[(turn < kTileTerms / 2 ||]=]
  REPLACEMENT [=[(turn < 2 ||]=]
  FOUND_BY plain "wrong: ")

planted_bug(
  quarter_of_a_layer_left_out
  FILE cuda/kernels/sums.cuh
  PATTERN [=[(lanes[0] + lanes[2]) + (lanes[1] + lanes[3])]=]
  REPLACEMENT [=[(lanes[2] + lanes[2]) + (lanes[1] + lanes[3])]=]
  FOUND_BY plain "wrong: ")

# ---- Update ----

planted_bug(
  parts_replaced_while_in_use
  FILE cuda/kernels/update.cuh
  PATTERN [=[    __syncthreads();  // one side has filled the next work, the other is done with this]=]
  REPLACEMENT ""
  SCENARIO small_grid
  FOUND_BY access "no thread has written to this shared memory")

planted_bug(
  parts_used_before_the_barrier
  FILE cuda/kernels/update.cuh
  PATTERN [=[  __syncthreads();
  std::uint32_t turn = 0;]=]
  REPLACEMENT [=[  std::uint32_t turn = 0;]=]
  FOUND_BY access "no thread has written to this shared memory")

planted_bug(
  tail_one_too_long
  FILE cuda/kernels/update.cuh
  PATTERN [=[if (tail + k < run.count) one(tail + k);]=]
  REPLACEMENT [=[if (tail + k <= run.count) one(tail + k);]=]
  FOUND_BY plain "wrote outside an allocation" asan "AddressSanitizer: use-after-poison" access
           "outside the allocation that it is next to")

planted_bug(
  vectors_from_where_the_chunk_begins
  FILE cuda/kernels/update.cuh
  PATTERN [=[const std::uint32_t head = run.head < run.count ? run.head : run.count;]=]
  REPLACEMENT [=[const std::uint32_t head = 0;]=]
  FOUND_BY access "misaligned.*vector_io.cuh")

planted_bug(
  gradients_taken_to_be_aligned
  FILE cuda/kernels/update.cuh
  PATTERN [=[run.aligned = __any_sync(kWholeWarp, misaligned) == 0;]=]
  REPLACEMENT [=[run.aligned = true;]=]
  FOUND_BY access "misaligned.*vector_io.cuh")

planted_bug(
  one_root_where_clocks_differ
  FILE cuda/kernels/update.cuh
  PATTERN [=[    several |= part.counts && part.k.b != run.b;]=]
  REPLACEMENT ""
  FOUND_BY plain "wrong: ")

planted_bug(
  sum_of_the_terms_before_left_out
  FILE cuda/kernels/update.cuh
  PATTERN [=[  if (!run.opens) sum = load<kN>(run.gathered + e);]=]
  REPLACEMENT ""
  FOUND_BY plain "wrong: ")

planted_bug(
  last_term_alone_in_the_sum
  FILE cuda/kernels/update.cuh
  PATTERN [=[      started = true;
    }
  };]=]
  REPLACEMENT [=[    }
  };]=]
  FOUND_BY plain "wrong: ")

planted_bug(
  step_ended_without_a_fence
  FILE cuda/kernels/update.cuh
  PATTERN [=[gridDim.x - 1) {
    fence_acq_rel();]=]
  REPLACEMENT [=[gridDim.x - 1) {]=]
  FOUND_BY tsan "data race.*update_kernel")

planted_bug(
  step_ended_by_every_block
  FILE cuda/kernels/update.cuh
  PATTERN [=[if (atomicAdd(tables.shared.tickets + tables.layer_count, 1ull) == gridDim.x - 1) {]=]
  REPLACEMENT [=[if (atomicAdd(tables.shared.tickets + tables.layer_count, 1ull) < gridDim.x) {]=]
  FOUND_BY tsan "data race.*update_kernel")

# ---- Element offsets beyond 32 bits ----

planted_bug(
  offset_in_32_bits_in_norms
  FILE cuda/kernels/norms.cuh
  PATTERN [=[const std::uint64_t first = first_of_chunk(chunk.index);]=]
  REPLACEMENT [=[const auto first = static_cast<std::uint32_t>(first_of_chunk(chunk.index));]=]
  SCENARIO far_elements
  FOUND_BY access "norms_kernel.*the memory is neither the device's nor pinned")

planted_bug(
  offset_in_32_bits_in_cosines
  FILE cuda/kernels/cosines.cuh
  PATTERN [=[const std::uint64_t first = first_of_chunk(chunk.index);]=]
  REPLACEMENT [=[const auto first = static_cast<std::uint32_t>(first_of_chunk(chunk.index));]=]
  SCENARIO far_elements
  FOUND_BY access "cosines_kernel.*the memory is neither the device's nor pinned")

planted_bug(
  offset_in_32_bits_in_parameters
  FILE cuda/kernels/update.cuh
  PATTERN [=[const std::uint64_t first = first_of_chunk(chunk.index);
  TensorRun run{};]=]
  REPLACEMENT [=[const auto first = static_cast<std::uint32_t>(first_of_chunk(chunk.index));
  TensorRun run{};]=]
  SCENARIO far_elements
  FOUND_BY access "update_kernel.*the memory is neither the device's nor pinned")

planted_bug(
  offset_in_32_bits_in_moments
  FILE cuda/kernels/update.cuh
  PATTERN [=[const std::uint64_t first = first_of_chunk(chunk.index);
  const std::uint64_t at]=]
  REPLACEMENT [=[const auto first = static_cast<std::uint32_t>(first_of_chunk(chunk.index));
  const std::uint64_t at]=]
  SCENARIO far_elements
  FOUND_BY access "update_kernel.*the memory is neither the device's nor pinned")

planted_bug(
  offset_in_32_bits_in_zeros
  FILE cuda/kernels/elementwise.cuh
  PATTERN [=[g[first_of_chunk(chunk.index) + k] = 0;]=]
  REPLACEMENT [=[g[static_cast<std::uint32_t>(first_of_chunk(chunk.index)) + k] = 0;]=]
  SCENARIO far_elements
  FOUND_BY access "zero_kernel.*the memory is neither the device's nor pinned")

# ---- The host's side ----

planted_bug(
  slot_reused_without_waiting
  FILE cuda/memory.cpp
  PATTERN [=[  slot.done->wait();
  return slot;]=]
  REPLACEMENT [=[  return slot;]=]
  SCENARIO many_writes
  FOUND_BY plain "pinned memory was overwritten while a copy from it to the device was queued")

planted_bug(
  freed_in_the_capture_mode_of_the_user
  FILE cuda/memory.cpp
  PATTERN [=[    release_in(context_, [&] { cudaFree(data()); });]=]
  REPLACEMENT [=[    cudaFree(data());]=]
  SCENARIO captured_without_pools
  FOUND_BY plain "error: .*cudaStreamEndCapture")

planted_bug(
  freed_before_the_work
  FILE cuda/stream.cpp
  PATTERN [=[    make_wait(freeing_.get());]=]
  REPLACEMENT ""
  SCENARIO freed_late
  FOUND_BY plain "error: .*freed while")

planted_bug(
  freed_before_work_whose_event_is_gone
  FILE cuda/stream.cpp
  PATTERN [=[  cudaStreamWaitEvent(freeing_.get(), event, 0);]=]
  REPLACEMENT ""
  SCENARIO event_dropped
  FOUND_BY plain "error: .*freed while")

planted_bug(
  freed_though_lent
  FILE cuda/memory.cpp
  PATTERN [=[      if (lent()) wait_for_device();]=]
  REPLACEMENT [=[      if (false) wait_for_device();]=]
  SCENARIO lent
  FOUND_BY plain "error: .*freed while")

planted_bug(
  zeroed_after_the_first_write
  FILE cuda/memory.cpp
  PATTERN [=[  check(cudaStreamSynchronize(zeroing_.get()), "cudaStreamSynchronize");]=]
  REPLACEMENT ""
  SCENARIO fresh_memory
  FOUND_BY plain "wrong: ")

planted_bug(
  streams_not_joined
  FILE engine/optimizer.cpp
  PATTERN [=[  if (stream != stream_ || stream != device_->default_stream()) left_->make_wait(stream);]=]
  REPLACEMENT ""
  SCENARIO two_streams
  FOUND_BY plain "wrong: ")

planted_bug(
  end_of_a_call_not_marked
  FILE engine/optimizer.cpp
  PATTERN [=[    throw;
  }
  left_->record(stream);]=]
  REPLACEMENT [=[    throw;
  }]=]
  SCENARIO two_streams
  FOUND_BY plain "wrong: ")

planted_bug(
  default_stream_left_without_an_event
  FILE engine/optimizer.cpp
  PATTERN [=[    throw;
  }
  left_->record(stream);]=]
  REPLACEMENT [=[    throw;
  }
  if (stream != nullptr) left_->record(stream);]=]
  SCENARIO default_then_own
  FOUND_BY plain "wrong: ")

planted_bug(
  failed_call_left_without_an_event
  FILE engine/optimizer.cpp
  PATTERN [=[    try {
      left_->record(stream);
    } catch (const Error&) {
    }]=]
  REPLACEMENT ""
  SCENARIO failed_then_restored
  FOUND_BY plain "wrong: ")

planted_bug(
  default_stream_used_while_it_is_forbidden
  FILE cuda/cuda_device.cpp
  PATTERN [=[return default_is_captured() ? own_.get() : nullptr;]=]
  REPLACEMENT [=[return nullptr;]=]
  SCENARIO captured
  FOUND_BY plain "error: .*cuda(StreamWaitEvent|EventRecord)")

planted_bug(
  replay_without_the_last_stream
  FILE engine/optimizer.cpp
  PATTERN [=[  enqueue(step.graph().stream(), [&](Stream stream) {]=]
  REPLACEMENT [=[  const auto at_once = [&](Stream stream, const auto& body) {
    body(stream);
    stream_ = stream;
    left_->record(stream);
  };
  at_once(step.graph().stream(), [&](Stream stream) {]=]
  SCENARIO replay_on_another
  FOUND_BY plain "wrong: ")

planted_bug(
  addresses_uploaded_without_waiting
  FILE engine/optimizer.cpp
  PATTERN [=[  enqueue(device_->default_stream(), [&](Stream on) { all.gradients = own->on_device(0, options_.terms, on); });]=]
  REPLACEMENT [=[  all.gradients = own->on_device(0, options_.terms, nullptr);]=]
  SCENARIO capture_after_step
  FOUND_BY plain "wrong: |error: ")

planted_bug(
  zeros_without_an_event
  FILE engine/optimizer.cpp
  PATTERN [=[  run(given, [&](Stream stream) {
    if (!shares_state()) {]=]
  REPLACEMENT [=[  return device_->zero(tables_, {gradients.on_device(0, options_.terms, given), 0, options_.terms}, given);
  run(given, [&](Stream stream) {
    if (!shares_state()) {]=]
  SCENARIO zero_on_another
  FOUND_BY plain "wrong: ")

planted_bug(
  last_piece_as_long_as_the_others
  FILE cuda/memory.cpp
  PATTERN [=[const std::size_t count = std::min(slot_bytes_, bytes - sent);]=]
  REPLACEMENT [=[const std::size_t count = std::min(slot_bytes_, bytes);]=]
  SCENARIO large_write
  FOUND_BY plain "error: ")

planted_bug(
  event_not_waited_for
  FILE cuda/stream.cpp
  PATTERN [=[  check(cudaStreamWaitEvent(native(stream), event_, 0), "cudaStreamWaitEvent");]=]
  REPLACEMENT [=[  static_cast<void>(stream);]=]
  SCENARIO two_streams
  FOUND_BY plain "wrong: ")

planted_bug(
  addresses_of_the_host
  FILE engine/address_table.cpp
  PATTERN [=[return copy + place(first, 0);]=]
  REPLACEMENT [=[return addresses_.data() + place(first, 0);]=]
  FOUND_BY access "the memory is neither the device's nor pinned")

# ---- Collectives over NCCL ----

# planted_nccl_bug(<name> PATTERN <text> REPLACEMENT <text> FOUND_BY <test>)
function(planted_nccl_bug name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "PATTERN;REPLACEMENT;FOUND_BY" "")
  set(planted ${CMAKE_CURRENT_BINARY_DIR}/planted/cuda_${name}/nccl/nccl.cpp)
  simt_plant(${CMAKE_SOURCE_DIR}/native/nccl/nccl.cpp "${arg_PATTERN}" "${arg_REPLACEMENT}" ${planted})
  # Linked before mtadam_nccl, so that its own copy is left out.
  simt_add_program(planted_cuda_${name}_plain plain SOURCES ${planted} on_executor.cpp)
  set_target_properties(planted_cuda_${name}_plain PROPERTIES SIMT_UNOPTIMISED ON)
  target_link_libraries(planted_cuda_${name}_plain PRIVATE mtadam_nccl_tests)
  add_test(NAME planted.cuda_${name}.plain COMMAND planted_cuda_${name}_plain --gtest_filter=Nccl.${arg_FOUND_BY})
  set_tests_properties(planted.cuda_${name}.plain PROPERTIES PASS_REGULAR_EXPRESSION "1 FAILED TEST")
endfunction()

planted_nccl_bug(
  collective_before_the_work_before_it
  PATTERN [=[      before_->make_wait(stream_);]=]
  REPLACEMENT ""
  FOUND_BY GathersAfterTheWorkBeforeAndBeforeTheWorkAfterIt)

planted_nccl_bug(
  work_after_a_collective_does_not_wait
  PATTERN [=[    if (stream != stream_) after_->make_wait(stream);]=]
  REPLACEMENT ""
  FOUND_BY GathersAfterTheWorkBeforeAndBeforeTheWorkAfterIt)

planted_nccl_bug(
  part_of_the_first_rank_sent
  PATTERN [=[static_cast<std::byte*>(all) + bytes * rank_, all, bytes]=]
  REPLACEMENT [=[static_cast<std::byte*>(all), all, bytes]=]
  FOUND_BY GathersAfterTheWorkBeforeAndBeforeTheWorkAfterIt)

planted_nccl_bug(
  small_memory_not_enlarged
  PATTERN [=[small_ == nullptr || small_->size() < each * size_]=]
  REPLACEMENT [=[small_ == nullptr]=]
  FOUND_BY GathersPartsOfAnySizeOnTheHost)

planted_nccl_bug(
  sum_in_the_place_of_the_first_rank
  PATTERN [=[reduce_scatter(all, sum, parts.counts[rank_],]=]
  REPLACEMENT [=[reduce_scatter(all, sum - parts.starts[rank_], parts.counts[rank_],]=]
  FOUND_BY SumsEachRanksPart)

planted_nccl_bug(
  received_where_it_was_sent_from
  PATTERN [=[static_cast<std::byte*>(to) + received.starts[rank]]=]
  REPLACEMENT [=[static_cast<std::byte*>(to) + sent.starts[rank]]=]
  FOUND_BY SendsEachRankItsPart)

planted_nccl_bug(
  late_collective_not_aborted
  PATTERN [=[if (!after_->is_reached()) abort(late("a collective"));]=]
  REPLACEMENT ""
  FOUND_BY ARankThatDoesNotComeEndsTheOthersWait)

planted_nccl_bug(
  late_call_not_aborted
  PATTERN [=[if (Clock::now() > deadline) abort]=]
  REPLACEMENT [=[if (Clock::now() > deadline + std::chrono::hours(1)) abort]=]
  FOUND_BY RanksThatDoNotJoinAreWaitedForNoLongerThanTheTimeOut)

planted_nccl_bug(
  failure_of_the_library_not_looked_for
  PATTERN [=[    if (state == kSuccess || state == kInProgress) return;]=]
  REPLACEMENT [=[    return;]=]
  FOUND_BY ARankThatIsGoneEndsTheOthersWait)

planted_nccl_bug(
  failure_on_the_device_not_told
  PATTERN [=[    device_->read(gathered.data(), small_->data(), gathered.size(), stream_);
    check();]=]
  REPLACEMENT [=[    device_->read(gathered.data(), small_->data(), gathered.size(), stream_);]=]
  FOUND_BY ARankThatIsGoneEndsTheOthersWait)

planted_nccl_bug(
  failed_send_not_told
  PATTERN [=[return result == kSuccess || result == kInProgress ? end : result;]=]
  REPLACEMENT [=[return end;]=]
  FOUND_BY ACallThatFailsIsNamed)

planted_nccl_bug(
  closed_communicator_used_again
  PATTERN [=[    failure_ = "The communicator has been closed.";]=]
  REPLACEMENT ""
  FOUND_BY ACommunicatorThatIsClosedIsNotUsedAgain)

# ---- Traffic ----

add_library(mtadam_planted_traffic OBJECT traffic_test.cpp on_executor.cpp)
target_link_libraries(mtadam_planted_traffic PUBLIC mtadam_cuda_access GTest::gtest_main)

simt_add_planted_test(
  cuda_gradients_read_twice access
  DRIVER ${CMAKE_SOURCE_DIR}/native/cuda/lagged.cu
  HEADER cuda/kernels/lagged.cuh
  PATTERN [=[    if (part.g != nullptr) in.terms[i].g = load_gradient<kN>(part.g + e, work.run.aligned);]=]
  REPLACEMENT [=[    if (part.g != nullptr) in.terms[i].g = load_gradient<kN>(part.g + e, work.run.aligned);
    if (part.g != nullptr) in.terms[i].g.e[0] = *static_cast<const volatile float*>(part.g + e);]=]
  EXPECT "FAILED.*Traffic.WithLaggedScalesIsOneLaunchThatReadsEachGradientOnce"
  ARGUMENTS --gtest_filter=Traffic.WithLaggedScalesIsOneLaunchThatReadsEachGradientOnce)
target_link_libraries(planted_cuda_gradients_read_twice_access PRIVATE mtadam_planted_traffic)
