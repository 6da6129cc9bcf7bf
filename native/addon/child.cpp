#include "addon/child.h"

#ifdef __linux__
#  include <sys/syscall.h>
#  include <sys/wait.h>
#  include <unistd.h>

#  include <csignal>
#endif

#include "addon/arguments.h"

namespace mtadam::addon {

#ifdef __linux__

namespace {

// P_PIDFD: the oldest C libraries that the addon runs on do not declare it.
constexpr auto kPidDescriptor = static_cast<idtype_t>(3);

}  // namespace

Child::Child(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Child>(info) {
  descriptor_ = static_cast<int>(syscall(SYS_pidfd_open, number(info[0]), 0));
}

Child::~Child() {
  if (descriptor_ < 0) return;
  // If libuv has already waited for the child, the signal fails, and nothing is left to reap.
  if (syscall(SYS_pidfd_send_signal, descriptor_, SIGKILL, nullptr, 0) == 0) {
    siginfo_t ended;
    waitid(kPidDescriptor, static_cast<id_t>(descriptor_), &ended, WEXITED);
  }
  close(descriptor_);
}

#else

Child::Child(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Child>(info) {}

Child::~Child() = default;

#endif

Napi::Function Child::define(Napi::Env env) { return DefineClass(env, "Child", {}); }

}  // namespace mtadam::addon
