// What this machine's memory gives to plain loops over whole arrays, measured while the optimizer is. Lives as long as
// its standard input and takes one line at a time:
//
//   arrays <elements> <read-only> <updated> <sets>      ok
//   time <calls> <reads> <sums> <updates>               ok <seconds>
//
// One call goes through the next set of arrays: `reads` passes that read an array, `sums` passes a = s·a + r with a
// read-only array r, `updates` passes a = s·a + b with a scalar b. What cannot be done is answered `error <sentence>`.

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <memory>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#if defined(__linux__)
#  include <sys/mman.h>
#endif

namespace {

// ---- The loops ----

constexpr std::size_t kLanes = 64;

/// Sums, in as many partial sums as the widest vectors need to keep two in flight.
float read(const float* a, std::size_t count) {
  float partial[kLanes] = {};
  for (std::size_t k = 0; k < count; k += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) partial[lane] += a[k + lane];
  }
  float sum = 0;
  for (const float value : partial) sum += value;
  return sum;
}

void update(float* a, float scale, float addend, std::size_t count) {
  for (std::size_t k = 0; k < count; ++k) a[k] = scale * a[k] + addend;
}

#if defined(_MSC_VER)
#  define RESTRICT __restrict
#else
#  define RESTRICT __restrict__
#endif

void sum(float* RESTRICT a, float scale, const float* RESTRICT addend, std::size_t count) {
  for (std::size_t k = 0; k < count; ++k) a[k] = scale * a[k] + addend[k];
}

// ---- Memory ----

constexpr std::size_t kHugePage = std::size_t{2} << 20;
// Arrays that all began at the same place of a page would compete for the same lines of the caches.
constexpr std::size_t kStagger = 192;
constexpr std::size_t kStaggers = 16;

/// An array in pages of 2 MiB where the system agrees, like the optimizer's memory.
class Array {
 public:
  Array(std::size_t elements, std::size_t index) {
    const std::size_t start = index % kStaggers * kStagger;
    const std::size_t bytes = elements * sizeof(float) + start;
    const std::size_t whole = (bytes + kHugePage - 1) / kHugePage * kHugePage;
#if defined(_WIN32)
    pages_ = static_cast<std::byte*>(_aligned_malloc(whole, kHugePage));
#else
    pages_ = static_cast<std::byte*>(std::aligned_alloc(kHugePage, whole));
#endif
    if (pages_ == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    if (bytes >= 2 * kHugePage) madvise(pages_, bytes, MADV_HUGEPAGE);
#endif
    data_ = reinterpret_cast<float*>(pages_ + start);
    std::fill_n(data_, elements, 1.0F);
  }
  ~Array() {
#if defined(_WIN32)
    _aligned_free(pages_);
#else
    std::free(pages_);
#endif
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  float* data() const { return data_; }

 private:
  std::byte* pages_;
  float* data_;
};

struct Set {
  std::vector<std::unique_ptr<Array>> read_only;
  std::vector<std::unique_ptr<Array>> updated;
};

// ---- Threads ----

/// One pass over one array: what to do with the elements from `begin` on.
using Pass = std::function<void(std::size_t begin, std::size_t count)>;

/// Threads that share out the elements and go through all passes, each with its own elements. They sleep in between.
/// Always the same thread for the same elements: where threads have no cache in common, lines that one has read are
/// slow to come to another.
class Team {
 public:
  explicit Team(unsigned threads) : gate_(threads), threads_(threads) {
    for (unsigned k = 1; k < threads; ++k) workers_.emplace_back([this, k] { work(k); });
  }
  ~Team() {
    passes_ = nullptr;
    gate_.arrive_and_wait();
    for (std::thread& worker : workers_) worker.join();
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  void run(const std::vector<Pass>& passes, std::size_t elements) {
    elements_ = elements;
    passes_ = &passes;
    gate_.arrive_and_wait();
    take_part(0);
    gate_.arrive_and_wait();
  }

 private:
  void work(unsigned thread) {
    for (;;) {
      gate_.arrive_and_wait();
      if (passes_ == nullptr) return;
      take_part(thread);
      gate_.arrive_and_wait();
    }
  }

  void take_part(unsigned thread) {
    const std::size_t part = (elements_ / threads_ + kLanes - 1) / kLanes * kLanes;
    const std::size_t begin = std::min(elements_, thread * part);
    const std::size_t end = thread + 1 == threads_ ? elements_ : std::min(elements_, begin + part);
    for (const Pass& pass : *passes_) pass(begin, end - begin);
  }

  std::barrier<> gate_;
  const unsigned threads_;
  std::vector<std::thread> workers_;
  const std::vector<Pass>* passes_ = nullptr;
  std::size_t elements_ = 0;
};

// ---- The lines ----

class Roof {
 public:
  explicit Roof(unsigned threads) : team_(threads) {}

  void arrays(std::size_t elements, std::size_t read_only, std::size_t updated, std::size_t sets) {
    sets_.clear();
    elements_ = (elements + kLanes - 1) / kLanes * kLanes;
    std::size_t index = 0;
    for (std::size_t k = 0; k < sets; ++k) {
      Set set;
      for (std::size_t j = 0; j < read_only; ++j) set.read_only.push_back(std::make_unique<Array>(elements_, index++));
      for (std::size_t j = 0; j < updated; ++j) set.updated.push_back(std::make_unique<Array>(elements_, index++));
      sets_.push_back(std::move(set));
    }
    call_ = 0;
  }

  double time(std::size_t calls, std::size_t reads, std::size_t sums, std::size_t updates) {
    if (sets_.empty()) throw std::invalid_argument("`time` must come after `arrays`.");
    std::vector<std::vector<Pass>> work;
    for (const Set& set : sets_) work.push_back(passes(set, reads, sums, updates));
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t k = 0; k < calls; ++k) team_.run(work[call_++ % work.size()], elements_);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

 private:
  static constexpr float kScale = 0.5F;
  static constexpr float kAddend = 0.5F;

  std::vector<Pass> passes(const Set& set, std::size_t reads, std::size_t sums, std::size_t updates) {
    const auto& [read_only, updated] = set;
    std::vector<float*> all;
    for (const auto* part : {&read_only, &updated}) {
      for (const auto& array : *part) all.push_back(array->data());
    }
    if (updated.empty() || read_only.empty()) throw std::invalid_argument("Every set must have arrays of both kinds.");
    std::vector<Pass> result;
    for (std::size_t k = 0; k < reads; ++k) {
      const float* const a = all[k % all.size()];
      result.push_back([this, a](std::size_t begin, std::size_t count) {
        if (read(a + begin, count) == 0) zeros_.fetch_add(1, std::memory_order_relaxed);  // so that it is computed
      });
    }
    for (std::size_t k = 0; k < sums + updates; ++k) {
      float* const a = updated[k % updated.size()]->data();
      const float* const r = read_only[k % read_only.size()]->data();
      if (k < sums) {
        result.push_back([=](std::size_t begin, std::size_t count) { sum(a + begin, kScale, r + begin, count); });
      } else {
        result.push_back([=](std::size_t begin, std::size_t count) { update(a + begin, kScale, kAddend, count); });
      }
    }
    return result;
  }

  Team team_;
  std::vector<Set> sets_;
  std::size_t elements_ = 0;
  std::size_t call_ = 0;
  std::atomic<std::size_t> zeros_{0};
};

std::string answer(Roof& roof, const std::string& line) {
  std::istringstream words(line);
  std::string verb;
  std::size_t numbers[4] = {};
  words >> verb;
  for (std::size_t& number : numbers) words >> number;
  if (words.fail()) throw std::invalid_argument("A line must be a word and four numbers.");
  if (verb == "arrays") {
    roof.arrays(numbers[0], numbers[1], numbers[2], numbers[3]);
    return "ok";
  }
  if (verb == "time") {
    std::ostringstream text;
    text.precision(9);
    text << "ok " << roof.time(numbers[0], numbers[1], numbers[2], numbers[3]);
    return text.str();
  }
  throw std::invalid_argument("The first word must be `arrays` or `time`.");
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 0;
  if (threads < 1) {
    std::cerr << "roof <threads>\n";
    return 2;
  }
  Roof roof(static_cast<unsigned>(threads));
  for (std::string line; std::getline(std::cin, line);) {
    try {
      std::cout << answer(roof, line) << std::endl;
    } catch (const std::bad_alloc&) {
      std::cout << "error There is not enough memory for these arrays." << std::endl;
    } catch (const std::exception& error) {
      std::cout << "error " << error.what() << std::endl;
    }
  }
}
