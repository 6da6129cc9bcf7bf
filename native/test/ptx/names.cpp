#include "test/ptx/names.h"

#include <algorithm>
#include <optional>
#include <regex>

namespace ptx {

namespace {

std::size_t round_up(std::size_t value, std::size_t step) { return (value + step - 1) / step * step; }

std::optional<std::int32_t> special_register(const std::string& name) {
  static const std::map<std::string, Special> specials{{"%tid.x", Special::kTidX},
                                                       {"%ctaid.x", Special::kCtaidX},
                                                       {"%ntid.x", Special::kNtidX},
                                                       {"%nctaid.x", Special::kNctaidX}};
  const auto found = specials.find(name);
  if (found == specials.end()) return std::nullopt;
  return static_cast<std::int32_t>(found->second);
}

/// The bits of a literal of this kind: 0f and eight digits, 0d and sixteen, or an integer.
std::optional<std::uint64_t> literal(const std::string& text, Kind kind) {
  static const std::regex single("0f[0-9A-Fa-f]{8}"), twice("0d[0-9A-Fa-f]{16}"),
      integer("-?(0x[0-9a-fA-F]+U?|[0-9]+)");
  if (std::regex_match(text, single) && kind.bytes == 4) return std::stoull(text.substr(2), nullptr, 16);
  if (std::regex_match(text, twice) && kind.bytes == 8) return std::stoull(text.substr(2), nullptr, 16);
  if (!std::regex_match(text, integer)) return std::nullopt;
  const bool negative = text[0] == '-';
  const std::uint64_t size = std::stoull(text.substr(negative ? 1 : 0), nullptr, 0);
  if (kind.predicate) return size != 0;
  const std::uint64_t most = kind.bytes == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * kind.bytes)) - 1;
  if (size > (negative ? most / 2 + 1 : most)) return std::nullopt;
  return negative ? 0 - size : size;
}

}  // namespace

bool holds(const Register& reg, Kind kind) {
  if (reg.kind.predicate != kind.predicate) return false;
  return reg.kind.bytes == kind.bytes || (kind.bytes == 1 && !kind.predicate);
}

Names::Names(Kernel& kernel) : kernel_(kernel) {
  for (const Parameter& parameter : kernel.parameters) {
    kernel.parameter_bytes = round_up(kernel.parameter_bytes, parameter.alignment);
    kernel.parameter_places.push_back(kernel.parameter_bytes);
    symbols_[parameter.name] = kernel.parameter_bytes;
    kernel.parameter_bytes += parameter.bytes;
  }
}

void Names::refuse(const Line& line, const std::string& why) const {
  throw NotUnderstood(kernel_.file, line.number, why + ": " + line.text);
}

void Names::refuse(const Statement& statement, const std::string& why) const {
  std::string text = statement.opcode;
  for (const std::string& operand : statement.operands) text += " " + operand;
  throw NotUnderstood(kernel_.file, statement.line, why + ": " + text);
}

// ---- Declarations ----

bool Names::declare(const Line& line) {
  const std::string& text = line.text;
  if (text == "{") {
    scopes_.emplace_back();
  } else if (text == "}") {
    if (complete()) refuse(line, "no scope is open");
    scopes_.pop_back();
  } else if (text.starts_with(".reg")) {
    declare_registers(line);
  } else if (text.starts_with(".shared")) {
    declare_shared(line);
  } else {
    return false;
  }
  return true;
}

Register Names::add_register(const Line& line, const std::string& type) {
  const bool predicate = type == "pred";
  const std::size_t bytes = predicate ? 1 : bytes_of_type(type);
  if (bytes == 0 || (bytes == 1 && !predicate)) refuse(line, "not known as a register's type");
  const std::size_t place = round_up(kernel_.frame_bytes, bytes);
  kernel_.frame_bytes = place + bytes;
  return {static_cast<std::int32_t>(place), {bytes, predicate}};
}

void Names::declare_registers(const Line& line) {
  static const std::regex form(R"(\.reg\s+\.(\w+)\s+(%\w+)(?:<(\d+)>)?;)");
  std::smatch match;
  if (!std::regex_match(line.text, match, form)) refuse(line, "not known as a declaration of registers");
  if (!match[3].matched) {
    scopes_.back()[match[2]] = add_register(line, match[1]);
    return;
  }
  const unsigned long count = std::stoul(match[3]);
  for (unsigned long k = 0; k < count; ++k) {
    scopes_.back()[match[2].str() + std::to_string(k)] = add_register(line, match[1]);
  }
}

void Names::declare_shared(const Line& line) {
  static const std::regex form(R"(\.shared\s+\.align\s+(\d+)\s+\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?;)");
  std::smatch match;
  if (!std::regex_match(line.text, match, form)) refuse(line, "not known as a shared variable");
  const std::size_t bytes = bytes_of_type(match[2].str()) * (match[4].matched ? std::stoul(match[4]) : 1);
  if (bytes == 0) refuse(line, "a shared variable of no known size");
  const std::size_t begin = round_up(kernel_.shared_bytes, std::stoul(match[1]));
  symbols_[match[3]] = begin;
  kernel_.shared.push_back({begin, bytes});
  kernel_.shared_bytes = begin + bytes + kSharedGap;
}

// ---- Operands ----

const Register* Names::find(const std::string& name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto found = scope->find(name);
    if (found != scope->end()) return &found->second;
  }
  return nullptr;
}

Register Names::known(const Statement& statement, const std::string& name) const {
  const Register* const found = find(name);
  if (found == nullptr) refuse(statement, name + " is no register");
  return *found;
}

Operand Names::constant(std::uint64_t bits) {
  const auto [found, added] = constants_.try_emplace(bits, static_cast<std::int32_t>(kernel_.constants.size()));
  if (added) kernel_.constants.push_back(bits);
  return {~found->second};
}

Operand Names::source(const Statement& statement, const std::string& text, Kind kind) {
  if (const auto special = special_register(text)) {
    if (kind.bytes != 4) refuse(statement, text + " has 32 bits");
    return {*special};
  }
  if (text.starts_with("%")) {
    const Register reg = known(statement, text);
    if (!holds(reg, kind)) refuse(statement, text + " is of another type");
    return {reg.place};
  }
  if (const auto symbol = symbols_.find(text); symbol != symbols_.end() && kind.bytes >= 4) {
    return constant(symbol->second);
  }
  const auto bits = literal(text, kind);
  if (!bits) refuse(statement, text + " is not known as an operand");
  return constant(*bits);
}

Operand Names::destination(const Statement& statement, const std::string& text, Kind kind) const {
  const Register reg = known(statement, text);
  if (!holds(reg, kind)) refuse(statement, text + " is of another type");
  return {reg.place};
}

Register Names::wide(const Statement& statement, const std::string& text, std::size_t bytes) const {
  const Register reg = known(statement, text);
  if (reg.kind.predicate || reg.kind.bytes < bytes) refuse(statement, text + " is of another type");
  return reg;
}

Address Names::address(const Statement& statement, const std::string& text) {
  static const std::regex form(R"(\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\d+))?\s*\])");
  std::smatch match;
  if (!std::regex_match(text, match, form)) refuse(statement, text + " is not known as an address");
  const std::int64_t offset = match[2].matched ? std::stoll(match[2]) : 0;
  const std::string base = match[1];
  const Register* const reg = find(base);
  const std::size_t bytes = reg != nullptr ? reg->kind.bytes : 8;
  return {source(statement, base, {bytes}), bytes, offset};
}

}  // namespace ptx
