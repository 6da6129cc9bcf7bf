#include "test/ptx/library.h"

#include <atomic>
#include <fstream>
#include <sstream>

#include "test/ptx/machine.h"
#include "test/simt/executor.h"
#include "test/simt/symbols.h"

namespace ptx {

namespace {

std::atomic<Library*> current{nullptr};

[[noreturn]] void refuse(const std::string& why) { throw simt::Error(simt::Fault::kLaunch, why); }

std::vector<std::byte> parameters_of(const Kernel& kernel, std::span<const simt::Argument> arguments) {
  if (arguments.size() != kernel.parameters.size()) refuse("another number of parameters than in the PTX");
  std::vector<std::byte> bytes(kernel.parameter_bytes, std::byte{0xcb});
  for (std::size_t k = 0; k < arguments.size(); ++k) {
    if (arguments[k].bytes != kernel.parameters[k].bytes) refuse("a parameter of another size than in the PTX");
    std::memcpy(bytes.data() + kernel.parameter_places[k], arguments[k].data, arguments[k].bytes);
  }
  return bytes;
}

void launch(dim3 grid, dim3 block, const simt::BoundKernel& call, const simt::Config& config, std::uint64_t seed) {
  const std::string name = simt::function_name(call.function);
  const Kernel* const kernel = current.load()->find(name);
  if (kernel == nullptr) refuse("there is no PTX for " + name);
  if (grid.y * grid.z * block.y * block.z != 1) refuse("only grids and blocks of one dimension are known");
  if (block.x > kernel->most_threads) refuse("more threads than the PTX is compiled for");
  run({*kernel, parameters_of(*kernel, call.arguments), grid.x, block.x, config, seed});
}

}  // namespace

void Library::add(const std::string& file, std::string_view text) {
  for (KernelText& kernel : read_kernels(file, text)) {
    const std::string name = simt::readable_name(kernel.symbol);
    entries_[name] = {std::move(kernel)};
  }
}

void Library::add_file(const std::string& path) {
  std::ifstream stream(path);
  std::ostringstream text;
  text << stream.rdbuf();
  if (!stream) throw std::runtime_error("cannot read " + path);
  add(path.substr(path.rfind('/') + 1), text.str());
}

void Library::edit(const std::function<void(KernelText&)>& change) {
  for (auto& [name, entry] : entries_) {
    change(entry.text);
    entry.decoded = false;
  }
}

const Kernel* Library::find(const std::string& name) {
  const auto found = entries_.find(name);
  if (found == entries_.end()) return nullptr;
  Entry& entry = found->second;
  if (!entry.decoded) entry.kernel = decode(entry.text);
  entry.decoded = true;
  entry.launches += 1;
  return &entry.kernel;
}

std::vector<std::string> Library::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

std::uint64_t Library::launches(const std::string& name) const { return entries_.at(name).launches; }

void launch_from(Library& library) {
  current = &library;
  simt::run_kernels_by(&launch);
}

}  // namespace ptx
