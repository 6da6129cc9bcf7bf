#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "displaced_device.h"
#include "training.h"

namespace mtadam::test {

inline void expect_far_elements_step_alike(const Model& model, Random& random, const std::shared_ptr<Device>& device) {
  Training plain(model, device), moved(model, std::make_shared<DisplacedDevice>(device));
  // The chunks of a pair that comes late to lagged scales are counted from the tensor's first, which is not there.
  const double absent = model.options.form.lagged ? 0 : 0.2;
  for (const Gradients& gradients : random_steps(random, model, 2, {0, absent, 0, 0})) {
    plain.step(gradients);
    moved.step(gradients);
    ASSERT_TRUE(same_state(plain.snapshot(), moved.snapshot())) << "step";
    plain.stream(gradients);
    moved.stream(gradients);
    ASSERT_TRUE(same_state(plain.snapshot(), moved.snapshot())) << "stream";
  }
  plain.zero();
  moved.zero();
  plain.step_again();
  moved.step_again();
  ASSERT_TRUE(same_state(plain.snapshot(), moved.snapshot())) << "zero";
}

/// Steps of elements beyond the 2³²-th of their tensors give the same bits as steps of the first elements. Not those
/// that draw random numbers, which depend on the place of an element.
inline void expect_far_elements_step_alike(const std::shared_ptr<Device>& device) {
  Random random(46);
  for (const bool summed : {false, true}) {
    Model model = random_model(random, {5, 4099, 0, 302, 8200}, 3);
    for (std::uint32_t k = 0; k < model.parameters.size(); ++k) model.parameters[k].layer = k;
    model.options.form = {summed, false};
    model.options.form.cosines = true;
    ASSERT_NO_FATAL_FAILURE(expect_far_elements_step_alike(model, random, device)) << "cosines";
    model.options.form.cosines = false;
    ASSERT_NO_FATAL_FAILURE(expect_far_elements_step_alike(model, random, device));
    const Model lagged = with_lagged_scales(random, model);
    ASSERT_NO_FATAL_FAILURE(expect_far_elements_step_alike(lagged, random, device)) << "lagged";
    for (const Model& wide : {model, lagged}) {
      for (const Rounding rounding : {Rounding::kNearest, Rounding::kMaster}) {
        const Model narrow = with_narrow_parameters(random, with_narrow_gradients(random, wide), rounding);
        ASSERT_NO_FATAL_FAILURE(expect_far_elements_step_alike(narrow, random, device)) << "narrow";
      }
    }
  }
}

}  // namespace mtadam::test
