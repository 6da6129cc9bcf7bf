#include "mpi/mpi.h"

#include <algorithm>
#include <climits>
#include <cstring>
#include <utility>
#include <vector>

#include "engine/errors.h"
#include "engine/shared_library.h"
#include "mpi/watchdog.h"

namespace mtadam::mpi {

#ifdef _WIN32

std::shared_ptr<Collective> open(const std::vector<std::string>&, double) {
  throw Error("DISTRIBUTED", "`connectMpi` must be called on Linux or macOS.");
}

#else

namespace {

constexpr int kSerialized = 2;            // MPI_THREAD_SERIALIZED, in both ABIs
constexpr std::size_t kTextBytes = 8192;  // MPI_MAX_LIBRARY_VERSION_STRING and MPI_MAX_ERROR_STRING are at most this

class Library : public SharedLibrary {
 public:
  // RTLD_GLOBAL: the plugins of Open MPI look for its symbols.
  explicit Library(const std::vector<std::string>& names) : SharedLibrary(names, RTLD_NOW | RTLD_GLOBAL) {
    if (!is_open()) throw Error("DISTRIBUTED", "No MPI library could be loaded (" + reasons() + ").");
  }

  template <class Pointer>
  void set(Pointer& pointer, const char* name) const {
    if (SharedLibrary::set(pointer, name)) return;
    throw Error("DISTRIBUTED", std::string("The MPI library has no ") + name + ".");
  }
};

// The types of handles and the values of constants are those of the libraries' ABIs.

/// Handles are the addresses of objects in the library.
struct OpenMpi {
  using Handle = void*;
  static Handle handle(const Library& library, const char* name, int) {
    Handle value = nullptr;
    library.set(value, name);
    return value;
  }
  static void* in_place() { return reinterpret_cast<void*>(std::uintptr_t{1}); }
};

/// Handles are numbers.
struct Mpich {
  using Handle = int;
  static Handle handle(const Library&, const char*, int value) { return value; }
  static void* in_place() { return reinterpret_cast<void*>(~std::uintptr_t{0}); }
};

/// Counts and places as MPI takes them.
struct Ints {
  explicit Ints(const Parts& parts)
      : counts(parts.counts.begin(), parts.counts.end()), starts(parts.starts.begin(), parts.starts.end()) {
    if (parts.end() > INT_MAX) throw Error("DISTRIBUTED", "An exchange must have fewer than 2**31 elements.");
  }
  std::vector<int> counts, starts;
};

/// "Open MPI v4.1.4, package: …" and "MPICH Version:\t4.0.2\n…" without what follows, and with one space.
std::string short_name(const std::string& version) {
  std::string name = version.substr(0, version.find_first_of(",\n"));
  const std::size_t colon = name.find(" Version:");
  if (colon != std::string::npos) name.erase(colon, std::strlen(" Version:"));
  std::replace(name.begin(), name.end(), '\t', ' ');
  return name;
}

template <class Abi>
class MpiWorld final : public Collective {
 public:
  using Handle = typename Abi::Handle;

  MpiWorld(const Library& library, double timeout) : watchdog_(timeout) {
    library.set(f_.init_thread, "MPI_Init_thread");
    library.set(f_.initialized, "MPI_Initialized");
    library.set(f_.finalize, "MPI_Finalize");
    library.set(f_.comm_rank, "MPI_Comm_rank");
    library.set(f_.comm_size, "MPI_Comm_size");
    library.set(f_.comm_dup, "MPI_Comm_dup");
    library.set(f_.comm_free, "MPI_Comm_free");
    library.set(f_.set_errhandler, "MPI_Comm_set_errhandler");
    library.set(f_.error_string, "MPI_Error_string");
    library.set(f_.library_version, "MPI_Get_library_version");
    library.set(f_.allgatherv, "MPI_Allgatherv");
    library.set(f_.reduce_scatter, "MPI_Reduce_scatter");
    library.set(f_.alltoallv, "MPI_Alltoallv");
    const Handle world = Abi::handle(library, "ompi_mpi_comm_world", 0x44000000);
    byte_ = Abi::handle(library, "ompi_mpi_byte", 0x4c00010d);
    float_ = Abi::handle(library, "ompi_mpi_float", 0x4c00040a);
    add_ = Abi::handle(library, "ompi_mpi_op_sum", 0x58000003);
    const Handle errors_return = Abi::handle(library, "ompi_mpi_errors_return", 0x54000001);
    int initialized = 0, provided = 0, rank = 0, size = 0;
    call("MPI_Initialized", f_.initialized, &initialized);
    if (initialized != 0)
      throw Error("DISTRIBUTED", "`connectMpi` must be called once per process, before other uses of MPI.");
    call("MPI_Init_thread", f_.init_thread, nullptr, nullptr, kSerialized, &provided);
    open_ = true;
    call("MPI_Comm_set_errhandler", f_.set_errhandler, world, errors_return);
    // Of our own, which inherits the handler: nobody else's messages can meet ours.
    call("MPI_Comm_dup", f_.comm_dup, world, &world_);
    call("MPI_Comm_rank", f_.comm_rank, world_, &rank);
    call("MPI_Comm_size", f_.comm_size, world_, &size);
    rank_ = static_cast<std::uint32_t>(rank);
    size_ = static_cast<std::uint32_t>(size);
    watchdog_.set_rank(rank_);
    if (provided >= kSerialized && size_ > 1) worker_ = std::make_unique<Worker>();
    std::vector<char> text(kTextBytes);
    int length = 0;
    call("MPI_Get_library_version", f_.library_version, text.data(), &length);
    library_ = short_name(text.data());
  }

  std::uint32_t rank() const override { return rank_; }
  std::uint32_t size() const override { return size_; }
  std::string library() const override { return library_; }
  Worker* worker() override { return worker_.get(); }

  void name_call(const std::string& name) override {
    wait_for_jobs();
    watchdog_.set_call(name);
  }

  void close() override {
    wait_for_jobs();
    if (!open_) return;
    watchdog_.set_call("close");
    call("MPI_Comm_free", f_.comm_free, &world_);
    call("MPI_Finalize", f_.finalize);
    open_ = false;
  }

  void gather(void* all, const Parts& parts, Stream) override {
    enter();
    const Ints ints(parts);
    call("MPI_Allgatherv", f_.allgatherv, Abi::in_place(), 0, byte_, all, ints.counts.data(), ints.starts.data(), byte_,
         world_);
  }

  void reduce_scatter(const float* all, const Parts& parts, float* sum, Stream) override {
    enter();
    const Ints ints(parts);
    // MPI's own way to sum in place leaves the sum at the start of `all`.
    const bool in_place = sum == all + parts.starts[rank_];
    if (in_place) sum_.resize(parts.counts[rank_]);
    call("MPI_Reduce_scatter", f_.reduce_scatter, all, in_place ? sum_.data() : sum, ints.counts.data(), float_, add_,
         world_);
    if (in_place) std::copy(sum_.begin(), sum_.end(), sum);
  }

  void all_to_all(const void* from, const Parts& sent, void* to, const Parts& received, Stream) override {
    enter();
    const Ints outgoing(sent), incoming(received);
    call("MPI_Alltoallv", f_.alltoallv, from, outgoing.counts.data(), outgoing.starts.data(), byte_, to,
         incoming.counts.data(), incoming.starts.data(), byte_, world_);
  }

 private:
  // Keeps calls of two threads apart: MPI_THREAD_SERIALIZED allows one at a time.
  void wait_for_jobs() {
    if (worker_ != nullptr) worker_->wait();
  }

  void enter() {
    wait_for_jobs();
    if (!open_) throw Error("DISTRIBUTED", "The communicator has been closed.");
  }

  template <class Function, class... Arguments>
  void call(const char* name, Function* function, Arguments... arguments) {
    int status = 0;
    {
      const Watched watched(watchdog_, name);
      status = function(arguments...);
    }
    if (status == 0) return;
    std::vector<char> text(kTextBytes);
    int length = 0;
    f_.error_string(status, text.data(), &length);
    throw Error("DISTRIBUTED", std::string(name) + " failed: " + text.data() + ".");
  }

  struct Functions {
    int (*init_thread)(int*, char***, int, int*);
    int (*initialized)(int*);
    int (*finalize)();
    int (*comm_rank)(Handle, int*);
    int (*comm_size)(Handle, int*);
    int (*comm_dup)(Handle, Handle*);
    int (*comm_free)(Handle*);
    int (*set_errhandler)(Handle, Handle);
    int (*error_string)(int, char*, int*);
    int (*library_version)(char*, int*);
    int (*allgatherv)(const void*, int, Handle, void*, const int*, const int*, Handle, Handle);
    int (*reduce_scatter)(const void*, void*, const int*, Handle, Handle, Handle);
    int (*alltoallv)(const void*, const int*, const int*, Handle, void*, const int*, const int*, Handle, Handle);
  } f_{};
  Handle world_{}, byte_{}, float_{}, add_{};
  std::vector<float> sum_;
  Watchdog watchdog_;
  std::unique_ptr<Worker> worker_;
  std::uint32_t rank_ = 0, size_ = 1;
  std::string library_;
  bool open_ = false;
};

}  // namespace

std::shared_ptr<Collective> open(const std::vector<std::string>& libraries, double timeout) {
  const Library library(libraries);
  if (library.find("ompi_mpi_comm_world") != nullptr) return std::make_shared<MpiWorld<OpenMpi> >(library, timeout);
  return std::make_shared<MpiWorld<Mpich> >(library, timeout);
}

#endif

}  // namespace mtadam::mpi
