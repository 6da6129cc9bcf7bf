#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace mtadam {

/// An error that reaches the user: `code` without its prefix ERR_MTADAM_, and one sentence.
class Error : public std::runtime_error {
 public:
  Error(std::string code, const std::string& message) : std::runtime_error(message), code_(std::move(code)) {}
  const std::string& code() const { return code_; }

 private:
  std::string code_;
};

/// A call of a device's own runtime that failed.
class DeviceError : public Error {
 public:
  DeviceError(std::string code, const std::string& message, std::string status, std::string operation)
      : Error(std::move(code), message), status_(std::move(status)), operation_(std::move(operation)) {}

  /// The runtime's name of the error.
  const std::string& status() const { return status_; }
  /// The call that failed.
  const std::string& operation() const { return operation_; }

 private:
  std::string status_;
  std::string operation_;
};

}  // namespace mtadam
