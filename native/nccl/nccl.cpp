#include "nccl/nccl.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>

#include "engine/errors.h"
#include "nccl/api.h"

namespace mtadam::nccl {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kBetweenLooks{100};
constexpr std::chrono::microseconds kBetweenPolls{50};

/// A communicator. Its collectives run on a stream of the device's own, between two events of the caller's stream. A
/// thread aborts the communicator when one of them has failed or is late.
class NcclWorld final : public Collective {
 public:
  explicit NcclWorld(const Member& member)
      : api_(load(member.libraries)),
        library_(version_of(api_)),
        rank_(member.rank),
        size_(member.size),
        device_(member.device),
        stream_(device_->own_stream()),
        timeout_(std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(member.timeout))),
        before_(device_->make_event()),
        after_(device_->make_event()) {
    UniqueId id;
    std::memcpy(id.bytes, member.id.data(), sizeof id.bytes);
    Config config;
    call("ncclCommInitRankConfig", [&] {
      return api_.comm_init_rank_config(&comm_, static_cast<int>(size_), id, static_cast<int>(rank_), &config);
    });
    try {
      watcher_ = std::thread([this] { watch(); });
    } catch (const std::system_error& error) {
      abort("");
      throw Error("DISTRIBUTED", "NCCL cannot be watched: " + std::string(error.what()) + ".");
    }
  }

  ~NcclWorld() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopped_ = true;
      // Not finalized: that would wait for other ranks. At the end of the process, the driver may be gone.
      try {
        abort("");
      } catch (const Error&) {
      }
    }
    changed_.notify_one();
    watcher_.join();
  }

  std::uint32_t rank() const override { return rank_; }
  std::uint32_t size() const override { return size_; }
  std::string library() const override { return library_; }
  bool on_device() const override { return true; }

  void name_call(const std::string& name) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    name_ = name;
  }

  void check() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    look();
    check_locked();
  }

  void close() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (comm_ == nullptr) return;
    }
    name_call("close");
    call("ncclCommFinalize", [&] { return api_.comm_finalize(comm_); });
    const std::lock_guard<std::mutex> lock(mutex_);
    device_->make_current([&] { api_.comm_destroy(comm_); });
    comm_ = nullptr;
    failure_ = "The communicator has been closed.";
  }

  void gather(void* all, const Parts& parts, Stream stream) override {
    in_order(stream, [&] { gather_parts(all, parts.counts[rank_]); });
  }

  void gather_on_host(void* all, const Parts& parts) override {
    check();
    const std::size_t each = *std::max_element(parts.counts.begin(), parts.counts.end());
    if (each == 0) return;
    if (small_ == nullptr || small_->size() < each * size_) small_ = device_->allocate(each * size_);
    std::byte* const bytes = static_cast<std::byte*>(all);
    device_->write(small_->data() + each * rank_, bytes + parts.starts[rank_], parts.counts[rank_], stream_);
    in_order(stream_, [&] { gather_parts(small_->data(), each); });
    std::vector<std::byte> gathered(each * size_);
    device_->read(gathered.data(), small_->data(), gathered.size(), stream_);
    check();
    for (std::uint32_t rank = 0; rank < size_; ++rank) {
      std::copy_n(gathered.data() + each * rank, parts.counts[rank], bytes + parts.starts[rank]);
    }
  }

  void reduce_scatter(const float* all, const Parts& parts, float* sum, Stream stream) override {
    in_order(stream, [&] {
      call("ncclReduceScatter",
           [&] { return api_.reduce_scatter(all, sum, parts.counts[rank_], kFloat32, kSum, comm_, stream_); });
    });
  }

  void all_to_all(const void* from, const Parts& sent, void* to, const Parts& received, Stream stream) override {
    in_order(stream, [&] {
      call("ncclSend", [&] {
        Result result = api_.group_start();
        for (std::uint32_t rank = 0; rank < size_; ++rank) {
          const auto keep = [&](Result other) {
            if (result == kSuccess || result == kInProgress) result = other;
          };
          const std::byte* const out = static_cast<const std::byte*>(from) + sent.starts[rank];
          std::byte* const in = static_cast<std::byte*>(to) + received.starts[rank];
          const int peer = static_cast<int>(rank);
          keep(api_.send(out, sent.counts[rank], kUint8, peer, comm_, stream_));
          keep(api_.receive(in, received.counts[rank], kUint8, peer, comm_, stream_));
        }
        const Result end = api_.group_end();
        return result == kSuccess || result == kInProgress ? end : result;
      });
    });
  }

 private:
  void gather_parts(void* all, std::size_t bytes) {
    call("ncclAllGather", [&] {
      return api_.all_gather(static_cast<std::byte*>(all) + bytes * rank_, all, bytes, kUint8, comm_, stream_);
    });
  }

  // Runs a collective after the work on the caller's stream and before the later work there.
  template <class Body>
  void in_order(Stream stream, const Body& body) {
    if (stream != stream_) {
      before_->record(stream);
      before_->make_wait(stream_);
    }
    body();
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      after_->record(stream_);
      deadline_ = Clock::now() + timeout_;
    }
    if (stream != stream_) after_->make_wait(stream);
  }

  // Calls a function of the library, and polls until the call is done.
  template <class Function>
  void call(const char* name, const Function& function) {
    const Clock::time_point deadline = Clock::now() + timeout_;
    Result result = kSuccess;
    std::unique_lock<std::mutex> lock(mutex_);
    check_locked();
    device_->make_current([&] { result = function(); });
    while (result == kInProgress) {
      if (Clock::now() > deadline) abort(late(name));
      lock.unlock();
      std::this_thread::sleep_for(kBetweenPolls);
      lock.lock();
      check_locked();
      api_.comm_get_async_error(comm_, &result);
    }
    if (result == kSuccess) return;
    abort(std::string(name) + " failed: " + reason(result) + ".");
    check_locked();
  }

  void watch() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!stopped_) {
      changed_.wait_until(lock, Clock::now() + kBetweenLooks);
      if (stopped_ || comm_ == nullptr) continue;
      try {
        look();
        if (Clock::now() <= deadline_) continue;
        deadline_ = Clock::time_point::max();
        if (!after_->is_reached()) abort(late("a collective"));
      } catch (const std::exception& error) {
        // The driver may be gone: nothing can be aborted any more, and nobody can catch this here.
        failure_ = error.what();
        comm_ = nullptr;
      }
    }
  }

  // Aborts if a collective has failed on the device. The lock is held.
  void look() {
    if (comm_ == nullptr) return;
    Result state = kSuccess;
    api_.comm_get_async_error(comm_, &state);
    if (state == kSuccess || state == kInProgress) return;
    abort("Rank " + std::to_string(rank_) + " cannot go on with `" + name_ + "`: " + reason(state) + ".");
  }

  std::string late(const std::string& operation) const {
    return waited_too_long(rank_, std::chrono::duration<double>(timeout_).count(), name_, operation);
  }

  std::string reason(Result result) const {
    std::string text = api_.get_error_string(result);
    const char* const last = api_.get_last_error(comm_);
    if (last != nullptr && *last != '\0') text += std::string(", ") + last;
    return text;
  }

  // The lock is held. Only the first failure is kept.
  void abort(const std::string& failure) {
    if (failure_.empty()) failure_ = failure;
    const Comm comm = comm_;
    comm_ = nullptr;
    if (comm != nullptr) device_->make_current([&] { api_.comm_abort(comm); });
  }

  void check_locked() const {
    if (!failure_.empty()) throw Error("DISTRIBUTED", failure_);
  }

  Api api_;
  std::string library_;
  std::uint32_t rank_, size_;
  std::shared_ptr<Device> device_;
  Stream stream_;
  Clock::duration timeout_;
  std::unique_ptr<Event> before_, after_;
  std::unique_ptr<Memory> small_;
  std::mutex mutex_;  // of the rest
  std::condition_variable changed_;
  Comm comm_ = nullptr;
  std::string name_ = "connectNccl", failure_;
  Clock::time_point deadline_ = Clock::time_point::max();  // of the collective before after_
  bool stopped_ = false;
  std::thread watcher_;
};

}  // namespace

Id make_id(const std::vector<std::string>& libraries) {
  const Api api = load(libraries);
  UniqueId made;
  const Result result = api.get_unique_id(&made);
  if (result != kSuccess) {
    throw Error("DISTRIBUTED", std::string("ncclGetUniqueId failed: ") + api.get_error_string(result) + ".");
  }
  Id id;
  std::memcpy(id.data(), made.bytes, id.size());
  return id;
}

std::shared_ptr<Collective> open(const Member& member) { return std::make_shared<NcclWorld>(member); }

}  // namespace mtadam::nccl
