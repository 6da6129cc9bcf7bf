#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/device.h"

// What the rest of the program sees of CUDA: no header of it. In a build without CUDA all of this is there, too, and
// says so.

namespace mtadam::cuda {

struct DeviceDescription {
  std::string name;
  std::string compute_capability;  // such as "9.0"
  std::string reason;              // why it cannot be used; empty where it can
};

struct Description {
  std::string driver;   // the newest CUDA that the driver serves, such as "13.0"; empty without a driver
  std::string runtime;  // the CUDA of this build; empty without
  std::vector<std::string> architectures;  // compute capabilities that the build holds code for
  std::string reason;                      // why no device can be used; empty where one can
  std::vector<DeviceDescription> devices;
};

/// What this machine and this build have. Touches no device.
Description describe();

/// Opens a device. Throws Error (NO_DEVICE, DRIVER, OUT_OF_MEMORY, CUDA) that says why it cannot.
std::shared_ptr<Device> open(int index);

/// The device whose memory an address belongs to; −1 where CUDA knows none.
int owner_of(const void* address);

}  // namespace mtadam::cuda
