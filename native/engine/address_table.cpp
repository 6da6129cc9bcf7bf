#include "engine/address_table.h"

#include <algorithm>

namespace mtadam {

AddressTable::AddressTable(std::shared_ptr<Device> device, std::uint32_t rows, std::uint32_t columns)
    : device_(std::move(device)),
      columns_(columns),
      addresses_(static_cast<std::size_t>(rows) * columns, nullptr),
      changed_(rows, false),  // the device's copy starts zeroed as well
      memory_(device_->allocate(addresses_.size() * sizeof(float*))) {}

std::unique_ptr<AddressTable> AddressTable::copy() const {
  auto table = std::make_unique<AddressTable>(device_, rows(), columns_);
  table->addresses_ = addresses_;
  table->changed_.assign(changed_.size(), true);
  return table;
}

void AddressTable::set(std::uint32_t row, std::uint32_t column, float* address) {
  float*& place_of = addresses_[place(row, column)];
  if (place_of == address) return;
  place_of = address;
  changed_[row] = true;
}

float* const* AddressTable::on_device(std::uint32_t first, std::uint32_t count, Stream stream) {
  auto* const copy = reinterpret_cast<float**>(memory_->data());
  for (std::uint32_t row = first; row < first + count; ++row) {
    if (!changed_[row]) continue;
    device_->write(copy + place(row, 0), addresses_.data() + place(row, 0), columns_ * sizeof(float*), stream);
    changed_[row] = false;
  }
  return copy + place(first, 0);
}

float* const* AddressTable::uploaded() const {
  const bool changed = std::find(changed_.begin(), changed_.end(), true) != changed_.end();
  return changed ? nullptr : reinterpret_cast<float* const*>(memory_->data());
}

}  // namespace mtadam
