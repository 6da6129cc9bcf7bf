#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "test/simt/cuda_types.h"

namespace simt::cuda {

struct Stream;

/// The end of a stream's operation with this number.
struct Point {
  std::shared_ptr<Stream> stream;
  std::uint64_t number = 0;
};

/// What a copy brings to host memory. It arrives there only when the program has made sure that the copy is done; until
/// then what the memory holds is concealed.
struct Delivery {
  char* target;
  std::vector<char> data;
  bool concealed = false;
  bool delivered = false;
};

struct HostRange {
  const char* begin = nullptr;
  std::size_t bytes = 0;
};

/// One operation in the queue of a stream.
struct Operation {
  std::function<void()> run;  ///< null when it only orders
  std::shared_ptr<Delivery> delivery;
  HostRange source;  ///< pinned memory that it reads
  bool calls_host = false;
  std::vector<Point> after;  ///< besides the operation before it in its stream
  std::uint64_t number = 0;
};

/// Makes an operation. A captured one is made anew for every launch of its graph.
struct Recipe {
  cudaGraphNodeType type;
  std::function<Operation()> make;
};

struct Node {
  Recipe recipe;
  std::vector<std::size_t> after;
};

using Nodes = std::vector<Node>;

struct Capture {
  static inline int alive = 0;  ///< where there is none, no stream captures

  Capture(cudaStreamCaptureMode captured_mode, std::thread::id by, const std::weak_ptr<Stream>& first)
      : mode(captured_mode), thread(by), origin(first) {
    ++alive;
  }
  ~Capture() { --alive; }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  cudaStreamCaptureMode mode;
  std::thread::id thread;
  std::weak_ptr<Stream> origin;
  std::shared_ptr<Nodes> nodes = std::make_shared<Nodes>();
  bool invalidated = false;
  bool ended = false;
};

struct Stream {
  int device = 0;
  unsigned flags = 0;
  bool legacy = false;

  std::deque<Operation> queue;
  std::uint64_t last = 0;  ///< number of the operation that was queued last
  std::uint64_t done = 0;
  std::uint64_t observed = 0;  ///< the program knows that operations up to here are done
  bool busy = false;           ///< an operation of it runs without the runtime's lock
  std::deque<std::pair<std::uint64_t, std::shared_ptr<Delivery>>> undelivered;
  std::deque<std::pair<std::uint64_t, Point>> joins;  ///< what operations waited for elsewhere, until observed

  std::shared_ptr<Capture> capture;
  std::vector<std::size_t> capture_tail;  ///< nodes that the next captured operation comes after

  /// Nothing of it is left to run or to learn.
  bool settled() const { return queue.empty() && undelivered.empty() && joins.empty(); }
  void drop() {
    queue.clear();
    undelivered.clear();
    joins.clear();
    capture = nullptr;
  }

  /// Takes part in the ordering with the legacy default stream.
  bool blocking() const { return !legacy && (flags & cudaStreamNonBlocking) == 0; }
};

struct Event {
  int device = 0;
  unsigned flags = 0;
  std::optional<Point> point;  ///< empty until recorded
  std::shared_ptr<std::optional<double>> milliseconds;
  std::shared_ptr<Capture> capture;  ///< that it was last recorded in
  std::vector<std::size_t> capture_nodes;
};

struct Graph {
  std::shared_ptr<const Nodes> nodes;
};

struct GraphExecutable {
  std::shared_ptr<const Nodes> nodes;
};

}  // namespace simt::cuda
