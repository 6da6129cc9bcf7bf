#include <algorithm>
#include <cstring>

#include "test/ptx/opcodes.h"

// Loads, stores, atomics and fences. All threads of a grid see one memory in one order, so missing fences are not found
// here, but in the flavour tsan of native/test/simt.

namespace ptx {

namespace {

enum class Space { kGlobal, kShared, kParameter };

std::uint64_t address_of(const Thread& thread, const Instruction& self, Operand base, bool short_base) {
  const std::uint64_t begin = short_base ? thread.read<std::uint32_t>(base) : thread.read<std::uint64_t>(base);
  return begin + static_cast<std::uint64_t>(self.offset);
}

// The address is the last operand, so that the registers of a vector are the first.
constexpr std::size_t kAddress = 7;

template <Space kSpace, bool kShortBase>
std::byte* place(const Thread& thread, const Instruction& self, std::size_t element, bool write) {
  const std::uint64_t address = address_of(thread, self, self.operands[kAddress], kShortBase);
  const std::size_t bytes = element * self.count;
  if constexpr (kSpace == Space::kGlobal) return Block::global(thread, address, bytes, !write, write);
  if constexpr (kSpace == Space::kShared) return thread.block->shared(thread, address, bytes, !write, write);
  return const_cast<std::byte*>(thread.block->parameter(thread, address, bytes));
}

/// `T` in memory becomes `R`, which is as wide or wider, in a register.
template <Space kSpace, bool kShortBase, class T, class R>
void load(Thread& thread, const Instruction& self) {
  const std::byte* const from = place<kSpace, kShortBase>(thread, self, sizeof(T), false);
  for (std::size_t k = 0; k < self.count; ++k) {
    T value;
    std::memcpy(&value, from + k * sizeof value, sizeof value);
    thread.write(self.operands[k], static_cast<R>(value));
  }
}

/// The low bits of each register.
template <Space kSpace, bool kShortBase, class T>
void store(Thread& thread, const Instruction& self) {
  std::byte* const to = place<kSpace, kShortBase>(thread, self, sizeof(T), true);
  for (std::size_t k = 0; k < self.count; ++k) {
    const T value = thread.read<T>(self.operands[k]);
    std::memcpy(to + k * sizeof value, &value, sizeof value);
  }
}

using Run = void (*)(Thread&, const Instruction&);

template <Space kSpace, bool kShortBase, class T>
Run pick_load(std::size_t register_bytes) {
  // The cast to R extends as T has a sign or has none.
  if (register_bytes == sizeof(T)) return &load<kSpace, kShortBase, T, T>;
  if (register_bytes == 2) return &load<kSpace, kShortBase, T, std::uint16_t>;
  if (register_bytes == 4) return &load<kSpace, kShortBase, T, std::uint32_t>;
  return &load<kSpace, kShortBase, T, std::uint64_t>;
}

/// An access, as its opcode describes it.
struct Access {
  Space space = Space::kGlobal;  // and what has no space: no kernel makes a generic address of a shared one
  bool stores = false;
  std::uint8_t count = 1;
  std::string type;
};

template <Space kSpace, bool kShortBase>
Run pick(const Access& access, std::size_t register_bytes) {
  const auto typed = [&]<class T>(T) -> Run {
    if constexpr (kSpace == Space::kParameter) return pick_load<kSpace, kShortBase, T>(register_bytes);
    return access.stores ? &store<kSpace, kShortBase, T> : pick_load<kSpace, kShortBase, T>(register_bytes);
  };
  const bool sign = access.type[0] == 's';
  switch (bytes_of_type(access.type)) {
    case 1:
      return sign ? typed(std::int8_t{}) : typed(std::uint8_t{});
    case 2:
      return sign ? typed(std::int16_t{}) : typed(std::uint16_t{});
    case 4:
      return sign ? typed(std::int32_t{}) : typed(std::uint32_t{});
    default:
      return typed(std::uint64_t{});
  }
}

Access read_access(const Names& names, const Statement& statement, const std::vector<std::string>& words) {
  Access access;
  access.stores = words[0] == "st";
  access.type = words.back();
  if (bytes_of_type(access.type) == 0) names.refuse(statement, "not known as a type");
  for (std::size_t k = 1; k + 1 < words.size(); ++k) {
    const std::string& word = words[k];
    if (word == "v2" || word == "v4") {
      access.count = static_cast<std::uint8_t>(word[1] - '0');
    } else if (word == "shared") {
      access.space = Space::kShared;
    } else if (word == "param" && !access.stores) {
      access.space = Space::kParameter;
    } else if (word != "global" && word != "cs" && word != (access.stores ? "wb" : "ca") &&
               (access.stores || word != "cg")) {
      names.refuse(statement, word + " is not known");
    }
  }
  if (access.count * bytes_of_type(access.type) > 16) names.refuse(statement, "no access is wider than 16 bytes");
  return access;
}

void set_address(Names& names, const Statement& statement, const std::string& text, const Access& access,
                 Instruction& instruction, bool& short_base) {
  const Address address = names.address(statement, text);
  short_base = address.base_bytes == 4;
  if (!short_base && address.base_bytes != 8) names.refuse(statement, text + " is not known as an address");
  if (short_base && access.space != Space::kShared) names.refuse(statement, "an address of 32 bits is a shared one");
  instruction.operands[kAddress] = address.base;
  instruction.offset = address.offset;
}

void decode_access(Names& names, const Statement& statement, const std::vector<std::string>& words,
                   Instruction& instruction) {
  const Access access = read_access(names, statement, words);
  if (statement.operands.size() != 2) names.refuse(statement, "two operands are due");
  bool short_base = false;
  set_address(names, statement, statement.operands[access.stores ? 0 : 1], access, instruction, short_base);
  const std::string& values = statement.operands[access.stores ? 1 : 0];
  const bool vector = values.starts_with("{");
  const std::vector<std::string> parts =
      vector ? split(values.substr(1, values.size() - 2), ',') : std::vector<std::string>{values};
  if (parts.size() != access.count || vector != (access.count > 1)) names.refuse(statement, "another vector is due");
  const std::size_t bytes = bytes_of_type(access.type);
  std::size_t register_bytes = bytes;
  for (std::size_t k = 0; k < parts.size(); ++k) {
    if (access.stores && !parts[k].starts_with("%")) {
      instruction.operands[k] = names.source(statement, parts[k], {bytes});
      continue;
    }
    const Register reg = names.wide(statement, parts[k], bytes);
    if (k > 0 && reg.kind.bytes != register_bytes) names.refuse(statement, "the registers differ in width");
    register_bytes = reg.kind.bytes;
    instruction.operands[k] = {reg.place};
  }
  instruction.count = access.count;
  instruction.run = access.space == Space::kGlobal      ? pick<Space::kGlobal, false>(access, register_bytes)
                    : access.space == Space::kParameter ? pick<Space::kParameter, false>(access, register_bytes)
                    : short_base                        ? pick<Space::kShared, true>(access, register_bytes)
                                                        : pick<Space::kShared, false>(access, register_bytes);
}

/// Lets other threads run first, now and then.
void give_way(Thread& thread) {
  if (thread.block->switches()) thread.state = State::kGivesWay;
}

void add(Thread& thread, const Instruction& self) {
  const std::uint64_t address = address_of(thread, self, self.operands[kAddress], false);
  std::byte* const at = Block::global(thread, address, sizeof(std::uint64_t), true, true);
  std::uint64_t before;
  std::memcpy(&before, at, sizeof before);
  const std::uint64_t after = before + thread.read<std::uint64_t>(self.operands[1]);
  std::memcpy(at, &after, sizeof after);
  thread.write(self.operands[0], before);
  give_way(thread);
}

}  // namespace

bool decode_memory(Names& names, const Statement& statement, Instruction& instruction) {
  const std::vector<std::string> words = split(statement.opcode, '.');
  if (words.size() > 1 && (words[0] == "ld" || words[0] == "st")) {
    decode_access(names, statement, words, instruction);
    return true;
  }
  if (statement.opcode == "fence.acq_rel.gpu" && statement.operands.empty()) {
    instruction.run = [](Thread& thread, const Instruction&) { give_way(thread); };
    return true;
  }
  if (statement.opcode == "atom.global.add.u64" && statement.operands.size() == 3) {
    bool short_base = false;
    set_address(names, statement, statement.operands[1], {}, instruction, short_base);
    instruction.operands[0] = names.destination(statement, statement.operands[0], kind_of<std::uint64_t>());
    instruction.operands[1] = names.source(statement, statement.operands[2], kind_of<std::uint64_t>());
    instruction.run = &add;
    return true;
  }
  return false;
}

}  // namespace ptx
