#pragma once

#include <map>
#include <string>
#include <type_traits>
#include <vector>

#include "test/ptx/instruction.h"

// The names in a kernel's text, used while it is decoded.

namespace ptx {

/// What an instruction takes as an operand.
struct Kind {
  std::size_t bytes;
  bool predicate = false;
};

template <class T>
constexpr Kind kind_of() {
  return {sizeof(T), std::is_same_v<T, bool>};
}

struct Register {
  std::int32_t place;
  Kind kind;
};

/// `[base + offset]`.
struct Address {
  Operand base;
  std::size_t base_bytes;
  std::int64_t offset;
};

class Names {
 public:
  explicit Names(Kernel& kernel);

  // ---- Declarations; false where the line is none ----
  bool declare(const Line& line);
  /// Every scope that was opened has been closed.
  bool complete() const { return scopes_.size() == 1; }

  // ---- Operands ----
  Operand source(const Statement& statement, const std::string& text, Kind kind);
  Operand destination(const Statement& statement, const std::string& text, Kind kind) const;
  /// Of a load or store of `bytes` an element: it may be wider than these.
  Register wide(const Statement& statement, const std::string& text, std::size_t bytes) const;
  Address address(const Statement& statement, const std::string& text);
  Operand constant(std::uint64_t bits);

  [[noreturn]] void refuse(const Statement& statement, const std::string& why) const;

 private:
  const Register* find(const std::string& name) const;
  Register known(const Statement& statement, const std::string& name) const;
  Register add_register(const Line& line, const std::string& type);
  void declare_registers(const Line& line);
  void declare_shared(const Line& line);
  [[noreturn]] void refuse(const Line& line, const std::string& why) const;

  Kernel& kernel_;
  std::vector<std::map<std::string, Register>> scopes_{1};
  std::map<std::string, std::uint64_t> symbols_;  ///< shared variables and parameters
  std::map<std::uint64_t, std::int32_t> constants_;
};

/// Whether a register can hold the kind. A byte is the lowest byte of any register.
bool holds(const Register& reg, Kind kind);

}  // namespace ptx
