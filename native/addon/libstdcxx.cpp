#include <new>

// The headers of GCC 11 and newer call this function wherever a container grows; the libstdc++ of GCC 8, the oldest
// that the addon must load with, does not have it. So the addon brings its own, which exports.map hides. GCC's packages
// for older systems do the same.
#if defined(_GLIBCXX_RELEASE) && _GLIBCXX_RELEASE >= 11

namespace std {

// NOLINTNEXTLINE(cert-dcl58-cpp): it stands in for the library's own
[[noreturn]] void __throw_bad_array_new_length() { throw bad_array_new_length(); }

}  // namespace std

#endif
