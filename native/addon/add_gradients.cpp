#include "addon/add_gradients.h"

#include <vector>

#include "addon/arguments.h"
#include "addon/optimizer.h"

namespace mtadam::addon {
namespace {

std::byte* checked_address(Optimizer& optimizer, const Napi::Value& gradient, std::size_t bytes) {
  std::byte* const begin = address(gradient, bytes);
  if (gradient.IsBigInt()) optimizer.check_gradient(begin, bytes);
  if (optimizer.ranges().overlap(begin, begin + bytes) < 0) return begin;
  throw Error("INVALID_POINTER", "must not overlap a parameter; got one that does.");
}

/// Reads the pairs of one call; errors name the pair and, where they can, its half.
class Pairs {
 public:
  Pairs(Optimizer& optimizer, const Napi::CallbackInfo& info)
      : optimizer_(optimizer),
        targets_(info[0].As<Napi::Array>()),
        sources_(info[1].As<Napi::Array>()),
        parameters_(elements<std::uint32_t>(info[2], targets_.Length())) {}

  std::uint32_t count() const { return targets_.Length(); }

  Addition at(std::uint32_t k) const {
    const std::vector<Tensor>& tensors = optimizer_.get().layout().tensors();
    if (parameters_[k] >= tensors.size()) throw index_error(targets_.Env());
    const Tensor& tensor = tensors[parameters_[k]];
    const std::size_t bytes = tensor.length * element_bytes(tensor.gradient);
    std::byte* const target = half(k, targets_, "target", bytes);
    const std::byte* const source = half(k, sources_, "source", bytes);
    if (target != source && target < source + bytes && source < target + bytes) {
      const Error shifted("INVALID_POINTER", "must not overlap its source in part; got one that does.");
      throw coded_error(targets_.Env(), shifted, k);
    }
    return {target, source, tensor.length, tensor.gradient};
  }

 private:
  std::byte* half(std::uint32_t k, const Napi::Array& gradients, const char* role, std::size_t bytes) const {
    try {
      return checked_address(optimizer_, gradients.Get(k), bytes);
    } catch (const DeviceError&) {
      throw;
    } catch (const Error& error) {
      Napi::Error named = coded_error(gradients.Env(), error, k);
      named.Set("role", role);
      throw named;
    }
  }

  Optimizer& optimizer_;
  Napi::Array targets_, sources_;
  const std::uint32_t* parameters_;
};

}  // namespace

void add_gradients(Optimizer& optimizer, const Napi::CallbackInfo& info) {
  const Pairs pairs(optimizer, info);
  const Stream stream = stream_of(info[3], *optimizer.device());
  std::vector<Addition> additions;
  additions.reserve(pairs.count());
  for (std::uint32_t k = 0; k < pairs.count(); ++k) additions.push_back(pairs.at(k));
  optimizer.get().add(additions, stream);
}

}  // namespace mtadam::addon
