# The CUDA device's tests on a GPU: the program that scripts/gpu-check runs. No test of ctest's, since it fails where
# there is no GPU, and where it runs there may be no CMake. It brings all but the driver, so that it can be built elsewhere.

get_target_property(gtest_kind GTest::gtest TYPE)
if(gtest_kind STREQUAL "SHARED_LIBRARY")
  message(WARNING "GoogleTest is a shared library here: mtadam_gpu_tests needs it where it runs as well.")
endif()

add_executable(mtadam_gpu_tests gpu_main.cpp on_gpu.cpp digest_test.cpp ${MTADAM_CUDA_DEVICE_TESTS})
set_target_properties(mtadam_gpu_tests PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
target_link_libraries(mtadam_gpu_tests PRIVATE mtadam_cuda CUDA::cudart_static GTest::gtest)
target_link_options(mtadam_gpu_tests PRIVATE -Wl,--wrap=cudaLaunchKernel -s -static-libstdc++ -static-libgcc)
