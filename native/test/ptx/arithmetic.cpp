#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <unordered_map>
#include <utility>

#include "test/ptx/opcodes.h"

// Opcodes that make a register of others. Each float operation is rounded. NaNs may have any bits, as in all tests.

namespace ptx {

namespace {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s8 = std::int8_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;
using f32 = float;
using f64 = double;

struct Arithmetic {
  void (*run)(Thread&, const Instruction&);
  std::vector<Kind> kinds;  ///< of the destination, then of the sources
};
using Table = std::unordered_map<std::string, Arithmetic>;

template <class Function, class R, class... A>
void apply(Thread& thread, const Instruction& self) {
  [&]<std::size_t... k>(std::index_sequence<k...>) {
    thread.write<R>(self.operands[0], Function{}(thread.read<A>(self.operands[k + 1])...));
  }
  (std::index_sequence_for<A...>{});
}

template <class Function, class R, class... A>
Arithmetic typed(R (*)(A...)) {
  return {&apply<Function, R, A...>, {kind_of<R>(), kind_of<A>()...}};
}

/// The opcode of a function without captures, whose parameters' types are those of the operands.
template <class Function>
Arithmetic as(Function function) {
  return typed<Function>(+function);
}

u32 inserted(u32 part, u32 into, u32 position, u32 length) {
  position = std::min(position & 0xff, 32u);
  length = std::min(length & 0xff, 32 - position);
  const u64 mask = ((u64{1} << length) - 1) << position;
  return static_cast<u32>((into & ~mask) | ((u64{part} << position) & mask));
}

u32 extracted(u32 from, u32 position, u32 length) {
  position = std::min(position & 0xff, 32u);
  length = std::min(length & 0xff, 32 - position);
  return static_cast<u32>(u64{from} >> position & ((u64{1} << length) - 1));
}

u32 permuted(u32 low, u32 high, u32 selector) {
  const u64 bytes = low | u64{high} << 32;
  u32 result = 0;
  for (u32 k = 0; k < 4; ++k) {
    const u32 select = selector >> (4 * k) & 15;
    const u32 byte = static_cast<u32>(bytes >> (8 * (select & 7)) & 0xff);
    const u32 sign = (byte & 0x80) != 0 ? 0xff : 0;
    result |= ((select & 8) != 0 ? sign : byte) << (8 * k);
  }
  return result;
}

u32 reversed(u32 bits) {
  u32 result = 0;
  for (u32 k = 0; k < 32; ++k) result |= (bits >> k & 1) << (31 - k);
  return result;
}

s32 truncated(f64 value) {
  if (std::isnan(value)) return 0;
  return static_cast<s32>(std::clamp(value, -2147483648.0, 2147483647.0));
}

template <class T>
void add_comparisons(Table& table, const std::string& type) {
  table["setp.eq." + type] = as([](T a, T b) { return a == b; });
  table["setp.ne." + type] = as([](T a, T b) { return a < b || a > b; });
  table["setp.lt." + type] = as([](T a, T b) { return a < b; });
  table["setp.le." + type] = as([](T a, T b) { return a <= b; });
  table["setp.gt." + type] = as([](T a, T b) { return a > b; });
  table["setp.ge." + type] = as([](T a, T b) { return a >= b; });
}

/// Those that a NaN makes true.
template <class T>
void add_unordered_comparisons(Table& table, const std::string& type) {
  table["setp.equ." + type] = as([](T a, T b) { return !(a < b || a > b); });
  table["setp.neu." + type] = as([](T a, T b) { return !(a == b); });
  table["setp.ltu." + type] = as([](T a, T b) { return !(a >= b); });
  table["setp.leu." + type] = as([](T a, T b) { return !(a > b); });
  table["setp.gtu." + type] = as([](T a, T b) { return !(a <= b); });
  table["setp.geu." + type] = as([](T a, T b) { return !(a < b); });
  table["setp.nan." + type] = as([](T a, T b) { return std::isnan(a) || std::isnan(b); });
  table["setp.num." + type] = as([](T a, T b) { return !std::isnan(a) && !std::isnan(b); });
}

/// For all types of as many bytes; `T` is unsigned.
template <class T>
void add_moves(Table& table, const std::string& bits) {
  for (const char type : {'b', 'u', 's', 'f'}) {
    if (type == 'f' && sizeof(T) < 4) continue;
    table[std::string("mov.") + type + bits] = as([](T a) { return a; });
    table[std::string("selp.") + type + bits] = as([](T a, T b, bool p) { return p ? a : b; });
  }
}

/// Sums and products modulo 2ⁿ, which are the same with a sign and without; `T` is unsigned.
template <class T>
void add_integers(Table& table, const std::string& bits) {
  for (const std::string type : {".u", ".s"}) {
    const std::string suffix = type + bits;
    table["add" + suffix] = as([](T a, T b) { return a + b; });
    table["sub" + suffix] = as([](T a, T b) { return a - b; });
    table["mul.lo" + suffix] = as([](T a, T b) { return a * b; });
    table["mad.lo" + suffix] = as([](T a, T b, T c) { return a * b + c; });
  }
  table["neg.s" + bits] = as([](T a) { return 0 - a; });
  // Division by zero gives all ones.
  table["div.u" + bits] = as([](T a, T b) { return b == 0 ? ~T{0} : a / b; });
  table["min.u" + bits] = as([](T a, T b) { return std::min(a, b); });
  table["max.u" + bits] = as([](T a, T b) { return std::max(a, b); });
}

/// `T` is unsigned, `S` the same with a sign.
template <class T, class S>
void add_bits(Table& table, const std::string& bits) {
  constexpr u32 kBits = 8 * sizeof(T);
  table["and.b" + bits] = as([](T a, T b) { return static_cast<T>(a & b); });
  table["or.b" + bits] = as([](T a, T b) { return static_cast<T>(a | b); });
  table["xor.b" + bits] = as([](T a, T b) { return static_cast<T>(a ^ b); });
  table["not.b" + bits] = as([](T a) { return static_cast<T>(~a); });
  table["shl.b" + bits] = as([](T a, u32 n) { return n < kBits ? static_cast<T>(a << n) : T{0}; });
  table["shr.u" + bits] = as([](T a, u32 n) { return n < kBits ? static_cast<T>(a >> n) : T{0}; });
  table["shr.s" + bits] = as([](S a, u32 n) { return static_cast<S>(a >> std::min(n, kBits - 1)); });
}

/// Only operations that round to nearest and keep subnormals. Anything else, such as `.ftz` or `.approx`, is unknown,
/// and so is an addition without `.rn`, which a compiler may contract.
template <class T>
void add_floats(Table& table, const std::string& type) {
  table["add.rn." + type] = as([](T a, T b) { return a + b; });
  table["sub.rn." + type] = as([](T a, T b) { return a - b; });
  table["mul.rn." + type] = as([](T a, T b) { return a * b; });
  table["div.rn." + type] = as([](T a, T b) { return a / b; });
  table["fma.rn." + type] = as([](T a, T b, T c) { return std::fma(a, b, c); });
  table["sqrt.rn." + type] = as([](T a) { return std::sqrt(a); });
  table["abs." + type] = as([](T a) { return std::fabs(a); });
  table["neg." + type] = as([](T a) { return -a; });
  table["copysign." + type] = as([](T sign, T a) { return std::copysign(a, sign); });
}

void add_conversions(Table& table) {
  table["cvt.u16.u32"] = as([](u32 a) { return static_cast<u16>(a); });
  table["cvt.u16.u64"] = as([](u64 a) { return static_cast<u16>(a); });
  table["cvt.u32.u16"] = as([](u16 a) { return u32{a}; });
  table["cvt.u32.u64"] = as([](u64 a) { return static_cast<u32>(a); });
  table["cvt.u64.u32"] = as([](u32 a) { return u64{a}; });
  table["cvt.s32.s8"] = as([](s8 a) { return s32{a}; });
  table["cvt.s32.s16"] = as([](s16 a) { return s32{a}; });
  table["cvt.s64.s32"] = as([](s32 a) { return s64{a}; });
  table["cvt.f64.f32"] = as([](f32 a) { return f64{a}; });
  table["cvt.rn.f32.f64"] = as([](f64 a) { return static_cast<f32>(a); });
  table["cvt.rn.f64.s32"] = as([](s32 a) { return static_cast<f64>(a); });
  table["cvt.rn.f64.u32"] = as([](u32 a) { return static_cast<f64>(a); });
  table["cvt.rzi.s32.f64"] = as([](f64 a) { return truncated(a); });
  table["cvta.to.global.u64"] = as([](u64 a) { return a; });
  table["mul.wide.u16"] = as([](u16 a, u16 b) { return u32{a} * b; });
  table["mul.wide.u32"] = as([](u32 a, u32 b) { return u64{a} * b; });
  table["mul.wide.s32"] = as([](s32 a, s32 b) { return s64{a} * b; });
}

Table make_table() {
  Table table;
  add_comparisons<u16>(table, "u16");
  add_comparisons<u32>(table, "u32");
  add_comparisons<u64>(table, "u64");
  add_comparisons<std::int16_t>(table, "s16");
  add_comparisons<s32>(table, "s32");
  add_comparisons<s64>(table, "s64");
  add_comparisons<f32>(table, "f32");
  add_comparisons<f64>(table, "f64");
  add_unordered_comparisons<f32>(table, "f32");
  add_unordered_comparisons<f64>(table, "f64");
  table["setp.eq.b32"] = table["setp.eq.u32"];
  table["setp.ne.b32"] = table["setp.ne.u32"];
  table["setp.eq.b64"] = table["setp.eq.u64"];
  table["setp.ne.b64"] = table["setp.ne.u64"];
  add_moves<u16>(table, "16");
  add_moves<u32>(table, "32");
  add_moves<u64>(table, "64");
  table["mov.pred"] = as([](bool a) { return a; });
  table["and.pred"] = as([](bool a, bool b) { return a && b; });
  table["or.pred"] = as([](bool a, bool b) { return a || b; });
  table["xor.pred"] = as([](bool a, bool b) { return a != b; });
  table["not.pred"] = as([](bool a) { return !a; });
  add_integers<u32>(table, "32");
  add_integers<u64>(table, "64");
  add_bits<u16, std::int16_t>(table, "16");
  add_bits<u32, s32>(table, "32");
  add_bits<u64, s64>(table, "64");
  table["bfi.b32"] = as([](u32 a, u32 b, u32 c, u32 d) { return inserted(a, b, c, d); });
  table["bfe.u32"] = as([](u32 a, u32 b, u32 c) { return extracted(a, b, c); });
  table[kHighHalf] = as([](u32 a) { return static_cast<u16>(a >> 16); });
  table["prmt.b32"] = as([](u32 a, u32 b, u32 c) { return permuted(a, b, c); });
  table["brev.b32"] = as([](u32 a) { return reversed(a); });
  table["bfind.shiftamt.u32"] = as([](u32 a) { return a == 0 ? ~0u : static_cast<u32>(std::countl_zero(a)); });
  table["max.s32"] = as([](s32 a, s32 b) { return std::max(a, b); });
  table["min.s32"] = as([](s32 a, s32 b) { return std::min(a, b); });
  add_floats<f32>(table, "f32");
  add_floats<f64>(table, "f64");
  add_conversions(table);
  return table;
}

/// `mov.b64` between a register and the two halves of its bits.
bool decode_halves(Names& names, const Statement& statement, Instruction& instruction) {
  if (statement.opcode != "mov.b64" || statement.operands.size() != 2) return false;
  const auto halves = [&](const std::string& text) {
    std::vector<std::string> parts = split(text.substr(1, text.size() - 2), ',');
    if (parts.size() != 2) names.refuse(statement, "two halves are due");
    return parts;
  };
  const std::string &to = statement.operands[0], &from = statement.operands[1];
  if (to.starts_with("{")) {
    const auto parts = halves(to);
    for (std::size_t k = 0; k < 2; ++k)
      instruction.operands[k] = names.destination(statement, parts[k], kind_of<u32>());
    instruction.operands[2] = names.source(statement, from, kind_of<u64>());
    instruction.run = [](Thread& thread, const Instruction& self) {
      const u64 bits = thread.read<u64>(self.operands[2]);
      thread.write(self.operands[0], static_cast<u32>(bits));
      thread.write(self.operands[1], static_cast<u32>(bits >> 32));
    };
    return true;
  }
  if (!from.starts_with("{")) return false;
  const auto parts = halves(from);
  instruction.operands[0] = names.destination(statement, to, kind_of<u64>());
  for (std::size_t k = 0; k < 2; ++k) instruction.operands[k + 1] = names.source(statement, parts[k], kind_of<u32>());
  instruction.run = [](Thread& thread, const Instruction& self) {
    thread.write(self.operands[0], thread.read<u32>(self.operands[1]) | u64{thread.read<u32>(self.operands[2])} << 32);
  };
  return true;
}

}  // namespace

bool decode_arithmetic(Names& names, const Statement& statement, Instruction& instruction) {
  if (decode_halves(names, statement, instruction)) return true;
  static const Table table = make_table();
  const auto found = table.find(statement.opcode);
  if (found == table.end()) return false;
  const std::vector<Kind>& kinds = found->second.kinds;
  if (statement.operands.size() != kinds.size()) names.refuse(statement, "another number of operands is due");
  instruction.run = found->second.run;
  instruction.operands[0] = names.destination(statement, statement.operands[0], kinds[0]);
  for (std::size_t k = 1; k < kinds.size(); ++k) {
    instruction.operands[k] = names.source(statement, statement.operands[k], kinds[k]);
  }
  return true;
}

}  // namespace ptx
