#pragma once

#include <string>

namespace simt {

/// The function that holds this address, as its symbol reads without result and parameters: `mtadam::scale<float, 4>`.
/// From the symbol table of the program or library on disk, so names of internal linkage are found too; without one,
/// the address as a number.
std::string function_name(const void* address);

/// The same of a symbol.
std::string readable_name(const std::string& symbol);

struct SourcePlace {
  std::string file;
  unsigned line = 0;
};

/// The line that compiled to the instruction before this return address; an empty file where there is no debug
/// information, or no addr2line to read it. Starts a process: only for error messages.
SourcePlace source_place(const void* return_address);

/// A name without its namespaces and template arguments.
std::string unqualified(const std::string& name);

}  // namespace simt
