# What kernels and their tests are compiled with, one flavour per check:
#   plain   the executor's own checks
#   asan    and the address and undefined-behaviour sanitizers
#   tsan    and the thread sanitizer: only what orders CUDA threads on a device orders them
#   access  and the access checker: bytes counted, and memory that a kernel must not touch
set(SIMT_FLAVOURS plain asan tsan access)

foreach(flavour IN LISTS SIMT_FLAVOURS)
  add_library(mtadam_simt_${flavour} INTERFACE)
  # Kernels read floats through vector types, as nvcc allows; a product is never contracted into a sum.
  # Where a program asks for it, the plain flavour is not optimised: its checks are the executor's own. Those of the other
  # flavours are the compiler's, and have to see what it makes of kernels.
  set(level -O2)
  if(flavour STREQUAL "plain")
    set(level $<IF:$<BOOL:$<TARGET_PROPERTY:SIMT_UNOPTIMISED>>,-O0,-O2>)
  endif()
  # Lines and functions are all that the checks name.
  target_compile_options(
    mtadam_simt_${flavour} INTERFACE ${level} -g1 -fno-omit-frame-pointer -fno-strict-aliasing -ffp-contract=off)
  # Headers of the toolkit's names, which the product includes.
  target_include_directories(mtadam_simt_${flavour} INTERFACE ${CMAKE_CURRENT_LIST_DIR}/include)
  target_link_libraries(mtadam_simt_${flavour} INTERFACE mtadam_simt)
endforeach()

add_library(mtadam_simt_sanitizer_options OBJECT ${CMAKE_CURRENT_LIST_DIR}/sanitizer_options.cpp)
set_target_properties(mtadam_simt_sanitizer_options PROPERTIES POSITION_INDEPENDENT_CODE ON)

target_compile_options(mtadam_simt_asan INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
                                                  -fno-sanitize=vptr)
target_link_options(mtadam_simt_asan INTERFACE -fsanitize=address,undefined)

target_compile_options(mtadam_simt_tsan INTERFACE -fsanitize=thread)
target_link_options(mtadam_simt_tsan INTERFACE -fsanitize=thread)

# -fsanitize=thread only for its hooks: there is no thread sanitizer in the program. Scalar replacement would split the
# accesses of vector types, whose widths are counted; the alignment check knows the place in the source.
add_library(mtadam_simt_access_hooks STATIC ${CMAKE_CURRENT_LIST_DIR}/access_hooks.cpp)
set_target_properties(mtadam_simt_access_hooks PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_compile_options(mtadam_simt_access_hooks PRIVATE ${SIMT_OWN_OPTIONS})
target_link_libraries(mtadam_simt_access_hooks PUBLIC mtadam_simt)
target_compile_options(
  mtadam_simt_access INTERFACE -fsanitize=thread --param=tsan-distinguish-volatile=1 -fno-tree-sra -fsanitize=alignment
                               -fno-sanitize-recover=all)
target_link_libraries(mtadam_simt_access INTERFACE mtadam_simt_access_hooks)

# simt_add_program(<target> <flavour> SOURCES <source>... [PLANTED <directory>])
#
# A program of kernels and host code in one flavour. With PLANTED, headers are looked for in that directory first.
function(simt_add_program target flavour)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "PLANTED" "SOURCES")
  if(NOT TARGET mtadam_simt_${flavour})
    message(FATAL_ERROR "simt_add_program: there is no flavour ${flavour}")
  endif()
  add_executable(${target} ${arg_SOURCES})
  if(arg_PLANTED)
    target_include_directories(${target} BEFORE PRIVATE ${arg_PLANTED})
  endif()
  target_link_libraries(${target} PRIVATE mtadam_simt_${flavour})
  if(flavour STREQUAL "asan" OR flavour STREQUAL "tsan")
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:mtadam_simt_sanitizer_options>)
  endif()
endfunction()
