#include <algorithm>
#include <map>
#include <regex>

#include "test/ptx/instruction.h"
#include "test/ptx/names.h"
#include "test/ptx/opcodes.h"

namespace ptx {

namespace {

class Decoder {
 public:
  explicit Decoder(const KernelText& text) : text_(text), kernel_(empty(text)), names_(kernel_) {}

  Kernel decode() {
    for (const Line& line : text_.body) read(line);
    if (!unfinished_.text.empty() || !names_.complete()) refuse(text_.body.back(), "the kernel ends too early");
    for (const auto& [instruction, statement] : branches_) {
      const auto label = labels_.find(statement.operands[0]);
      if (label == labels_.end()) names_.refuse(statement, "no such label");
      kernel_.code[instruction].target = label->second;
    }
    Instruction& last = kernel_.code.emplace_back();
    last.run = &fall_off;
    last.line = text_.body.back().number;
    kernel_.frame_bytes = (kernel_.frame_bytes + 7) / 8 * 8;
    // Operands count constants from the first one down; a thread finds them from their end.
    std::reverse(kernel_.constants.begin(), kernel_.constants.end());
    for (Instruction& instruction : kernel_.code) {
      for (Operand& operand : instruction.operands) {
        if (operand.place < 0) operand.place *= static_cast<std::int32_t>(sizeof(std::uint64_t));
      }
    }
    return std::move(kernel_);
  }

 private:
  static Kernel empty(const KernelText& text) {
    Kernel kernel;
    kernel.file = text.file;
    kernel.symbol = text.symbol;
    kernel.parameters = text.parameters;
    kernel.most_threads = text.most_threads;
    return kernel;
  }

  void read(const Line& line) {
    static const std::regex label(R"((\$?\w+):)");
    // What compilers ask of compilers after them.
    static const std::regex pragma(R"-(\.pragma\s+"(nounroll|used_bytes_mask \d+)";)-");
    std::smatch match;
    if (!unfinished_.text.empty()) {
      unfinished_.text += " " + line.text;
    } else if (names_.declare(line) || std::regex_match(line.text, pragma)) {
      return;
    } else if (std::regex_match(line.text, match, label)) {
      labels_[match[1]] = static_cast<std::uint32_t>(kernel_.code.size());
      return;
    } else if (line.text[0] == '.') {
      refuse(line, "not known as a directive");
    } else {
      unfinished_ = line;
    }
    if (!unfinished_.text.ends_with(";")) return;
    add(read_statement(text_.file, unfinished_));
    unfinished_ = {};
  }

  void add(const Statement& statement) {
    Instruction instruction;
    if (!decode_control(statement, instruction) && !decode_arithmetic(names_, statement, instruction) &&
        !decode_memory(names_, statement, instruction) && !decode_meeting(names_, statement, instruction)) {
      names_.refuse(statement, "not known as an opcode");
    }
    if (!statement.guard.empty()) {
      instruction.guarded = true;
      instruction.negated = statement.negated;
      instruction.guard = names_.destination(statement, statement.guard, kind_of<bool>());
    }
    instruction.line = statement.line;
    kernel_.code.push_back(instruction);
  }

  bool decode_control(const Statement& statement, Instruction& instruction) {
    if (statement.opcode == "bra" || statement.opcode == "bra.uni") {
      if (statement.operands.size() != 1) names_.refuse(statement, "a branch has one target");
      branches_.emplace_back(kernel_.code.size(), statement);
      instruction.run = [](Thread& thread, const Instruction& self) { thread.pc = self.target; };
      return true;
    }
    if (statement.opcode == "ret" && statement.operands.empty()) {
      instruction.run = [](Thread& thread, const Instruction&) { thread.state = State::kEnded; };
      return true;
    }
    return false;
  }

  static void fall_off(Thread& thread, const Instruction&) {
    thread.fail(simt::Fault::kAddress, "the kernel ended without a return");
  }

  [[noreturn]] void refuse(const Line& line, const std::string& why) const {
    throw NotUnderstood(text_.file, line.number, why + ": " + line.text);
  }

  const KernelText& text_;
  Kernel kernel_;
  Names names_;
  Line unfinished_{};
  std::map<std::string, std::uint32_t> labels_;
  std::vector<std::pair<std::size_t, Statement>> branches_;
};

}  // namespace

Kernel decode(const KernelText& text) { return Decoder(text).decode(); }

}  // namespace ptx
