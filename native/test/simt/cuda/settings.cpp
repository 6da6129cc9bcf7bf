#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>

#include "test/simt/control.h"
#include "test/simt/executor.h"

namespace simt::cuda {

namespace {

[[noreturn]] void refuse(const std::string& word) {
  throw std::invalid_argument("settings of the SIMT executor: what is \"" + word + "\"?");
}

std::uint64_t number(const std::string& text) {
  std::size_t end = 0;
  std::uint64_t value = 0;
  try {
    value = std::stoull(text, &end);
  } catch (const std::exception&) {
    refuse(text);
  }
  if (end != text.size()) refuse(text);
  return value;
}

template <class T>
T one_of(const std::map<std::string, T>& names, const std::string& text) {
  const auto found = names.find(text);
  if (found == names.end()) refuse(text);
  return found->second;
}

const std::map<std::string, Execution> kExecutions{
    {"eager", Execution::kEager}, {"lazy", Execution::kLazy}, {"random", Execution::kRandom}};
const std::map<std::string, Order> kOrders{
    {"ascending", Order::kAscending}, {"descending", Order::kDescending}, {"random", Order::kRandom}};

}  // namespace

void reset_from(const std::string& words) {
  Settings settings;
  Config config;
  const std::map<std::string, std::function<void(const std::string&)>> keys{
      {"devices", [&](const std::string& text) { settings.devices = static_cast<int>(number(text)); }},
      {"driver", [&](const std::string& text) { settings.driver = number(text) != 0; }},
      {"driver_version", [&](const std::string& text) { settings.driver_version = static_cast<int>(number(text)); }},
      {"memory", [&](const std::string& text) { settings.memory = number(text) << 20; }},
      {"execution", [&](const std::string& text) { settings.execution = one_of(kExecutions, text); }},
      {"order", [&](const std::string& text) { config.order = one_of(kOrders, text); }},
      {"resident_blocks",
       [&](const std::string& text) { config.resident_blocks = static_cast<unsigned>(number(text)); }},
      {"seed", [&](const std::string& text) { settings.seed = config.seed = number(text); }},
      {"hide_device_memory", [&](const std::string& text) { settings.hide_device_memory = number(text) != 0; }},
      {"free_synchronises", [&](const std::string& text) { settings.free_synchronises = number(text) != 0; }},
      {"pools", [&](const std::string& text) { settings.pools = number(text) != 0; }},
      {"quarantine", [&](const std::string& text) { settings.quarantine = number(text) << 20; }},
  };
  std::istringstream stream(words);
  for (std::string word; stream >> word;) {
    const std::size_t equals = word.find('=');
    const auto key = keys.find(word.substr(0, equals));
    if (equals == std::string::npos || key == keys.end()) refuse(word);
    key->second(word.substr(equals + 1));
  }
  reset(settings);
  configure(config);
}

}  // namespace simt::cuda
