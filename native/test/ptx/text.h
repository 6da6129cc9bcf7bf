#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

// A PTX file as text: its kernels, and their lines.

namespace ptx {

/// The text has an unknown word, or one in the wrong place. what() begins with file and line.
class NotUnderstood : public std::runtime_error {
 public:
  NotUnderstood(const std::string& file, unsigned line, const std::string& text)
      : std::runtime_error(file + ":" + std::to_string(line) + ": " + text) {}
};

struct Line {
  unsigned number;
  std::string text;  ///< without comments and without space around it
};

struct Parameter {
  std::string name;
  std::size_t bytes;
  std::size_t alignment;
};

struct KernelText {
  std::string file;
  std::string symbol;
  std::vector<Parameter> parameters;
  unsigned most_threads = 1024;  ///< of a block
  std::vector<Line> body;        ///< begins with the file's shared variables
};

/// An instruction's words: `@!%p1 bra $L;` has a guard, an opcode and an operand.
struct Statement {
  unsigned line = 0;
  std::string guard;  ///< a predicate register, or empty
  bool negated = false;
  std::string opcode;
  std::vector<std::string> operands;  ///< a vector {…} and an address […] are one each
};

/// The opcode that read_kernels() makes of `{ .reg .b16 tmp; mov.b32 {tmp, x}, y; }`: x is the high half of y.
inline constexpr const char* kHighHalf = "mov.high.b32";

/// Throws NotUnderstood.
std::vector<KernelText> read_kernels(const std::string& file, std::string_view text);
/// An instruction, which ends in a semicolon.
Statement read_statement(const std::string& file, const Line& line);

/// The parts between separators outside of brackets, trimmed.
std::vector<std::string> split(std::string_view text, char separator);
std::string trimmed(std::string_view text);
/// Bytes of a type, such as `u32`; 0 where it is none.
std::size_t bytes_of_type(std::string_view type);

}  // namespace ptx
