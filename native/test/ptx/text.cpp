#include "test/ptx/text.h"

#include <cctype>
#include <regex>

namespace ptx {

std::string trimmed(std::string_view text) {
  const auto is_space = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return std::string(text);
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  int depth = 0;
  for (std::size_t k = 0; k < text.size(); ++k) {
    if (text[k] == '{' || text[k] == '[') ++depth;
    if (text[k] == '}' || text[k] == ']') --depth;
    if (text[k] != separator || depth > 0) continue;
    parts.push_back(trimmed(text.substr(begin, k - begin)));
    begin = k + 1;
  }
  const std::string last = trimmed(text.substr(begin));
  if (!last.empty() || !parts.empty()) parts.push_back(last);
  return parts;
}

std::size_t bytes_of_type(std::string_view type) {
  if (type.size() < 2 || std::string_view("bsuf").find(type[0]) == std::string_view::npos) return 0;
  const std::string_view bits = type.substr(1);
  const bool small = type[0] != 'f';
  return bits == "64" ? 8 : bits == "32" ? 4 : bits == "16" && small ? 2 : bits == "8" && small ? 1 : 0;
}

namespace {

class Reader {
 public:
  Reader(const std::string& file, std::string_view text) : file_(file) {
    unsigned number = 0;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string_view line = text.substr(begin, end - begin);
      const std::string content = trimmed(line.substr(0, line.find("//")));
      begin = end + 1;
      ++number;
      if (!content.empty()) add(number, content);
    }
  }

  std::vector<KernelText> kernels() {
    std::vector<KernelText> all;
    std::vector<Line> shared;
    for (; at_ < lines_.size(); ++at_) {
      const std::string& text = lines_[at_].text;
      if (text.starts_with(".version ") || text.starts_with(".target ") || text == ".address_size 64") continue;
      if (text.starts_with(".shared ")) {
        shared.push_back(lines_[at_]);
      } else {
        all.push_back(kernel(shared));
      }
    }
    return all;
  }

 private:
  // nvcc takes the high half of a register in a scope of its own.
  void add(unsigned number, const std::string& content) {
    static const std::regex high(R"(\{ \.reg \.b16 tmp; mov\.b32 \{tmp, (%\w+)\}, (%\w+); \})");
    std::smatch match;
    if (!std::regex_match(content, match, high)) return lines_.push_back({number, content});
    lines_.push_back({number, std::string(kHighHalf) + " " + match[1].str() + ", " + match[2].str() + ";"});
  }

  const Line& next() {
    if (at_ + 1 >= lines_.size()) refuse("the file ends within a kernel");
    return lines_[++at_];
  }
  [[noreturn]] void refuse(const std::string& why) const {
    throw NotUnderstood(file_, lines_[at_].number, why + ": " + lines_[at_].text);
  }

  KernelText kernel(const std::vector<Line>& shared) {
    static const std::regex begin(R"((?:\.visible|\.weak)\s+\.entry\s+(\w+)\()");
    std::smatch match;
    if (!std::regex_match(lines_[at_].text, match, begin)) refuse("not known outside of a kernel");
    KernelText kernel;
    kernel.file = file_;
    kernel.symbol = match[1];
    while (next().text != ")") kernel.parameters.push_back(parameter());
    while (next().text != "{") attribute(kernel);
    kernel.body = shared;
    for (int depth = 1; depth > 0;) {
      const Line& line = next();
      if (line.text == "{") ++depth;
      if (line.text == "}") --depth;
      if (depth > 0) kernel.body.push_back(line);
    }
    return kernel;
  }

  Parameter parameter() const {
    static const std::regex form(
        R"(\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(?:\.ptr\s+\.align\s+\d+\s+)?(\w+)(?:\[(\d+)\])?,?)");
    std::smatch match;
    if (!std::regex_match(lines_[at_].text, match, form)) refuse("not known as a parameter");
    const std::size_t element = bytes_of_type(match[2].str());
    if (element == 0) refuse("not known as a type");
    const std::size_t count = match[4].matched ? std::stoul(match[4]) : 1;
    return {match[3], element * count, match[1].matched ? std::stoul(match[1]) : element};
  }

  void attribute(KernelText& kernel) const {
    static const std::regex threads(R"(\.maxntid\s+(\d+)(?:, 1, 1)?)"), blocks(R"(\.minnctapersm\s+\d+)");
    std::smatch match;
    if (std::regex_match(lines_[at_].text, match, threads)) {
      kernel.most_threads = static_cast<unsigned>(std::stoul(match[1]));
    } else if (!std::regex_match(lines_[at_].text, blocks)) {
      refuse("not known as a kernel's attribute");
    }
  }

  const std::string& file_;
  std::vector<Line> lines_;
  std::size_t at_ = 0;
};

}  // namespace

std::vector<KernelText> read_kernels(const std::string& file, std::string_view text) {
  return Reader(file, text).kernels();
}

Statement read_statement(const std::string& file, const Line& line) {
  static const std::regex form(R"((?:@(!?)(%\w+)\s+)?([a-z][\w.]*)\s*([^;]*);)");
  std::smatch match;
  if (!std::regex_match(line.text, match, form)) throw NotUnderstood(file, line.number, "no instruction: " + line.text);
  return {line.number, match[2], match[1].length() > 0, match[3], split(match[4].str(), ',')};
}

}  // namespace ptx
