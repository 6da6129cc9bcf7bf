#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/device.h"

namespace mtadam {

/// Addresses of tensors, rows × columns (term × parameter), on the host and on the device. A row is uploaded when it
/// is used after it changed, and at no other time.
class AddressTable {
 public:
  AddressTable(std::shared_ptr<Device> device, std::uint32_t rows, std::uint32_t columns);

  /// The same addresses, in a table of their own.
  std::unique_ptr<AddressTable> copy() const;

  std::uint32_t rows() const { return static_cast<std::uint32_t>(changed_.size()); }
  std::uint32_t columns() const { return columns_; }
  float* get(std::uint32_t row, std::uint32_t column) const { return addresses_[place(row, column)]; }
  void set(std::uint32_t row, std::uint32_t column, float* address);

  /// The rows first .. first + count on the device, as they are now for what comes next on `stream`.
  float* const* on_device(std::uint32_t first, std::uint32_t count, Stream stream);
  /// All rows on the device; null where one has changed since it was uploaded.
  float* const* uploaded() const;

  /// Frees the memory on the device. Nothing but the destructor may follow.
  void release() { memory_.reset(); }

 private:
  std::size_t place(std::uint32_t row, std::uint32_t column) const {
    return static_cast<std::size_t>(row) * columns_ + column;
  }

  std::shared_ptr<Device> device_;
  std::uint32_t columns_;
  std::vector<float*> addresses_;
  std::vector<bool> changed_;  // per row
  std::unique_ptr<Memory> memory_;
};

}  // namespace mtadam
