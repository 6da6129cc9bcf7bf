#include "test/simt/context.h"

#include <cstdint>

#if defined(__x86_64__)

asm(R"(
.text
.globl simt_switch_context
.hidden simt_switch_context
.type simt_switch_context, @function
simt_switch_context:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch_context, . - simt_switch_context
)");

namespace simt {

void* prepare_context(void* top, void (*entry)()) {
  constexpr int kSavedRegisters = 6;
  // A function is entered with its return address on top of the stack, 8 below a multiple of 16. The zero there ends a
  // debugger's backtrace.
  auto* frame = static_cast<std::uintptr_t*>(top);
  *--frame = 0;
  *--frame = reinterpret_cast<std::uintptr_t>(entry);
  for (int k = 0; k < kSavedRegisters; ++k) *--frame = 0;
  return frame;
}

}  // namespace simt

#elif defined(__aarch64__)

asm(R"(
.text
.globl simt_switch_context
.hidden simt_switch_context
.type simt_switch_context, %function
simt_switch_context:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size simt_switch_context, . - simt_switch_context
)");

namespace simt {

void* prepare_context(void* top, void (*entry)()) {
  constexpr int kSavedWords = 20;
  constexpr int kLinkRegister = 11;  // x30, where `ret` goes
  auto* frame = static_cast<std::uintptr_t*>(top) - kSavedWords;
  for (int k = 0; k < kSavedWords; ++k) frame[k] = 0;
  frame[kLinkRegister] = reinterpret_cast<std::uintptr_t>(entry);
  return frame;
}

}  // namespace simt

#else
#  error "The SIMT executor switches stacks on x86-64 and aarch64 only."
#endif
