#include "engine/address_table.h"

#include <gtest/gtest.h>

#include <memory>

#include "counting_device.h"

namespace mtadam {
namespace {

using test::CountingDevice;

constexpr std::uint32_t kRows = 4;
constexpr std::uint32_t kColumns = 3;
constexpr std::size_t kRowBytes = kColumns * sizeof(float*);

class AddressTableTest : public testing::Test {
 protected:
  // The bytes that go to the device when these rows are used.
  std::size_t uploaded(std::uint32_t first, std::uint32_t count) {
    const std::size_t before = device_->written();
    float* const* rows = table_.on_device(first, count, nullptr);
    for (std::uint32_t row = 0; row < count; ++row) {
      for (std::uint32_t column = 0; column < kColumns; ++column) {
        EXPECT_EQ(rows[row * kColumns + column], table_.get(first + row, column)) << first + row << ", " << column;
      }
    }
    return device_->written() - before;
  }

  std::shared_ptr<CountingDevice> device_ = std::make_shared<CountingDevice>();
  AddressTable table_{device_, kRows, kColumns};
  float somewhere_[2] = {};
};

TEST_F(AddressTableTest, StartsWithAllAbsentAndNothingToUpload) { EXPECT_EQ(uploaded(0, kRows), 0u); }

TEST_F(AddressTableTest, UploadsARowOnceAfterItChanged) {
  table_.set(2, 1, &somewhere_[0]);
  table_.set(2, 2, &somewhere_[1]);
  EXPECT_EQ(uploaded(0, kRows), kRowBytes);
  EXPECT_EQ(uploaded(0, kRows), 0u);
  table_.set(2, 1, nullptr);
  EXPECT_EQ(uploaded(2, 1), kRowBytes);
  EXPECT_EQ(uploaded(2, 1), 0u);
}

TEST_F(AddressTableTest, UploadsNothingForAnAddressThatStays) {
  table_.set(1, 0, &somewhere_[0]);
  EXPECT_EQ(uploaded(1, 1), kRowBytes);
  table_.set(1, 0, &somewhere_[0]);
  EXPECT_EQ(uploaded(1, 1), 0u);
}

TEST_F(AddressTableTest, UploadsARowOnlyWhenItIsUsed) {
  table_.set(1, 0, &somewhere_[0]);
  table_.set(3, 0, &somewhere_[1]);
  EXPECT_EQ(uploaded(0, 1), 0u);
  EXPECT_EQ(uploaded(3, 1), kRowBytes);
  EXPECT_EQ(uploaded(1, 2), kRowBytes);
}

}  // namespace
}  // namespace mtadam
