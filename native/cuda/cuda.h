#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/device.h"

// The interface of native/cuda, without CUDA's headers. A build without CUDA has it, too: there, its functions report
// that there is no CUDA (absent.cpp).

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

/// Describes the driver, the devices and this build. Makes no context.
Description describe();

/// Opens a device. Throws Error (NO_DEVICE, DRIVER, OUT_OF_MEMORY, CUDA) that says why it cannot.
std::shared_ptr<Device> open(int index);

/// Bytes of a handle of cudaIpcGetMemHandle.
constexpr std::size_t kHandleBytes = 64;

/// Opens an allocation of another process, which must not free it before this memory is gone. `bytes`: at most those of
/// the allocation. Throws Error (OPTION for another kind of device, INVALID_POINTER, NO_DEVICE, CUDA).
std::unique_ptr<Memory> open_memory(Device& device, const std::byte* handle, std::size_t bytes);

/// The device whose memory an address belongs to; −1 where CUDA knows none.
int owner_of(const void* address);

}  // namespace mtadam::cuda
