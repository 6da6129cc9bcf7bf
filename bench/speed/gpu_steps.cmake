# gpu_steps, and the same program with variants of the kernels, for scripts/gpu-check: all in bin/, static but for the
# driver, so that they can be built elsewhere.

include(../../native/test/simt/plant.cmake)

add_library(gpu_steps_main OBJECT gpu_steps.cpp)
target_link_libraries(gpu_steps_main PRIVATE mtadam_cuda CUDA::cudart_static)

function(gpu_steps_program target)
  add_executable(${target} $<TARGET_OBJECTS:gpu_steps_main>)
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY $<1:${CMAKE_BINARY_DIR}/bin>)
  target_link_libraries(${target} PRIVATE mtadam_cuda CUDA::cudart_static)
  target_link_options(${target} PRIVATE -s -static-libstdc++ -static-libgcc)
endfunction()

# gpu_steps_variant(<name> KERNELS <file of native/cuda, without .cu>...
#                   REPLACE <path below native/> <text that occurs there once> <replacement>...)
#
# gpu_steps_<name>, in which these files of kernels are compiled from changed sources: the linker takes nothing from the
# library that a program brings itself. No text may hold a semicolon, since CMake's lists would split it.
function(gpu_steps_variant name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "KERNELS;REPLACE")
  set(native ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../../native)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/variants/${name})
  set(changed "")
  while(arg_REPLACE)
    list(POP_FRONT arg_REPLACE file pattern replacement)
    set(source ${native}/${file})
    if(file IN_LIST changed)
      file(READ ${folder}/${file} content)
      file(WRITE ${folder}/earlier/${file} "${content}")
      set(source ${folder}/earlier/${file})
    endif()
    simt_plant("${source}" "${pattern}" "${replacement}" "${folder}/${file}")
    list(APPEND changed ${file})
  endwhile()
  gpu_steps_program(gpu_steps_${name})
  foreach(kernel IN LISTS arg_KERNELS)
    set(source ${native}/cuda/${kernel}.cu)
    if(cuda/${kernel}.cu IN_LIST changed)
      set(source ${folder}/cuda/${kernel}.cu)
    endif()
    target_sources(gpu_steps_${name} PRIVATE ${source})
  endforeach()
  target_include_directories(gpu_steps_${name} BEFORE PRIVATE ${folder} ${CMAKE_CURRENT_FUNCTION_LIST_DIR})
  get_target_property(options mtadam_cuda COMPILE_OPTIONS)
  target_compile_options(gpu_steps_${name} PRIVATE ${options})
  set_target_properties(gpu_steps_${name} PROPERTIES CUDA_ARCHITECTURES "${MTADAM_CUDA_ARCHITECTURES}" CUDA_STANDARD 17
                                                     CUDA_STANDARD_REQUIRED ON)
endfunction()

gpu_steps_program(gpu_steps)
if(MTADAM_GPU_VARIANTS)
  include(variants.cmake)
endif()
