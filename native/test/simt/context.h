#pragma once

#include <cstddef>

namespace simt {

/// Prepares a stack so that the first switch to it calls `entry`, which must not return. Returns the stack pointer to
/// switch to. `top` is a multiple of 16.
void* prepare_context(void* top, void (*entry)());

}  // namespace simt

/// Saves the callee-saved registers and the stack pointer, and continues where `to` was saved. The floating-point
/// control word is not saved: no kernel changes it, and all fibers of a launch share their host thread's.
extern "C" void simt_switch_context(void** from, void* to);
