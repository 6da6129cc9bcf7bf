#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/address_table.h"
#include "engine/agreement.h"
#include "engine/device.h"
#include "engine/exchange.h"
#include "engine/layout.h"
#include "engine/state.h"

namespace mtadam {

/// Options that cannot change later.
struct OptimizerOptions {
  std::uint32_t terms = 1;
  std::uint32_t groups = 1;
  StateForm form;
  Anchor anchor = Anchor::kFirst;
  std::uint32_t anchor_term = 0;           // of Anchor::kTerm
  double balance = 1;                      // p of step 4
  double initial_norm = 0;                 // c of `initialNorm: c`; 0 = "first"
  bool rest = false;                       // the n of a silent term rests
  std::uint64_t seed = 0;                  // of the draws of a lean state
  std::vector<std::uint64_t> term_keys{};  // name_key() per term, where the state is lean
};

/// A parameter group's options, as given.
struct GroupOptions {
  double lr;
  double beta1, beta2, beta3;
  double eps;
  double weight_decay;
  bool decoupled;
  bool maximize;
};

/// The state of one (term, layer) or one (term, tensor), as a checkpoint holds it.
struct SavedNorm {
  double n;
  bool occurred;
  std::uint64_t skipped;
};
struct SavedClock {
  std::int64_t t;
  double p1, p2;
};

enum class Plane { m, v, x };

/// What the moments of a tensor are stored as: float32, or where the tensor is lean, codes, and with 8 bits an exponent
/// per block of them. And the masters of a narrow parameter, which are no plane's and no term's.
enum class Stored { kFloats, kCodes, kExponents, kMasters };

/// target[k] += source[k], k from 0 to length, of elements of that type.
struct Addition {
  void* target;
  const void* source;
  std::uint64_t length;
  ElementType type = ElementType::kFloat32;
};

/// Elements of one tensor's moment, so that a large one can be copied piece by piece. Of Stored::kExponents, blocks.
struct PlaneRange {
  Plane plane;
  std::uint32_t term, tensor;
  std::uint64_t first, count;
};

/// Elements of a narrow parameter with masters.
struct MasterRange {
  std::uint32_t tensor;
  std::uint64_t first, count;
};

/// What a call is given beside the gradients.
struct StepValues {
  StepValues(double scale, bool are_reduced = false) : gradient_scale(scale), reduced(are_reduced) {}
  double gradient_scale;
  bool reduced;  // whether the gradients are the sums over all ranks already; else the call sums them
};

/// A step as a graph, with gradients at fixed addresses, for any number of replays. Belongs to the optimizer that
/// captured it, which must outlive it.
class CapturedStep {
 public:
  CapturedStep(std::unique_ptr<AddressTable> gradients, std::unique_ptr<Graph> graph, std::uint64_t tables)
      : tables_(tables), gradients_(std::move(gradients)), graph_(std::move(graph)) {}
  Graph& graph() const { return *graph_; }
  const AddressTable& gradients() const { return *gradients_; }
  /// Which of the optimizer's tables it reads.
  std::uint64_t tables() const { return tables_; }

 private:
  std::uint64_t tables_;
  std::unique_ptr<AddressTable> gradients_;
  std::unique_ptr<Graph> graph_;
};

/// A step of MTAdam on some device: owns layout, tables and state, and puts the device's calls in order. Arguments
/// are trusted (TypeScript has checked them), but for what the state itself forbids.
class Optimizer {
 public:
  /// `parameters` has one row, the addresses of θ on the device. With a collective in `sharing`, all ranks make the
  /// same calls, and those that exchange data or must agree throw Error (DISTRIBUTED) where ranks differ: this
  /// constructor, step(), accumulate(), update() and, where the state is shared out, read_plane(), read_stored() and
  /// read_master().
  Optimizer(std::shared_ptr<Device> device, Layout layout, const OptimizerOptions& options,
            std::unique_ptr<AddressTable> parameters, Sharing sharing = {});

  const Layout& layout() const { return layout_; }
  const OptimizerOptions& options() const { return options_; }
  Device& device() const { return *device_; }

  /// The options of the steps to come: one entry per group.
  void set_groups(const std::vector<GroupOptions>& groups);
  /// The weights w of the terms first .. first + weights.size(), from the next call on.
  void set_weights(std::uint32_t first, const std::vector<double>& weights);

  /// A whole step. `gradients`: a row per term. Only such steps compute cosines, which need the gradients of all terms
  /// at once.
  void step(AddressTable& gradients, const StepValues& values, Stream stream = nullptr);
  /// One term's part of a step; update() ends it. Not with NonFinite::kSkipStep: the moments of earlier terms cannot be
  /// rolled back. Where a collective has a thread, the call copies the gradients and returns while the ranks exchange
  /// them: the next call that needs the state ends this one first, and throws its errors. The term is then as if it had
  /// not come.
  void accumulate(AddressTable& gradients, std::uint32_t term, const StepValues& values, Stream stream = nullptr);
  /// Ends an accumulate() whose gradients are under way.
  void settle() { settle(device_->default_stream()); }
  /// Whether calls have skipped a term since the last time that this was asked, as far as they have ended. Always false
  /// on a device that may run calls later.
  bool take_skipped() { return !under_way_ && std::exchange(skipped_, false); }
  void update(Stream stream = nullptr);
  /// Ends the open step, if there is one, without moving a parameter. The moments, norms and clocks of the terms that
  /// came have moved; where both moments are summed, they and T are as before the step.
  void discard();
  /// Whether a step is open, and whether it has the term.
  bool is_open() const { return std::find(accumulated_.begin(), accumulated_.end(), true) != accumulated_.end(); }
  bool is_accumulated(std::uint32_t term) const { return accumulated_[term]; }
  /// Whether the state has the plane that accumulate() needs where both moments are summed.
  bool gathers() const { return state_.shared().gathered != nullptr; }
  void add(const std::vector<Addition>& additions, Stream stream = nullptr);

  /// Adds a term that has not occurred yet after the others. Not while a step is open. Earlier tables of gradients and
  /// captured steps become invalid.
  /// `key`: name_key() of its name, where the state is lean.
  void add_term(std::uint64_t key = 0);
  /// Frees a term's state; later terms move up. The term is neither the only one nor the anchor. Otherwise as
  /// add_term(). Where M would be left without the second moment that bounds it, it begins again.
  void remove_term(std::uint32_t term);

  /// Sets the gradients of all terms to 0.
  void zero(AddressTable& gradients, Stream stream = nullptr);

  /// Captures a step with these gradients, for replay on the stream. Takes no step. A replay uses the options that are
  /// set then.
  std::unique_ptr<CapturedStep> capture(const AddressTable& gradients, Stream stream = nullptr);
  /// A whole step. Throws Error (STATE) if terms were added or removed after the capture.
  void replay(const CapturedStep& step, double gradient_scale);

  /// A step in the graph of the caller, who is capturing the stream. Takes none: each launch of the graph takes one,
  /// with the options that are on the device then. The table and this optimizer must outlive the graph, and the caller
  /// orders launches and other calls. Throws Error (STATE), and launches nothing, where anything would have to be
  /// uploaded.
  void step_in_graph(const AddressTable& gradients, double gradient_scale, Stream stream);
  /// Has the gradients' addresses on the device when it returns.
  void upload(AddressTable& gradients, Stream stream = nullptr);
  /// Sends the options that have changed to the device. Throws Error (OPTION) where the device has no graphs.
  void refresh(double gradient_scale, Stream stream = nullptr);

  /// The number of steps up to the current end of the stream, including those of the caller's graphs.
  std::int64_t iterations(Stream stream = nullptr);
  /// The same without asking the device: launches of the caller's graphs count from the next call of iterations() on.
  std::int64_t completed() const { return completed_; }
  void restore_iterations(std::int64_t iterations);

  /// False where a call or a restore ended midway. Calls that need the state throw Error (STATE) until a complete
  /// restore.
  bool is_whole() const { return !broken_ && !restoring_; }
  /// Ends an open step as discard() does. Until end_restore() the state is not whole.
  void begin_restore();
  /// `complete`: nothing of the earlier state is left. Otherwise a state that was not whole before stays so.
  void end_restore(std::int64_t iterations, bool complete);

  /// An event after all calls so far; later calls move it.
  std::shared_ptr<Event> done() const { return left_; }

  // The state, a piece at a time, as it is after the last call. `Plane::m` and `Plane::x` are the terms' own or, with
  // first moments summed, the shared ones, for which `term` is ignored; so is `Plane::v` with second moments summed.
  std::vector<NormState> norm_states(std::uint32_t term);
  /// The same of every term, as NormState[layers], without waiting for it.
  std::vector<std::unique_ptr<HostCopy>> norms_later();
  /// The cosines of every term with those before it and with itself in the last step, as float[number + 1][layers],
  /// without waiting for them; none where the form has none, or no step has been taken since terms came or went or the
  /// state was restored.
  std::vector<std::unique_ptr<HostCopy>> cosines_later();
  void restore_norms(std::uint32_t term, const std::vector<SavedNorm>& saved);
  /// q per tensor, with the network as one unit.
  std::vector<double> squares(std::uint32_t term);
  /// After restore_norms() and restore_clocks().
  void restore_squares(std::uint32_t term, const std::vector<double>& saved);
  std::vector<Clock> clocks(std::uint32_t term);
  void restore_clocks(std::uint32_t term, const std::vector<SavedClock>& saved);
  std::vector<Clock> shared_clocks();
  void restore_shared_clocks(const std::vector<SavedClock>& saved);
  /// M of a tensor and its clock T begin again. Where first moments are summed.
  void restart_sum(std::uint32_t tensor);
  // Where the state is shared out, every rank reads what all ranks have, and writes what it has of a range itself.

  /// As float32, also where the tensor is lean.
  void read_plane(const PlaneRange& range, float* to);
  /// Rounds to nearest where the tensor is lean; the range then starts with a block, and ends with one or the tensor.
  void write_plane(const PlaneRange& range, const float* from);
  /// As stored.
  void read_stored(Stored kind, const PlaneRange& range, void* to);
  void write_stored(Stored kind, const PlaneRange& range, const void* from);
  /// The elements of a tensor's moments that this rank has, and a range of them, without the other ranks.
  Slots own_elements(std::uint32_t tensor) const;
  void read_own(Stored kind, const PlaneRange& range, void* to);
  /// With Rounding::kMaster, what a narrow parameter stands for together with its master. Writing changes the master
  /// alone; null: as if there had been none.
  void read_master(const MasterRange& range, float* to);
  void read_own_master(const MasterRange& range, float* to);
  void write_master(const MasterRange& range, const float* from);
  /// Null without other ranks.
  std::shared_ptr<Collective> collective() const {
    return exchange_ == nullptr ? nullptr : exchange_->sharing().collective;
  }

 private:
  template <class Body>
  void enqueue(Stream stream, const Body& body);
  template <class Body>
  void run(Stream stream, const Body& body);
  template <class Body>
  void advance(const char* name, AddressTable& gradients, std::uint32_t first, std::uint32_t count,
               const StepValues& values, Stream given, const Body& body);
  void begin_term(AddressTable& gradients, std::uint32_t term, const StepValues& values, Stream given);
  void settle(Stream stream);
  enum class Squares { kLocal, kExchanged };
  void take_term(const Tables& given, const AddressTable& gradients, const Call& one, Squares squares, Stream stream);
  Hash hash_of(const AddressTable& gradients, std::uint32_t first, std::uint32_t count, const StepValues& values) const;
  bool shares_state() const { return exchange_ != nullptr && exchange_->sharing().state; }
  void check_alone() const;
  void place_halves();
  Tables with_sums() const;
  Tables summing(const Tables& tables) const;
  Tables finishing(const Tables& tables) const;
  std::uint64_t identity() const;
  Agreement agreement(const char* call, Hash values) const;
  void agree_on(const char* call, Hash values) const { agree(exchange_->collective(), agreement(call, values)); }
  void norms(const Tables& tables, const Call& call, Stream stream);
  void cosines(const Tables& tables, const Call& all, Stream stream);
  template <class Read>
  void read_elements(const PlaneRange& range, float* to, const Read& read) const;
  template <class Read>
  void read_mastered(const MasterRange& range, float* to, const Read& read);
  std::size_t bytes_of(Stored kind, std::uint32_t tensor) const;
  std::byte* address_of(Stored kind, const PlaneRange& range) const;
  template <class Body>
  void for_own(std::uint64_t first, std::uint64_t end, const Body& body) const;
  void check_whole() const;
  void leave_step();
  void raise_shared_x(std::uint64_t step);
  void roll_back_shared_clocks(std::uint64_t step);
  void close_step();
  bool step_in_one_pass(const Tables& tables, const AddressTable& gradients, const Call& all, Stream stream,
                        bool& begun);
  void record_step(const AddressTable& gradients, const Call& all, Stream stream);
  void follow_norms(const Tables& tables, const Call& all, Stream stream);
  bool moments_read_parameters() const;
  void forget_cosines();
  std::vector<std::uint32_t> unbounded_without(std::uint32_t term);
  void restart_sum(std::uint32_t tensor, Stream stream);
  bool comes_first(const AddressTable& gradients, std::uint32_t term) const;
  OnePass pass_of(const AddressTable& gradients, const Call& call, Stream stream, bool& begun) const;
  std::uint64_t bytes_of(const AddressTable& gradients, std::uint32_t term) const;
  void get_to_know(const AddressTable& gradients, std::uint32_t first, std::uint32_t count);
  void send_values(double gradient_scale, Stream stream);
  template <class T>
  std::vector<T> read(const T* from, std::size_t count);
  template <class T>
  void write(T* to, const std::vector<T>& values);
  struct TermTables;
  TermTables make_tables(const std::vector<Term>& terms, Stream stream);
  void adopt(TermTables made) noexcept;
  template <class T>
  void set_values(std::size_t place, const std::vector<T>& values);
  void send_first_step();
  void restore(Clock* clocks, Coefficients* coefficients, const std::vector<SavedClock>& saved);

  std::shared_ptr<Device> device_;
  Layout layout_;
  std::unique_ptr<Exchange> exchange_;
  OptimizerOptions options_;
  Stream stream_;  // that of the last call; the caller's may be gone by now
  State state_;
  std::unique_ptr<AddressTable> parameters_;
  std::vector<std::unique_ptr<Memory>> memory_;  // of the tables below
  std::unique_ptr<Memory> terms_memory_;
  Tables tables_{};
  const Tensor* summed_tensors_ = nullptr;  // those whose gradients are sums over all ranks
  // Where the state is shared out, norms() and cosines() come in two halves: with summing() tables, whose layers are
  // never complete, they end with the sums of chunks; with finishing() tables, which have no chunks, they begin there.
  struct Halves {
    const Layer* endless_layers;
    unsigned long long* tickets;
    const std::uint32_t* all_layers;
  } halves_{};
  std::uint64_t tables_made_ = 0;    // how often
  bool skipped_ = false;             // a term was skipped since take_skipped()
  bool broken_ = false;              // a call failed in the middle of a step, or a restore did not end
  bool restoring_ = false;           // a restore has begun and not ended
  bool compared_ = false;            // the ranks have found that their parameters are equal
  bool has_cosines_ = false;         // those on the device are of the last step
  bool captured_cosines_ = false;    // launches of graphs of the caller may bring them
  std::uint64_t first_step_ = 1;     // the number on the device that stands for no iterations
  std::int64_t completed_ = 0;       // iterations
  std::vector<bool> accumulated_;    // per term: whether the open step has it
  std::vector<bool> known_;          // per term: whether it had gradients since the state was made or restored
  std::uint32_t largest_layer_ = 0;  // tensors
  // The accumulated term that the ranks are exchanging.
  std::optional<std::uint32_t> under_way_;
  std::shared_ptr<Event> left_;  // the end of the last call

  // The options of a step, as one block: σ, the weights, the groups.
  struct Places {
    std::size_t weights, groups, group_elements;
  } places_{};
  std::vector<std::byte> values_;
  std::vector<std::byte> sent_;  // those on the device; none at first
  std::unique_ptr<Memory> values_memory_;
};

}  // namespace mtadam
