#include "nccl/nccl.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "cuda/cuda.h"
#include "cuda/runtime.h"
#include "engine/errors.h"
#include "test/cuda/on_executor.h"
#include "test/simt/control.h"
#include "test/support.h"

// Ranks are processes, each with a device of the executor, over the stand-in of NCCL (simt/nccl_stand_in.cpp). Their
// streams run late, so that data is wrong where a collective and the caller's stream do not wait for each other.

namespace mtadam {
namespace {

using simt::cuda::Execution;

const std::vector<std::string> kLibraries{MTADAM_NCCL_STAND_IN};
constexpr double kTimeout = 20;  // seconds
constexpr double kShort = 0.5;   // where no rank comes
constexpr unsigned kHangs = 30;  // seconds after which a rank is ended
constexpr std::uint32_t kRanks[] = {1, 2, 3};

struct Rank {
  std::shared_ptr<Device> device;
  std::shared_ptr<Collective> collective;
  Stream stream;  // independent of the default stream
  std::uint32_t own, size;

  std::unique_ptr<Memory> filled(std::size_t bytes, std::uint8_t value) const {
    std::unique_ptr<Memory> memory = device->allocate(bytes);
    device->fill(memory->data(), value, 1, bytes, stream);
    return memory;
  }

  /// Writes a part late, on the stream.
  void write(Memory& to, std::size_t start, const std::vector<std::uint8_t>& part) const {
    device->write(to.data() + start, part.data(), part.size(), stream);
  }

  std::vector<std::uint8_t> read(const Memory& from) const {
    std::vector<std::uint8_t> bytes(from.size());
    device->read(bytes.data(), from.data(), bytes.size(), stream);
    return bytes;
  }
};

void use_stand_in() {
  using Launch = cudaError_t (*)(cudaStream_t, cudaHostFn_t, void*);
  void* const library = dlopen(MTADAM_NCCL_STAND_IN, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr) << dlerror();
  reinterpret_cast<void (*)(Launch)>(dlsym(library, "stand_in_use"))(&cudaLaunchHostFunc);
}

/// Calls body() in a process that ends with code 0 unless it fails.
pid_t start(const std::function<void()>& body) {
  const pid_t process = fork();
  if (process != 0) return process;
  alarm(kHangs);
  try {
    use_stand_in();
    body();
  } catch (const std::exception& error) {
    ADD_FAILURE() << error.what();
  }
  std::fflush(nullptr);
  _exit(testing::Test::HasFailure() ? 1 : 0);
}

void expect_success(pid_t process) {
  int status = 0;
  ASSERT_EQ(waitpid(process, &status, 0), process);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "a process failed, wait status " << status;
}

/// Calls body(rank) in a process for each rank. The test fails where one of them fails or does not end.
void on_ranks(std::uint32_t size, Execution execution, const std::function<void(const Rank&)>& body,
              double timeout = kTimeout) {
  const nccl::Id id = nccl::make_id(kLibraries);
  std::vector<pid_t> processes;
  for (std::uint32_t own = 0; own < size; ++own) {
    processes.push_back(start([&] {
      SCOPED_TRACE("rank " + std::to_string(own));
      simt::cuda::set_execution(execution, own + 1);
      const std::shared_ptr<Device> device = cuda::open(0);
      cudaStream_t stream = nullptr;
      EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
      const auto collective = nccl::open({kLibraries, id, own, size, device, timeout});
      body({device, collective, stream, own, size});
    }));
  }
  for (const pid_t process : processes) expect_success(process);
}

/// What a rank sends to another.
std::vector<std::uint8_t> message(std::uint32_t from, std::uint32_t to, std::size_t bytes) {
  std::vector<std::uint8_t> values(bytes);
  std::iota(values.begin(), values.end(), static_cast<std::uint8_t>(100 * from + 30 * to));
  return values;
}

std::vector<std::uint8_t> joined(const std::vector<std::vector<std::uint8_t>>& parts) {
  std::vector<std::uint8_t> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

class Nccl : public test::OnExecutor {
 protected:
  /// On every number of ranks, with streams that run as late as they can and at random.
  static void on_all(const std::function<void(const Rank&)>& body) {
    for (const std::uint32_t size : kRanks) {
      for (const Execution execution : {Execution::kLazy, Execution::kRandom}) {
        SCOPED_TRACE(std::to_string(size) + " ranks");
        on_ranks(size, execution, body);
      }
    }
  }

  /// What each of several calls throws.
  static void expect_error(const std::string& part, const std::vector<std::function<void()>>& calls) {
    for (const auto& call : calls) {
      try {
        call();
        ADD_FAILURE() << "no error; expected: " << part;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), "DISTRIBUTED");
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      }
    }
  }
};

TEST_F(Nccl, GathersAfterTheWorkBeforeAndBeforeTheWorkAfterIt) {
  on_all([](const Rank& rank) {
    constexpr std::size_t kBytes = 1000;
    Parts parts;
    std::vector<std::vector<std::uint8_t>> expected;
    for (std::uint32_t from = 0; from < rank.size; ++from) {
      parts.add(kBytes);
      expected.push_back(message(from, 0, kBytes));
    }
    const Stream library = rank.device->own_stream();
    for (const Stream stream : {rank.stream, library, Stream{nullptr}}) {
      for (const Stream first_needed : {stream, library}) {
        Rank writer = rank, reader = rank;
        writer.stream = stream;
        reader.stream = first_needed;
        const auto all = writer.filled(parts.end(), 0xee);
        writer.write(*all, parts.starts[rank.own], expected[rank.own]);
        rank.collective->gather(all->data(), parts, stream);
        EXPECT_EQ(reader.read(*all), joined(expected));
      }
    }
  });
}

TEST_F(Nccl, GathersPartsOfAnySizeOnTheHost) {
  on_all([](const Rank& rank) {
    for (const std::size_t step : {0, 1, 700}) {  // memory of the first size is kept
      Parts parts;
      std::vector<std::vector<std::uint8_t>> expected;
      for (std::uint32_t from = 0; from < rank.size; ++from) {
        parts.add(from * step);
        expected.push_back(message(from, 1, from * step));
      }
      std::vector<std::uint8_t> all(parts.end(), 0xee);
      std::copy(expected[rank.own].begin(), expected[rank.own].end(),
                all.begin() + static_cast<std::ptrdiff_t>(parts.starts[rank.own]));
      rank.collective->gather_on_host(all.data(), parts);
      EXPECT_EQ(all, joined(expected));
    }
  });
}

TEST_F(Nccl, SumsEachRanksPart) {
  on_all([](const Rank& rank) {
    constexpr std::size_t kCount = 300;
    Parts parts;
    for (std::uint32_t of = 0; of < rank.size; ++of) parts.add(kCount);
    std::vector<float> own(parts.end()), sums(kCount, 0);
    for (std::size_t k = 0; k < own.size(); ++k) own[k] = static_cast<float>((rank.own + 1) * k);
    for (std::size_t k = 0; k < kCount; ++k) {
      for (std::uint32_t from = 0; from < rank.size; ++from) {
        sums[k] += static_cast<float>((from + 1) * (parts.starts[rank.own] + k));
      }
    }
    const auto all = rank.device->allocate(own.size() * sizeof(float));
    rank.device->write(all->data(), own.data(), all->size(), rank.stream);
    float* const values = reinterpret_cast<float*>(all->data());
    rank.collective->reduce_scatter(values, parts, values + parts.starts[rank.own], rank.stream);
    std::vector<float> part(kCount);
    rank.device->read(part.data(), all->data() + parts.starts[rank.own] * sizeof(float), kCount * sizeof(float),
                      rank.stream);
    EXPECT_EQ(part, sums);
  });
}

TEST_F(Nccl, SendsEachRankItsPart) {
  on_all([](const Rank& rank) {
    const auto bytes = [](std::uint32_t from, std::uint32_t to) { return std::size_t{100} * from + 7 * to; };
    Parts sent, received;
    std::vector<std::vector<std::uint8_t>> out, in;
    for (std::uint32_t other = 0; other < rank.size; ++other) {
      sent.add(bytes(rank.own, other));
      received.add(bytes(other, rank.own));
      out.push_back(message(rank.own, other, sent.counts[other]));
      in.push_back(message(other, rank.own, received.counts[other]));
    }
    const auto from = rank.filled(sent.end() + 1, 0xee), to = rank.filled(received.end() + 1, 0xdd);
    rank.write(*from, 0, joined(out));
    rank.collective->all_to_all(from->data(), sent, to->data(), received, rank.stream);
    in.push_back({0xdd});
    EXPECT_EQ(rank.read(*to), joined(in));
  });
}

Parts one_byte_each(const Rank& rank) {
  Parts parts;
  for (std::uint32_t other = 0; other < rank.size; ++other) parts.add(1);
  return parts;
}

TEST_F(Nccl, ARankThatDoesNotComeEndsTheOthersWait) {
  auto* const told = static_cast<std::atomic<bool>*>(
      mmap(nullptr, sizeof(std::atomic<bool>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(static_cast<void*>(told), MAP_FAILED);
  const auto body = [told](const Rank& rank) {
    if (rank.own == 1) {
      while (!*told) usleep(1000);
      return;
    }
    const auto all = rank.filled(2, 0);
    rank.collective->name_call("step");
    const auto gather = [&] { rank.collective->gather(all->data(), one_byte_each(rank), rank.stream); };
    gather();
    rank.read(*all);  // undefined, but it returns
    expect_error("Rank 0 waited 0.5 s for the other ranks in `step` (a collective).",
                 {[&] { rank.collective->check(); }, gather});
    rank.collective->close();  // nothing is left to close
    *told = true;
  };
  on_ranks(2, Execution::kLazy, body, kShort);
  munmap(told, sizeof *told);
}

TEST_F(Nccl, ARankThatIsGoneEndsTheOthersWait) {
  on_ranks(2, Execution::kLazy, [](const Rank& rank) {
    if (rank.own == 1) return;
    std::vector<std::uint8_t> all(2);
    rank.collective->name_call("step");
    const auto gather = [&] { rank.collective->gather_on_host(all.data(), one_byte_each(rank)); };
    expect_error("Rank 0 cannot go on with `step`: remote process exited or there was a network error.",
                 {gather, gather, [&] { rank.collective->check(); }});
  });
}

TEST_F(Nccl, ACallThatFailsIsNamed) {
  for (const std::string function : {"ncclAllGather", "ncclReduceScatter", "ncclSend"}) {
    setenv("NCCL_STAND_IN_FAIL", (function + ":1").c_str(), 1);  // read by the rank's process
    on_ranks(1, Execution::kLazy, [&](const Rank& rank) {
      const auto all = rank.filled(4, 0);
      float* const values = reinterpret_cast<float*>(all->data());
      const std::vector<std::function<void()>> calls{
          [&] { rank.collective->gather(values, one_byte_each(rank), rank.stream); },
          [&] { rank.collective->reduce_scatter(values, one_byte_each(rank), values, rank.stream); },
          [&] {
            rank.collective->all_to_all(values, one_byte_each(rank), values + 1, one_byte_each(rank), rank.stream);
          }};
      const std::size_t which = function == "ncclAllGather" ? 0 : function == "ncclReduceScatter" ? 1 : 2;
      expect_error(function + " failed: unhandled cuda error.", {calls[which], calls[0], calls[1], calls[2]});
    });
  }
  unsetenv("NCCL_STAND_IN_FAIL");
}

TEST_F(Nccl, ACommunicatorThatIsClosedIsNotUsedAgain) {
  on_all([](const Rank& rank) {
    rank.collective->close();
    rank.collective->close();
    expect_error("The communicator has been closed.",
                 {[&] { rank.collective->check(); },
                  [&] { rank.collective->gather(nullptr, one_byte_each(rank), rank.stream); }});
  });
}

TEST_F(Nccl, RanksThatDoNotJoinAreWaitedForNoLongerThanTheTimeOut) {
  expect_success(start([] {
    const auto join = [] { nccl::open({kLibraries, nccl::make_id(kLibraries), 0, 2, cuda::open(0), kShort}); };
    expect_error("Rank 0 waited 0.5 s for the other ranks in `connectNccl` (ncclCommInitRankConfig).", {join});
  }));
}

}  // namespace
}  // namespace mtadam
