# A check that has never failed is no check: bugs are planted in copies of the kernels' sources, and the tests of the
# copies must fail for the right reason.

# simt_plant(<source> <pattern> <replacement> <output>)
#
# Writes to <output> a copy of <source> with <pattern>, which must occur exactly once, replaced. Both are plain text;
# bracket arguments, [[...]], keep code as it is. Configures again when the source changes, so that a kernel whose text
# no longer holds the pattern is noticed at once.
function(simt_plant source pattern replacement output)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${source}")
  file(READ "${source}" content)
  string(FIND "${content}" "${pattern}" first)
  string(FIND "${content}" "${pattern}" last REVERSE)
  if(first EQUAL -1)
    message(FATAL_ERROR "simt_plant: ${source} does not hold\n${pattern}")
  endif()
  if(NOT first EQUAL last)
    message(FATAL_ERROR "simt_plant: ${source} holds more than once\n${pattern}")
  endif()
  string(REPLACE "${pattern}" "${replacement}" planted "${content}")
  set(present "")
  if(EXISTS "${output}")
    file(READ "${output}" present)
  endif()
  if(NOT present STREQUAL planted)
    file(WRITE "${output}" "${planted}")
  endif()
endfunction()

# simt_add_planted_test(<name> <flavour> DRIVER <source>... HEADER <header> PATTERN <text> REPLACEMENT <text>
#                       EXPECT <regular expression> [ROOT <directory>] [ARGUMENTS <argument>...])
#
# A test that passes when the driver, compiled with the bug in <header>, says what EXPECT matches. The driver includes
# the header by this path, which is relative to ROOT (native/ by default).
function(simt_add_planted_test name flavour)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "HEADER;PATTERN;REPLACEMENT;EXPECT;ROOT" "DRIVER;ARGUMENTS")
  if(NOT arg_ROOT)
    get_target_property(arg_ROOT mtadam_simt INTERFACE_INCLUDE_DIRECTORIES)
  endif()
  set(directory "${CMAKE_CURRENT_BINARY_DIR}/planted/${name}")
  simt_plant("${arg_ROOT}/${arg_HEADER}" "${arg_PATTERN}" "${arg_REPLACEMENT}" "${directory}/${arg_HEADER}")
  simt_add_program(planted_${name}_${flavour} ${flavour} SOURCES ${arg_DRIVER} PLANTED "${directory}")
  # Dozens of programs that each run for a second: compiling them is what takes time.
  set_target_properties(planted_${name}_${flavour} PROPERTIES SIMT_UNOPTIMISED ON)
  add_test(NAME planted.${name}.${flavour} COMMAND planted_${name}_${flavour} ${arg_ARGUMENTS})
  set_tests_properties(planted.${name}.${flavour} PROPERTIES PASS_REGULAR_EXPRESSION "${arg_EXPECT}")
endfunction()
