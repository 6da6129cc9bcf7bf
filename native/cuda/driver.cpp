#include "cuda/driver.h"

#include "cuda/architectures.h"
#include "cuda/errors.h"

namespace mtadam::cuda {
namespace {

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

std::string capability(int major, int minor) { return std::to_string(major) + "." + std::to_string(minor); }

int driver_version() {
  int driver = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  return driver;
}

int runtime_version() {
  int runtime = 0;
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  return runtime;
}

int device_count() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorNoDevice) {
    cudaGetLastError();
    return 0;
  }
  check(error, "cudaGetDeviceCount");
  return count;
}

cudaDeviceProp properties_of(int index) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  return properties;
}

std::string capabilities_built() {
  std::string list;
  for (const Architecture& built : built_architectures()) {
    if (!list.empty()) list += ", ";
    list += capability(built.major, built.minor) + (built.ptx ? " and newer" : "");
  }
  return list;
}

/// Why the device cannot be used; empty if no reason is known.
std::string obstacle(const cudaDeviceProp& properties) {
  if (runs_on(built_architectures(), properties.major, properties.minor)) return "";
  return std::string(properties.name) + " has compute capability " + capability(properties.major, properties.minor) +
         ", and this build of mtadam holds code for " + capabilities_built() + ".";
}

}  // namespace

// A runtime needs a driver of its own major version or newer; anything older fails in ways that name neither.
void check_driver() {
  const int driver = driver_version();
  const int runtime = runtime_version();
  if (driver == 0) throw Error("DRIVER", "No NVIDIA driver is installed.");
  if (driver / 1000 < runtime / 1000) {
    throw Error("DRIVER", "The NVIDIA driver serves CUDA " + version(driver) + ", but this build of mtadam uses CUDA " +
                              version(runtime) + ", which needs a driver that serves " +
                              std::to_string(runtime / 1000) + ".0 or newer.");
  }
}

void check_index(int index) {
  check_driver();
  const int count = device_count();
  if (count == 0) throw Error("NO_DEVICE", "There is no CUDA device on this machine.");
  if (index < 0 || index >= count) {
    throw Error("NO_DEVICE", "`cuda:" + std::to_string(index) + "` must be one of the " + std::to_string(count) +
                                 " CUDA devices of this machine, numbered from 0.");
  }
  const std::string reason = obstacle(properties_of(index));
  if (!reason.empty()) throw Error("NO_DEVICE", reason);
}

Description describe() {
  Description description;
  for (const Architecture& built : built_architectures()) {
    description.architectures.push_back(capability(built.major, built.minor) + (built.ptx ? "+PTX" : ""));
  }
  try {
    description.runtime = version(runtime_version());
    if (const int driver = driver_version(); driver != 0) description.driver = version(driver);
    check_driver();
    const int count = device_count();
    bool any = false;
    for (int index = 0; index < count; ++index) {
      const cudaDeviceProp properties = properties_of(index);
      const std::string reason = obstacle(properties);
      any = any || reason.empty();
      description.devices.push_back({properties.name, capability(properties.major, properties.minor), reason});
    }
    if (count == 0)
      description.reason = "There is no CUDA device on this machine.";
    else if (!any)
      description.reason = description.devices.front().reason;
  } catch (const Error& error) {
    description.reason = error.what();
  }
  return description;
}

}  // namespace mtadam::cuda
