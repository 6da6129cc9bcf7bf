#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "displaced_device.h"
#include "training.h"

namespace mtadam::test {

/// Steps of elements beyond the 2³²-th of their tensors give the same bits as steps of the first elements.
inline void expect_far_elements_step_alike(const std::shared_ptr<Device>& device) {
  Random random(46);
  for (const bool summed : {false, true}) {
    Model model = random_model(random, {5, 4099, 0, 302, 8200}, 3);
    for (std::uint32_t k = 0; k < model.parameters.size(); ++k) model.parameters[k].layer = k;
    model.options.form = {summed, false};
    for (const bool cosines : {true, false}) {
      model.options.form.cosines = cosines;
      Training plain(model, device), moved(model, std::make_shared<DisplacedDevice>(device));
      for (const Gradients& gradients : random_steps(random, model, 2, {0, 0.2, 0, 0})) {
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
  }
}

}  // namespace mtadam::test
