// Options that the sanitizers need for fibers, in programs; for a shared library they come from the environment.
// Visible in spite of the project's preset, since the sanitizers' libraries look these functions up.
#define SIMT_VISIBLE extern "C" __attribute__((visibility("default")))

// A fake stack would not follow a fiber that waits.
SIMT_VISIBLE const char* __asan_default_options();
const char* __asan_default_options() { return "detect_stack_use_after_return=0"; }

SIMT_VISIBLE const char* __tsan_default_options();
const char* __tsan_default_options() { return "halt_on_error=1:exitcode=66:history_size=2"; }
