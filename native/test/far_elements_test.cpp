#include "far_elements.h"

#include <gtest/gtest.h>

#include <memory>

#include "cpu/cpu_device.h"

namespace mtadam {
namespace {

TEST(FarElements, StepAsNearOnes) { test::expect_far_elements_step_alike(std::make_shared<CpuDevice>(1)); }

}  // namespace
}  // namespace mtadam
