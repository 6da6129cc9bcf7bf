// What the sanitizers need to know where fibers run, for programs; a shared library gets it through the environment.
// A fake stack would not follow a fiber that waits.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "detect_stack_use_after_return=0"; }

extern "C" const char* __tsan_default_options();
extern "C" const char* __tsan_default_options() { return "halt_on_error=1:exitcode=66:history_size=2"; }
