#include "test/far_elements.h"

#include <gtest/gtest.h>

#include "test/cuda/on_device.h"

namespace mtadam {
namespace {

using FarElements = test::OnDevice;

TEST_F(FarElements, StepAsNearOnes) { test::expect_far_elements_step_alike(open()); }

}  // namespace
}  // namespace mtadam
