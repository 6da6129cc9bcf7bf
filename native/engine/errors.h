#pragma once

#include <stdexcept>
#include <string>

namespace mtadam {

/// An error that reaches the user: `code` without its prefix ERR_MTADAM_, and one sentence.
class Error : public std::runtime_error {
 public:
  Error(std::string code, const std::string& message) : std::runtime_error(message), code_(std::move(code)) {}
  const std::string& code() const { return code_; }

 private:
  std::string code_;
};

}  // namespace mtadam
