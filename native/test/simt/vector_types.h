#pragma once

// CUDA's built-in vector types for a compiler that has no CUDA headers: same names, members, sizes and alignments.
// They are trivial, so a copy through a pointer is one access of the type's whole width.

#define SIMT_VECTOR_TYPES(element, name, alignment2, alignment4)            \
  struct alignas(alignment2) name##2 { element x, y; };                     \
  struct alignas(alignment4) name##4 { element x, y, z, w; };               \
  constexpr name##2 make_##name##2(element x, element y) { return {x, y}; } \
  constexpr name##4 make_##name##4(element x, element y, element z, element w) { return {x, y, z, w}; }

SIMT_VECTOR_TYPES(signed char, char, 2, 4)
SIMT_VECTOR_TYPES(unsigned char, uchar, 2, 4)
SIMT_VECTOR_TYPES(short, short, 4, 8)
SIMT_VECTOR_TYPES(unsigned short, ushort, 4, 8)
SIMT_VECTOR_TYPES(int, int, 8, 16)
SIMT_VECTOR_TYPES(unsigned, uint, 8, 16)
SIMT_VECTOR_TYPES(float, float, 8, 16)

#undef SIMT_VECTOR_TYPES

// Of the eight-byte elements only the pairs: CUDA deprecates the quads, whose alignment changed between versions.
#define SIMT_WIDE_PAIR(element, name)           \
  struct alignas(16) name##2 { element x, y; }; \
  constexpr name##2 make_##name##2(element x, element y) { return {x, y}; }

SIMT_WIDE_PAIR(long long, longlong)
SIMT_WIDE_PAIR(unsigned long long, ulonglong)
SIMT_WIDE_PAIR(double, double)

#undef SIMT_WIDE_PAIR

#define SIMT_TRIPLE(element, name)     \
  struct name##3 { element x, y, z; }; \
  constexpr name##3 make_##name##3(element x, element y, element z) { return {x, y, z}; }

SIMT_TRIPLE(int, int)
SIMT_TRIPLE(unsigned, uint)
SIMT_TRIPLE(float, float)

#undef SIMT_TRIPLE

struct dim3 {
  unsigned x, y, z;

  constexpr dim3(unsigned size_x = 1, unsigned size_y = 1, unsigned size_z = 1) : x(size_x), y(size_y), z(size_z) {}
  constexpr dim3(uint3 size) : x(size.x), y(size.y), z(size.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
};
