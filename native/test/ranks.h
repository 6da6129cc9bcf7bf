#pragma once

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstring>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "engine/collective.h"

namespace mtadam::test {

/// A fault of the exchange, which tests must find.
enum class Fault {
  kNone,
  kNoExchange,    // each rank keeps what it has
  kFloat32Sums,   // sums of chunks lose half of their bits
  kOneChunkLess,  // the last 8 bytes of a gathered array do not arrive
  kTermsSwapped,  // arrays arrive in the place of the next one
};

/// Ranks that are threads of this process. They exchange data through one another's memory, between two barriers.
class Threads {
 public:
  /// `faulty`: bytes of the arrays whose gathering has the fault.
  explicit Threads(std::uint32_t size, Fault fault = Fault::kNone, std::size_t faulty = 0)
      : meeting_(static_cast<std::ptrdiff_t>(size)),
        places_(size),
        received_(size),
        sent_(size),
        fault_(fault),
        faulty_(faulty) {}

  /// From now on, arrays lie in memory of the ranks' devices, which must be host memory.
  void use_devices() { on_device_ = true; }

  /// From now on, each rank has a thread for exchanges. `delay`: before each of them, so that whoever does not wait
  /// comes too early.
  void use_workers(std::chrono::milliseconds delay = {}) {
    has_workers_ = true;
    delay_ = delay;
  }

  /// Bytes that a rank has received from others so far.
  std::size_t received(std::uint32_t rank) const { return received_[rank]; }
  /// Whether a rank has sent an array that lies there.
  bool sent_from(std::uint32_t rank, const void* array) const {
    return std::find(sent_[rank].begin(), sent_[rank].end(), array) != sent_[rank].end();
  }

  /// Calls body(collective) for each rank on a thread of its own; rethrows the error of the lowest rank that has one.
  void run(const std::function<void(std::shared_ptr<Collective>)>& body) {
    std::vector<std::thread> threads;
    std::vector<std::exception_ptr> errors(places_.size());
    for (std::uint32_t rank = 0; rank < places_.size(); ++rank) {
      threads.emplace_back([&, rank] {
        const auto own = std::make_shared<Rank>(*this, rank);
        try {
          body(own);
        } catch (...) {
          errors[rank] = std::current_exception();
        }
        own->wait_for_jobs();
        if (errors[rank]) meeting_.arrive_and_drop();
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::exception_ptr& error : errors) {
      if (error) std::rethrow_exception(error);
    }
  }

 private:
  struct Place {
    const std::byte* from;
    Parts parts;
  };

  class Rank final : public Collective {
   public:
    Rank(Threads& threads, std::uint32_t rank) : threads_(threads), rank_(rank) {
      if (threads.has_workers_) worker_ = std::make_unique<Worker>();
    }
    std::uint32_t rank() const override { return rank_; }
    std::uint32_t size() const override { return static_cast<std::uint32_t>(threads_.places_.size()); }

    bool on_device() const override { return threads_.on_device_; }
    Worker* worker() override { return worker_.get(); }

    void gather(void* all, const Parts& parts, Stream) override {
      check_equal(parts);
      gather_on_host(all, parts);
    }

    void gather_on_host(void* all, const Parts& parts) override {
      wait_for_jobs();
      std::byte* const bytes = static_cast<std::byte*>(all);
      threads_.received_[rank_] += parts.end() - parts.counts[rank_];
      exchange(bytes, parts, [&] {
        if (threads_.fault_ == Fault::kNoExchange && parts.end() == threads_.faulty_) return;
        for (std::uint32_t other = 0; other < size(); ++other) {
          if (other == rank_ || parts.counts[other] == 0) continue;
          std::memcpy(bytes + parts.starts[other], threads_.places_[other].from + parts.starts[other],
                      parts.counts[other]);
        }
      });
      spoil(bytes, parts.end());
    }

    void reduce_scatter(const float* all, const Parts& parts, float* sum, Stream) override {
      wait_for_jobs();
      check_equal(parts);
      std::vector<float> own(parts.counts[rank_]);
      exchange(all, parts, [&] {
        for (std::size_t k = 0; k < own.size(); ++k) {
          for (const Place& place : threads_.places_) {
            own[k] += reinterpret_cast<const float*>(place.from)[parts.starts[rank_] + k];
          }
        }
      });
      // In place, nobody may rely on the rest.
      if (sum == all + parts.starts[rank_]) {
        std::fill_n(sum - parts.starts[rank_], parts.end(), std::numeric_limits<float>::quiet_NaN());
      }
      std::copy(own.begin(), own.end(), sum);
    }

    void all_to_all(const void* from, const Parts& sent, void* to, const Parts& received, Stream) override {
      wait_for_jobs();
      threads_.received_[rank_] += received.end() - received.counts[rank_];
      exchange(from, sent, [&] {
        for (std::uint32_t other = 0; other < size(); ++other) {
          if (received.counts[other] == 0) continue;
          const Place& place = threads_.places_[other];
          std::memcpy(static_cast<std::byte*>(to) + received.starts[other], place.from + place.parts.starts[rank_],
                      received.counts[other]);
        }
      });
    }

    void wait_for_jobs() {
      if (worker_ != nullptr) worker_->wait();
    }

   private:
    void check_equal(const Parts& parts) const {
      if (!on_device()) return;
      for (const std::size_t count : parts.counts) {
        if (count != parts.counts[0]) throw std::logic_error("the parts differ in size");
      }
    }

    template <class Body>
    void exchange(const void* from, const Parts& parts, const Body& body) {
      std::this_thread::sleep_for(threads_.delay_);
      threads_.places_[rank_] = {static_cast<const std::byte*>(from), parts};
      threads_.sent_[rank_].push_back(from);
      threads_.meeting_.arrive_and_wait();
      body();
      threads_.meeting_.arrive_and_wait();
    }

    void spoil(std::byte* bytes, std::size_t count) {
      if (count != threads_.faulty_) return;
      std::vector<std::byte> right(bytes, bytes + count);
      if (threads_.fault_ == Fault::kFloat32Sums) {
        for (std::size_t k = 0; k + sizeof(double) <= count; k += sizeof(double)) {
          double value;
          std::memcpy(&value, bytes + k, sizeof value);
          value = static_cast<float>(value);
          std::memcpy(bytes + k, &value, sizeof value);
        }
      }
      if (threads_.fault_ == Fault::kOneChunkLess) std::memset(bytes + count - 8, 0, 8);
      if (threads_.fault_ == Fault::kTermsSwapped && !last_.empty()) std::memcpy(bytes, last_.data(), count);
      last_ = right;
    }

    Threads& threads_;
    std::uint32_t rank_;
    std::unique_ptr<Worker> worker_;
    std::vector<std::byte> last_;
  };

  std::barrier<> meeting_;
  std::vector<Place> places_;
  std::vector<std::size_t> received_;
  std::vector<std::vector<const void*>> sent_;
  bool on_device_ = false;
  bool has_workers_ = false;
  std::chrono::milliseconds delay_{};
  Fault fault_;
  std::size_t faulty_;
};

}  // namespace mtadam::test
