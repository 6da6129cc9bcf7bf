#include "test/simt/symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

namespace simt {

namespace {

/// A loaded program or library and where in it an address lies.
struct Module {
  std::string path;
  std::uintptr_t offset = 0;  ///< of the address, as the file counts
};

int find_module(dl_phdr_info* info, std::size_t, void* data) {
  auto& [address, module] = *static_cast<std::pair<std::uintptr_t, Module>*>(data);
  for (int k = 0; k < info->dlpi_phnum; ++k) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[k];
    const std::uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
    if (segment.p_type != PT_LOAD || address < begin || address >= begin + segment.p_memsz) continue;
    const bool program = info->dlpi_name == nullptr || info->dlpi_name[0] == '\0';
    module.path = program ? "/proc/self/exe" : info->dlpi_name;
    module.offset = address - info->dlpi_addr;
    return 1;
  }
  return 0;
}

/// A file's content for as long as the object lives; empty when it cannot be read.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    struct stat status {};
    if (fstat(file, &status) == 0 && status.st_size > 0) {
      bytes_ = static_cast<std::size_t>(status.st_size);
      void* mapped = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, file, 0);
      data_ = mapped == MAP_FAILED ? nullptr : static_cast<const char*>(mapped);
    }
    close(file);
  }
  ~MappedFile() {
    if (data_) munmap(const_cast<char*>(data_), bytes_);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  template <class T>
  const T* at(std::size_t offset, std::size_t count = 1) const {
    const bool inside = data_ && offset <= bytes_ && count <= (bytes_ - offset) / sizeof(T);
    return inside ? reinterpret_cast<const T*>(data_ + offset) : nullptr;
  }

 private:
  const char* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// The mangled name of the function at this offset; empty if none. Prefers the full symbol table to the exported names.
std::string symbol_at(const MappedFile& file, std::uintptr_t offset) {
  const auto* header = file.at<ElfW(Ehdr)>(0);
  if (!header) return {};
  const auto* sections = file.at<ElfW(Shdr)>(header->e_shoff, header->e_shnum);
  if (!sections) return {};
  for (const unsigned wanted : {SHT_SYMTAB, SHT_DYNSYM}) {
    for (unsigned k = 0; k < header->e_shnum; ++k) {
      const ElfW(Shdr)& table = sections[k];
      if (table.sh_type != wanted || table.sh_link >= header->e_shnum) continue;
      const std::size_t count = table.sh_size / sizeof(ElfW(Sym));
      const auto* symbols = file.at<ElfW(Sym)>(table.sh_offset, count);
      const char* names = file.at<char>(sections[table.sh_link].sh_offset, sections[table.sh_link].sh_size);
      if (!symbols || !names) continue;
      for (std::size_t s = 0; s < count; ++s) {
        const bool function = ELF64_ST_TYPE(symbols[s].st_info) == STT_FUNC && symbols[s].st_shndx != SHN_UNDEF;
        if (function && offset - symbols[s].st_value < symbols[s].st_size) return names + symbols[s].st_name;
      }
    }
  }
  return {};
}

std::string demangle(const std::string& symbol) {
  int status = 0;
  char* text = abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status);
  if (!text) return symbol;
  const std::string name = text;
  std::free(text);
  return name;
}

/// From `void a::f<(int)4, b<c> >(int, float (*)(int))` the part `a::f<(int)4, b<c> >`.
std::string without_signature(const std::string& declaration) {
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t k = 0; k < declaration.size(); ++k) {
    const char c = declaration[k];
    if (c == '<') ++depth;
    if (c == '>') --depth;
    if (depth > 0) continue;
    const bool parameters = c == '(' && declaration.compare(k, 21, "(anonymous namespace)") != 0;
    if (parameters) return declaration.substr(begin, k - begin);
    if (c == '(') k += 20;
    if (c == ' ' && declaration[k - 1] != '>') begin = k + 1;
    if (c == ' ' && declaration[k - 1] == '>' && declaration[k + 1] != '>' && declaration[k + 1] != '(') begin = k + 1;
  }
  return declaration.substr(begin);
}

std::string lookup(const void* address) {
  std::pair<std::uintptr_t, Module> query{reinterpret_cast<std::uintptr_t>(address), {}};
  dl_iterate_phdr(find_module, &query);
  const std::string symbol = symbol_at(MappedFile(query.second.path), query.second.offset);
  if (!symbol.empty()) return readable_name(symbol);
  char number[32];
  std::snprintf(number, sizeof number, "%p", address);
  return number;
}

}  // namespace

std::string readable_name(const std::string& symbol) { return without_signature(demangle(symbol)); }

std::string function_name(const void* address) {
  static std::mutex mutex;
  static auto& known = *new std::map<const void*, std::string>;
  const std::lock_guard lock(mutex);
  auto found = known.find(address);
  if (found == known.end()) found = known.emplace(address, lookup(address)).first;
  return found->second;
}

SourcePlace source_place(const void* return_address) {
  std::pair<std::uintptr_t, Module> query{reinterpret_cast<std::uintptr_t>(return_address) - 1, {}};
  dl_iterate_phdr(find_module, &query);
  std::string path = query.second.path;
  char program[4096];
  const ssize_t length = readlink(path.c_str(), program, sizeof program);
  if (length > 0) path.assign(program, static_cast<std::size_t>(length));
  if (path.empty() || path.find('\'') != std::string::npos) return {};

  char command[8192];
  std::snprintf(command, sizeof command, "addr2line -e '%s' 0x%zx 2>/dev/null", path.c_str(),
                static_cast<std::size_t>(query.second.offset));
  std::FILE* pipe = popen(command, "r");
  if (!pipe) return {};
  char line[4096] = "";
  const bool read = std::fgets(line, sizeof line, pipe) != nullptr;
  pclose(pipe);
  const std::string place = read ? line : "";
  const std::size_t colon = place.rfind(':');
  if (colon == std::string::npos || place[0] == '?') return {};
  return {place.substr(0, colon), static_cast<unsigned>(std::strtoul(place.c_str() + colon + 1, nullptr, 10))};
}

std::string unqualified(const std::string& name) {
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t k = 0; k < name.size(); ++k) {
    if (name[k] == '(') ++depth;
    if (name[k] == ')') --depth;
    if (depth > 0) continue;
    if (name[k] == '<') return name.substr(begin, k - begin);
    if (name[k] == ':') begin = k + 1;
  }
  return name.substr(begin);
}

}  // namespace simt
