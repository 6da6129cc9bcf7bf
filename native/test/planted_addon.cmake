# Sanitized addons with a bug each, which a run of the tests must report (scripts/test/sanitized.js).

function(planted_addon bug pattern replacement)
  set(planted ${CMAKE_CURRENT_BINARY_DIR}/planted/${bug}/call_options.cpp)
  simt_plant(${CMAKE_SOURCE_DIR}/native/addon/call_options.cpp ${pattern} ${replacement} ${planted})
  set(target mtadam_planted_${bug})
  add_library(${target} SHARED $<FILTER:$<TARGET_OBJECTS:mtadam>,EXCLUDE,call_options> ${planted})
  add_dependencies(${target} mtadam)
  set_target_properties(${target} PROPERTIES PREFIX "" SUFFIX ".node")
  target_include_directories(${target} SYSTEM PRIVATE ${CMAKE_JS_INC})
  target_compile_definitions(${target} PRIVATE $<TARGET_PROPERTY:mtadam,COMPILE_DEFINITIONS>)
  target_link_libraries(${target} PRIVATE mtadam_core mtadam_mpi mtadam_nccl mtadam_cuda_plain ${CMAKE_JS_LIB})
endfunction()

# Reads one number past the end of the options of a call.
planted_addon(overrun "at[7] != 0" "at[8] != 0")

# Loses the weights of every call.
planted_addon(leak "return {values_ + 1, values_ + 1 + terms_};"
              "return *new std::vector<double>(values_ + 1, values_ + 1 + terms_);")
