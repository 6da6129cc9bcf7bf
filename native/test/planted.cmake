# Bugs in copies of the CPU device's sources and of the exchange between ranks, each with the test that finds it. The
# CUDA device runs the same lines of scalars.h, so its comparison with the CPU cannot find a bug there.

add_library(mtadam_planted_tests OBJECT exchange_test.cpp far_elements_test.cpp lean_state_test.cpp
                                         narrow_parameters_test.cpp oracle_test.cpp)
target_link_libraries(mtadam_planted_tests PUBLIC mtadam_core GTest::gtest_main)

# planted_cpu_bug(<name> [LOOPS] FILE <path below native/> PATTERN <text> REPLACEMENT <text> FOUND_BY <test>
#                 [EXPECT <regular expression>])
#
# LOOPS: the bug is in the loops over elements, too, of which the program then has the baseline's alone.
function(planted_cpu_bug name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "LOOPS" "FILE;PATTERN;REPLACEMENT;FOUND_BY;EXPECT" "")
  set(native ${CMAKE_SOURCE_DIR}/native)
  set(planted ${CMAKE_CURRENT_BINARY_DIR}/planted/cpu_${name})
  simt_plant("${native}/${arg_FILE}" "${arg_PATTERN}" "${arg_REPLACEMENT}" "${planted}/${arg_FILE}")
  set(sources cpu/cpu_device.cpp cpu/elements.cpp cpu/layers.cpp)
  if(arg_FILE MATCHES "^engine/")
    set(sources ${arg_FILE})
  elseif(arg_LOOPS)
    list(APPEND sources cpu/instruction_set.cpp cpu/loops.cpp)
  endif()
  list(TRANSFORM sources PREPEND ${native}/)
  list(TRANSFORM sources REPLACE ${native}/${arg_FILE} ${planted}/${arg_FILE})
  # Linked before mtadam_core, so that its own copies are left out.
  add_executable(planted_cpu_${name} ${sources})
  if(arg_LOOPS)
    target_compile_definitions(planted_cpu_${name} PRIVATE MTADAM_LOOPS=loops_baseline)
    target_compile_options(planted_cpu_${name} PRIVATE -O1 -fno-math-errno) # their tests are long trainings
  else()
    set_target_properties(planted_cpu_${name} PROPERTIES UNITY_BUILD ON) # reads their headers once
    target_compile_options(planted_cpu_${name} PRIVATE -O0) # compiling takes longer than the tests
  endif()
  target_include_directories(planted_cpu_${name} BEFORE PRIVATE ${planted})
  target_link_libraries(planted_cpu_${name} PRIVATE mtadam_planted_tests)
  if(NOT arg_EXPECT)
    set(arg_EXPECT "1 FAILED TEST")
  endif()
  # A test that ends by a signal fails whatever it printed; the shell prints how the program ended instead.
  add_test(NAME planted.cpu_${name}
           COMMAND sh -c "$<TARGET_FILE:planted_cpu_${name}> --gtest_filter=${arg_FOUND_BY} || echo exit code $?")
  set_tests_properties(planted.cpu_${name} PROPERTIES PASS_REGULAR_EXPRESSION "${arg_EXPECT}")
endfunction()

# ---- Narrow parameters ----

planted_cpu_bug(
  parameters_rounded_to_the_nearest
  FILE cpu/elements.cpp
  PATTERN [=[  run.rounding = tables.rounding;]=]
  REPLACEMENT [=[  run.rounding = Rounding::kNearest;]=]
  FOUND_BY NarrowParameters.MoveInTheMeanWhereTheNearestStaysBehind)

planted_cpu_bug(
  parameters_drawn_as_in_the_first_chunk
  FILE cpu/elements.cpp
  PATTERN [=[tables.tensors[part.tensor].key, part.first / kChunkElements);]=]
  REPLACEMENT [=[tables.tensors[part.tensor].key, 0);]=]
  FOUND_BY NarrowParameters.WithoutMastersAreTheRoundedStepInFloat32)

planted_cpu_bug(
  masters_of_all_parameters_in_one_place
  FILE cpu/elements.cpp
  PATTERN [=[masters + (tensor.master + part.first]=]
  REPLACEMENT [=[masters + (part.first]=]
  FOUND_BY NarrowParameters.WithMastersTrainAsInFloat32)

planted_cpu_bug(
  float32_parameters_gathered_as_narrow
  FILE engine/exchange.cpp
  PATTERN [=[const std::size_t each = element_bytes(layout.tensors()[tensor].type);]=]
  REPLACEMENT [=[const std::size_t each = layout.tensors()[tensor].length == 0 ? 4 : 2;]=]
  FOUND_BY Exchange.TakesTheStepsOfOneProcess)

planted_cpu_bug(
  masters_of_a_rank_in_one_place
  FILE engine/layout.cpp
  PATTERN [=[    master_bytes_ += whole_lines(count) * mtadam::master_bytes(tensor.type);]=]
  REPLACEMENT [=[    master_bytes_ = std::max(master_bytes_, whole_lines(count) * mtadam::master_bytes(tensor.type));]=]
  FOUND_BY Exchange.TakesTheStepsOfOneProcess)

planted_cpu_bug(
  roundings_of_ranks_not_compared
  FILE engine/optimizer.cpp
  PATTERN [=[.add(form.rounding)]=]
  REPLACEMENT ""
  FOUND_BY Exchange.RanksThatDifferAreRefusedOnAllRanks)

# ---- Roll-back of a step with NonFinite::kSkipStep ----

planted_cpu_bug(
  occurred_not_rolled_back
  FILE math/scalars.h
  PATTERN [=[  norm.occurred = former.occurred;]=]
  REPLACEMENT ""
  FOUND_BY Oracle.AgreesAfterAStepIsRolledBack)

planted_cpu_bug(
  norm_not_rolled_back
  FILE math/scalars.h
  PATTERN [=[  norm.n = former.n;]=]
  REPLACEMENT ""
  FOUND_BY Oracle.AgreesAfterAStepIsRolledBack)

planted_cpu_bug(
  second_correction_not_rolled_back
  FILE math/scalars.h
  PATTERN [=[  clock = former;
  out.b = second_correction(clock);]=]
  REPLACEMENT [=[  clock = former;
  static_cast<void>(out);]=]
  FOUND_BY Oracle.AgreesAfterAStepIsRolledBack)

planted_cpu_bug(
  clock_of_a_term_not_rolled_back
  FILE math/scalars.h
  PATTERN [=[  roll_back_clock(state.clocks[tensor_index], state.former_clocks[tensor_index], state.coefficients[tensor_index]);]=]
  REPLACEMENT ""
  FOUND_BY Oracle.AgreesAfterAStepIsRolledBack)

planted_cpu_bug(
  shared_clock_not_rolled_back
  FILE math/scalars.h
  PATTERN [=[  roll_back_clock(shared.clocks[tensor_index], shared.former_clocks[tensor_index], shared.coefficients[tensor_index]);]=]
  REPLACEMENT ""
  FOUND_BY Oracle.AgreesAfterAStepIsRolledBack)

# ---- Both moments summed ----

planted_cpu_bug(
  draws_of_one_term_for_all
  FILE cpu/elements.cpp
  PATTERN [=[codes(state.codes.v), state.stream}]=]
  REPLACEMENT [=[codes(state.codes.v), tables.terms[0].stream}]=]
  FOUND_BY LeanState.RoundsTheMomentsAndMovesByWhatIsStored)

planted_cpu_bug(
  last_term_alone_in_the_sum
  FILE cpu/elements.cpp
  PATTERN [=[      opens = false;
    });
    loops.adam]=]
  REPLACEMENT [=[    });
    loops.adam]=]
  FOUND_BY Oracle.AgreesWithStepsOfEveryKind)

# ---- Anchor ----

planted_cpu_bug(
  anchor_search_from_the_second_term
  FILE math/scalars.h
  PATTERN [=[  std::uint32_t count = 0;
  for (std::uint32_t term = 0; term < tables.term_count; ++term) {]=]
  REPLACEMENT [=[  std::uint32_t count = 0;
  for (std::uint32_t term = 1; term < tables.term_count; ++term) {]=]
  FOUND_BY Oracle.AgreesForEveryAnchor)

planted_cpu_bug(
  anchor_search_without_the_last_term
  FILE math/scalars.h
  PATTERN [=[  std::uint32_t count = 0;
  for (std::uint32_t term = 0; term < tables.term_count; ++term) {]=]
  REPLACEMENT [=[  std::uint32_t count = 0;
  for (std::uint32_t term = 0; term + 1 < tables.term_count; ++term) {]=]
  FOUND_BY Oracle.AgreesForEveryAnchor)

planted_cpu_bug(
  named_anchor_off_by_one
  FILE math/scalars.h
  PATTERN [=[norm_of(tables.anchor_term);]=]
  REPLACEMENT [=[norm_of((tables.anchor_term + 1) % tables.term_count);]=]
  FOUND_BY Oracle.AgreesForEveryAnchor)

# ---- Gradients that leave float32 ----

planted_cpu_bug(
  anchor_not_searched_again
  FILE math/scalars.h
  PATTERN [=[    withdrawn = true;
  }]=]
  REPLACEMENT [=[    withdrawn = true;
    return anchor.n;
  }]=]
  FOUND_BY Oracle.AgreesWhereGradientsLeaveFloat32)

planted_cpu_bug(
  anchor_kept_though_it_is_too_large
  FILE math/scalars.h
  PATTERN [=[    if (!is_called(call, anchor.term)) return anchor.n;]=]
  REPLACEMENT [=[    if (call.count > 0) return anchor.n;]=]
  FOUND_BY Oracle.AgreesWhereGradientsLeaveFloat32)

planted_cpu_bug(
  only_anchors_are_too_large
  FILE math/scalars.h
  PATTERN [=[  return !leaves_float32(tables, norm, norm.s);]=]
  REPLACEMENT [=[  return true;]=]
  FOUND_BY Oracle.AgreesWhereGradientsLeaveFloat32)

planted_cpu_bug(
  factor_that_float32_cannot_hold
  FILE math/scalars.h
  PATTERN [=[ || !std::isfinite(static_cast<float>(s / *tables.gradient_scale));]=]
  REPLACEMENT [=[;]=]
  FOUND_BY Oracle.AgreesWhereGradientsLeaveFloat32)

planted_cpu_bug(
  too_large_gradient_not_counted
  FILE math/scalars.h
  PATTERN [=[  state.norms[layer_index].skipped += 1;]=]
  REPLACEMENT ""
  FOUND_BY Oracle.AgreesWhereGradientsLeaveFloat32)

# ---- Lagged scales ----

planted_cpu_bug(
  lagged_norm_of_this_step
  FILE math/lagged.h
  PATTERN [=[state.lagged_norms[layer_index] = norm.occurred != 0 ? norm.n : n;]=]
  REPLACEMENT [=[state.lagged_norms[layer_index] = n;]=]
  FOUND_BY Oracle.AgreesWithStepsOfEveryKind)

planted_cpu_bug(
  norm_that_is_not_finite_averaged
  FILE math/lagged.h
  PATTERN [=[const double n = keeps_average(tables, norm.r) ? norm.n : next_norm(tables, term, layer_index);]=]
  REPLACEMENT [=[const double n = next_norm(tables, term, layer_index);]=]
  FOUND_BY Oracle.AgreesWithLaggedScales)

planted_cpu_bug(
  first_gradient_that_is_not_finite_taken
  FILE math/lagged.h
  PATTERN [=[  return skips_elements(tables.non_finite) && !reaches_first(tables, call, term, layer_index);]=]
  REPLACEMENT [=[  static_cast<void>(call), static_cast<void>(term), static_cast<void>(layer_index);
  return skips_elements(tables.non_finite);]=]
  FOUND_BY Oracle.AgreesWhereAFirstGradientIsNotFinite)

# ---- Lagged scales, where gradients are read once ----

planted_cpu_bug(
  norm_of_the_step_lost
  FILE cpu/layers.cpp
  PATTERN [=[    take_sum(tables, call, term, layer_index, joined, skipped);
  }
}]=]
  REPLACEMENT [=[    static_cast<void>(joined), static_cast<void>(skipped);
  }
}]=]
  FOUND_BY Oracle.AgreesWithLaggedScales)

planted_cpu_bug(
  term_scaled_before_its_first_norm
  FILE math/lagged.h
  PATTERN [=[  return reaches_first(tables, call, term, layer_index);]=]
  REPLACEMENT [=[  static_cast<void>(call);
  return tables.terms[term].norms[layer_index].occurred == 0;]=]
  FOUND_BY Oracle.Agrees*)

# ---- Element offsets beyond 32 bits ----

planted_cpu_bug(
  first_element_in_32_bits
  FILE math/tables.h
  PATTERN [=[return std::uint64_t{index} * kChunkElements;]=]
  REPLACEMENT [=[return index * kChunkElements;]=]
  FOUND_BY FarElements.StepAsNearOnes
  EXPECT "exit code 139")

planted_cpu_bug(
  first_slot_in_32_bits
  FILE cpu/chunk_range.h
  PATTERN [=[from = (std::max(first, tensor.slot) - tensor.slot) * kChunkElements;]=]
  REPLACEMENT [=[from = static_cast<std::uint32_t>((std::max(first, tensor.slot) - tensor.slot) * kChunkElements);]=]
  FOUND_BY FarElements.StepAsNearOnes
  EXPECT "exit code 139")

# ---- Codes of a lean state ----

# planted_codes_bug(<name> PATTERN <text> REPLACEMENT <text> FOUND_BY <test>)
function(planted_codes_bug name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "PATTERN;REPLACEMENT;FOUND_BY" "")
  set(planted ${CMAKE_CURRENT_BINARY_DIR}/planted/codes_${name})
  simt_plant("${CMAKE_SOURCE_DIR}/native/math/state_codes.h" "${arg_PATTERN}" "${arg_REPLACEMENT}"
             "${planted}/math/state_codes.h")
  add_executable(planted_codes_${name} state_codes_test.cpp)
  target_compile_options(planted_codes_${name} PRIVATE -O0)
  target_include_directories(planted_codes_${name} BEFORE PRIVATE ${planted})
  target_link_libraries(planted_codes_${name} PRIVATE mtadam_options GTest::gtest_main)
  add_test(NAME planted.codes_${name} COMMAND planted_codes_${name} --gtest_filter=${arg_FOUND_BY})
  set_tests_properties(planted.codes_${name} PROPERTIES PASS_REGULAR_EXPRESSION "1 FAILED TEST")
endfunction()

planted_codes_bug(
  rounded_to_nearest
  PATTERN [=[{ return word >> 12; }]=]
  REPLACEMENT [=[{ return word == 0 ? 0 : 0x80000u; }]=]
  FOUND_BY StateCodes.RoundWithoutBias)

planted_codes_bug(
  rounded_to_zero
  PATTERN [=[code < 1 ? 1 : code]=]
  REPLACEMENT [=[code < 0 ? 0 : code]=]
  FOUND_BY StateCodes.RoundAllMagnitudesToTheCodesNextToThem)

planted_codes_bug(
  words_of_another_format
  PATTERN [=[key.a + element * 0x9e3779b9u]=]
  REPLACEMENT [=[key.a + element * 0x9e3779bbu]=]
  FOUND_BY StateCodes.DrawTheWordsOfTheFormat)

planted_codes_bug(
  streams_alike
  PATTERN [=[(word ^ stream) * 0x9e3779b1u]=]
  REPLACEMENT [=[(word ^ (stream & 0)) * 0x9e3779b1u]=]
  FOUND_BY StateCodes.DrawWithoutCorrelation)

planted_codes_bug(
  v_a_code_too_high
  PATTERN [=[(bits - base + draw) >> 20]=]
  REPLACEMENT [=[(bits - base + draw + 0x100000u) >> 20]=]
  FOUND_BY StateCodes.KeepEveryCodeOfVWhenRoundedAgain)

planted_codes_bug(
  m_without_its_highest_bit
  PATTERN [=[((bits >> 20) & 0x7fu)]=]
  REPLACEMENT [=[((bits >> 20) & 0x3fu)]=]
  FOUND_BY StateCodes.KeepEveryCodeOfMWhenRoundedAgain)

planted_codes_bug(
  base_of_v_halved
  PATTERN [=[(exponent - 31u) << 23]=]
  REPLACEMENT [=[(exponent - 32u) << 23]=]
  FOUND_BY StateCodes.HaveTheValuesOfTheFormat)

planted_codes_bug(
  too_large_block_not_marked
  PATTERN [=[return s < 33 ? 33 : s > 253]=]
  REPLACEMENT [=[return s < 33 ? 33 : s > 254]=]
  FOUND_BY StateCodes.MarkABlockThatIsNotFiniteOrTooLarge)

planted_codes_bug(
  ties_of_bfloat16_up
  PATTERN [=[(bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16]=]
  REPLACEMENT [=[(bits + 0x8000u) >> 16]=]
  FOUND_BY StateCodes.RoundToBfloat16)

# ---- Trainings with a lean state ----

planted_cpu_bug(
  lean_second_moments_rounded_to_nearest LOOPS
  FILE math/state_codes.h
  PATTERN [=[{ return word >> 12; }]=]
  REPLACEMENT [=[{ return word == 0 ? 0 : 0x80000u; }]=]
  FOUND_BY LeanState.AveragesAndForgetsSquaresAsFloat32Does)

planted_cpu_bug(
  lean_bfloat16_rounded_to_nearest LOOPS
  FILE math/state_codes.h
  PATTERN [=[{ return word >> 16; }]=]
  REPLACEMENT [=[{ return word == 0 ? 0 : 0x8000u; }]=]
  FOUND_BY LeanState.AveragesAndForgetsSquaresAsFloat32Does)

planted_cpu_bug(
  lean_second_moments_rounded_to_zero LOOPS
  FILE math/state_codes.h
  PATTERN [=[code < 1 ? 1 : code]=]
  REPLACEMENT [=[code < 0 ? 0 : code]=]
  FOUND_BY LeanState.StepsNoFurtherThanFloat32WhereGradientsSpreadOrAreSparse)

planted_cpu_bug(
  lean_draws_without_the_step LOOPS
  FILE cpu/elements.cpp
  PATTERN [=[  return chunk_key(tables.seed, step, tables.tensors[part.tensor].key, part.first / kChunkElements);]=]
  REPLACEMENT [=[  return chunk_key(tables.seed, step * 0, tables.tensors[part.tensor].key, part.first / kChunkElements);]=]
  FOUND_BY LeanState.AveragesAndForgetsSquaresAsFloat32Does)

# ---- Exchange between ranks ----

planted_cpu_bug(
  parameters_not_exchanged
  FILE engine/exchange.cpp
  PATTERN [=[    collective().gather(staged, parts, stream);
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      if (rank == own) continue;]=]
  REPLACEMENT [=[    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      if (rank == own) continue;]=]
  FOUND_BY Exchange.TakesTheStepsOfOneProcess)

planted_cpu_bug(
  any_arrays_sent_from_where_they_lie
  FILE engine/exchange.cpp
  PATTERN [=[    whole_ &= end_ == 0 || address == end_;]=]
  REPLACEMENT ""
  FOUND_BY Exchange.SendsWhatLiesInTheOrderOfSlotsFromThere)

planted_cpu_bug(
  sums_of_chunks_not_exchanged
  FILE engine/exchange.cpp
  PATTERN [=[  collective().gather(all, parts, stream);]=]
  REPLACEMENT ""
  FOUND_BY Exchange.TakesTheStepsOfOneProcess)

planted_cpu_bug(
  sums_of_chunks_in_float32
  FILE engine/exchange.cpp
  PATTERN [=[  collective().gather(all, parts, stream);]=]
  REPLACEMENT [=[  for (std::uint64_t k = 0; k < slots.end - slots.first; ++k) all[start + k] = static_cast<float>(all[start + k]);
  collective().gather(all, parts, stream);]=]
  FOUND_BY Exchange.TakesTheStepsOfOneProcess)

planted_cpu_bug(
  last_chunk_not_sent
  FILE engine/exchange.cpp
  PATTERN [=[take(all + start, values + slots.first, (slots.end - slots.first) * sizeof(double), stream);]=]
  REPLACEMENT [=[if (slots.end > slots.first) {
    take(all + start, values + slots.first, (slots.end - slots.first - 1) * sizeof(double), stream);
  }]=]
  FOUND_BY Exchange.TakesTheStepsOfOneProcess)

planted_cpu_bug(
  terms_in_the_wrong_order
  FILE engine/exchange.cpp
  PATTERN [=[                  stage(next, layout.tensors()[tensor], gradients.get(term, tensor),]=]
  REPLACEMENT [=[                  const std::uint32_t other = gradients.rows() - 1 - term;
                  stage(next, layout.tensors()[tensor], gradients.get(gradients.get(other, tensor) == nullptr ? term : other, tensor),]=]
  FOUND_BY Exchange.TakesTheStepsOfOneProcess)

planted_cpu_bug(
  ordered_sum_left_to_the_library
  FILE engine/gradient_sum.cpp
  PATTERN [=[  if (sharing_.reduction == Reduction::kLibrary && sharing_.wire == Wire::kFloat32) {]=]
  REPLACEMENT [=[  if (sharing_.wire == Wire::kFloat32) {]=]
  FOUND_BY Exchange.TakesTheStepsOfOneProcess)

planted_cpu_bug(
  parts_of_device_memory_not_padded
  FILE engine/exchange.cpp
  PATTERN [=[  if (!on_device()) return parts;
  return equal_parts(parts.counts.size(), *std::max_element(parts.counts.begin(), parts.counts.end()));]=]
  REPLACEMENT [=[  return parts;]=]
  FOUND_BY Exchange.TakesTheStepsOfOneProcess)

planted_cpu_bug(
  codes_of_two_tensors_in_one_block
  FILE engine/layout.cpp
  PATTERN [=[+= tensor.lean ? code_blocks(count) * kCodeBlock : lines;]=]
  REPLACEMENT [=[+= tensor.lean ? count : lines;]=]
  FOUND_BY Exchange.TakesTheStepsOfOneProcess)

planted_cpu_bug(
  exponents_shared_out_as_elements
  FILE engine/exchange.cpp
  PATTERN [=[owned * (kChunkElements / range.unit)]=]
  REPLACEMENT [=[owned * kChunkElements]=]
  FOUND_BY Exchange.WritesAStateThatAnyNumberOfRanksRead)

planted_cpu_bug(
  sums_of_narrow_gradients_read_as_narrow
  FILE engine/optimizer.cpp
  PATTERN [=[  tables.tensors = summed_tensors_;]=]
  REPLACEMENT ""
  FOUND_BY Exchange.TakesTheStepsOfOneProcess)

planted_cpu_bug(
  float16_widened_as_bfloat16
  FILE engine/exchange.cpp
  PATTERN [=[  widen_values(to, local, count, tensor.gradient);]=]
  REPLACEMENT [=[  widen_values(to, local, count, ElementType::kBfloat16);]=]
  FOUND_BY Exchange.TakesTheStepsOfOneProcess)

planted_cpu_bug(
  names_not_compared
  FILE engine/optimizer.cpp
  PATTERN [=[.add(tensor.key)]=]
  REPLACEMENT ""
  FOUND_BY Exchange.RanksThatDifferAreRefusedOnAllRanks)

planted_cpu_bug(
  optimizers_not_compared
  FILE engine/agreement.cpp
  PATTERN [=[    if (first.optimizer != other.optimizer) {]=]
  REPLACEMENT [=[    if (false) {]=]
  FOUND_BY Exchange.RanksThatDifferAreRefusedOnAllRanks)

# ---- Sums of squares that are added up on the way ----

planted_cpu_bug(
  passed_elements_that_do_not_rest
  FILE cpu/elements.cpp
  PATTERN [=[    return found && skips_elements(tables_.non_finite);]=]
  REPLACEMENT [=[    return found && !skips_elements(tables_.non_finite);]=]
  FOUND_BY Oracle.AgreesWithLaggedScalesOverSegments)

planted_cpu_bug(
  infinite_scale_of_zeros
  FILE cpu/elements.cpp
  PATTERN [=[  if (std::isinf(f)) return -1;
]=]
  REPLACEMENT ""
  FOUND_BY Oracle.AgreesWhereALaggedScaleIsInfinite)

planted_cpu_bug(
  lanes_of_the_chunk_before
  FILE cpu/elements.cpp
  PATTERN [=[      if (first == 0) lanes_[i] = {};]=]
  REPLACEMENT [=[      if (part.first == 0) lanes_[i] = {};]=]
  FOUND_BY Oracle.AgreesWithLaggedScalesOverSegments)

planted_cpu_bug(
  segment_added_twice
  LOOPS
  FILE cpu/loops.cpp
  PATTERN [=[  for (std::uint32_t lane = 0; lane < kStride; ++lane) lanes.segment[lane] = 0;
]=]
  REPLACEMENT ""
  FOUND_BY Oracle.AgreesWithLaggedScalesOverSegments)

planted_cpu_bug(
  last_chunk_not_recorded
  FILE cpu/elements.cpp
  PATTERN [=[      if (end % kChunkElements != 0 && end != tensor.length) continue;]=]
  REPLACEMENT [=[      if (end % kChunkElements != 0) continue;]=]
  FOUND_BY Oracle.AgreesWithLaggedScalesOverSegments)

planted_cpu_bug(
  passed_elements_of_one_place
  FILE cpu/elements.cpp
  PATTERN [=[      advance(run, part.count);]=]
  REPLACEMENT [=[      advance(run, 0);]=]
  FOUND_BY Oracle.AgreesWithLaggedScalesOverSegments)

# ---- A term that travels while its caller goes on ----

planted_cpu_bug(
  next_call_does_not_wait
  FILE engine/term_exchange.cpp
  PATTERN [=[  sharing_.collective->worker()->wait();
]=]
  REPLACEMENT ""
  FOUND_BY Exchange.TakesTheStepsOfOneProcessWhileTheCallerGoesOn)

planted_cpu_bug(
  idle_while_the_last_job_runs
  FILE engine/worker.cpp
  PATTERN [=[      lock.unlock();
      job();
      job = nullptr;  // what it owns may be the last owner of the worker, whose destructor takes the lock
      lock.lock();
      jobs.pop_front();]=]
  REPLACEMENT [=[      jobs.pop_front();
      changed.notify_all();
      lock.unlock();
      job();
      job = nullptr;
      lock.lock();]=]
  FOUND_BY Exchange.TakesTheStepsOfOneProcessWhileTheCallerGoesOn
  EXPECT "exit code [1-9]")

planted_cpu_bug(
  bucket_used_again_too_early
  FILE engine/optimizer.cpp
  PATTERN [=[hash_of(gradients, term, 1, values));
  enqueue(given,]=]
  REPLACEMENT [=[hash_of(gradients, term, 1, values));
  run(given,]=]
  FOUND_BY Exchange.TakesTheStepsOfOneProcessWhileTheCallerGoesOn)
