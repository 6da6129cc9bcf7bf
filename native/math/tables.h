#pragma once

#include <cstddef>
#include <cstdint>

#include "math/element_types.h"
#include "math/parameter_codes.h"
#include "math/state_codes.h"

// The structs that kernels read: plain data in the memory of the device, the same on the host and on every device.
// Offsets of elements have 64 bits, indices of everything else 32.

namespace mtadam {

// These four define the order of the sum of squares (docs/algorithm.md, "Numerics").
constexpr std::uint32_t kChunkElements = 4096;
constexpr std::uint32_t kSegmentElements = 256;
constexpr std::uint32_t kChunkLanes = 32;
constexpr std::uint32_t kLayerLanes = 128;

/// Norms at or below this neither anchor nor are scaled (docs/algorithm.md, steps 3 and 4).
constexpr double kNormFloor = 1e-10;

/// A gradient with a larger norm, once scaled, counts as not finite: float32 may not hold its square
/// (docs/algorithm.md, "Finite in, finite out").
constexpr double kLargestScaledNorm = 1e18;

/// With NonFinite::kSkipElement, the moments of an element rest where |f·g| is larger: float32 may not hold its square.
/// It holds the square of a sum of up to 18 such terms, which is V where both moments are summed.
constexpr float kLargestElement = 1e18f;

/// Which norm the terms of a layer are scaled to (docs/algorithm.md, step 3).
enum class Anchor : std::uint32_t { kFirst, kMax, kMean, kTerm };

/// How a norm that is not finite or too large is handled.
enum class NonFinite : std::uint32_t {
  kSkipTerm,     // the term counts as absent in that layer for this step
  kSkipStep,     // nothing moves in this step; only where all terms come in one call
  kSkipElement,  // the norm and single elements of the moments stay as they are; only with lagged scales
  kPropagate,    // as any other norm
};

/// Whether a call may be rolled back, in whole or in part, once all of its norms are known: the state then has room for
/// the values before the call.
constexpr bool keeps_former(NonFinite non_finite, bool network) {
  return non_finite == NonFinite::kSkipStep || network;
}

/// Whether single elements of moments may stay as they are.
constexpr bool skips_elements(NonFinite non_finite) { return non_finite == NonFinite::kSkipElement; }

/// The number of chunks that so many elements need.
constexpr std::uint64_t chunks_of(std::uint64_t elements) { return (elements + kChunkElements - 1) / kChunkElements; }

/// The first element of a tensor's chunk.
constexpr std::uint64_t first_of_chunk(std::uint32_t index) { return std::uint64_t{index} * kChunkElements; }

/// The elements of a chunk of a tensor of `length` elements.
constexpr std::uint32_t elements_of_chunk(std::uint64_t length, std::uint32_t index) {
  const std::uint64_t left = length - first_of_chunk(index);
  return static_cast<std::uint32_t>(left < kChunkElements ? left : kChunkElements);
}

/// One parameter tensor.
struct Tensor {
  std::uint64_t length;  // elements
  std::uint64_t plane;   // its first element in every moment plane; of a lean tensor, in every plane of codes
  std::uint64_t slot;    // its first chunk among the partial sums
  std::uint64_t chunk;   // its first chunk in the chunk table
  std::uint32_t layer;
  std::uint32_t group;
  std::uint64_t gathered;  // its first element in the plane of G
  std::uint64_t key;       // name_key() of its name, for draws
  bool lean;               // its moments are codes
  ElementType gradient;    // of the elements of its gradients
  ElementType type;        // of its own elements
  std::uint64_t master;    // its first byte in the plane of masters
};

/// kChunkElements consecutive elements of one tensor; the last chunk of a tensor may be shorter.
struct Chunk {
  std::uint32_t tensor;
  std::uint32_t index;  // within the tensor
};

/// The tensors that share a tag, or one tensor; a balancing unit, unless it is part of the network's. Its partial sums
/// are contiguous, in the order q of "Sum of squares" in docs/algorithm.md; its tensors are members[member .. member +
/// members), whose slots ascend.
struct Layer {
  std::uint64_t slot;
  std::uint64_t slots;
  std::uint32_t member;
  std::uint32_t members;
};

/// A parameter group's options in one step: as given, for the scalars.
struct Group {
  double lr;
  double beta1;
  double beta2;
  double beta3;
  double sign;  // −1 to maximize, else 1
};

/// A parameter group's options in one step: rounded to float32 once, for the elements.
struct GroupElements {
  float beta1;
  float rest1;  // 1 − β₁, rounded after the subtraction
  float beta2;
  float rest2;
  float eps;
  float coupled;    // λ of the coupled decay, 0 where there is none
  float decoupled;  // d = lr·λ of the decoupled decay, 0 where there is none
};

/// How often a term took part in a tensor's steps, and what follows from it (docs/algorithm.md, step 6 and "Scalars").
struct Clock {
  std::int64_t t;
  double p1;           // P₁: the product of the β₁ used so far
  double p2;           // P₂: the same of β₂
  std::uint64_t step;  // the step in which the term last took part; compared with Shared::step, never cleared
};

/// Rounded to float32 once per step (docs/algorithm.md, "Scalars").
struct Coefficients {
  float f;  // ±s/σ, the factor of a gradient; ±1 in the network's unit, whose NetworkUnit has s/σ
  float c;  // lr/(1 − P₁)
  float b;  // √(1 − P₂)
};

/// NormState::occurred of a pair that occurred, and of one that did not but shows n of the network's unit.
constexpr std::uint64_t kOccurred = 1;
constexpr std::uint64_t kShown = 2;

/// The norms of a term's gradients in a layer, and the scale that follows from them.
struct NormState {
  double n;                // moving average of the gradient norm, true gradients (σ divided out)
  double r;                // the norm in the last step that had a gradient
  double s;                // the scale of the last step it took part in
  std::uint64_t step;      // the step in which it last took part, as in Clock
  std::uint64_t skipped;   // how often it counted as absent because r was not finite or too large
  std::uint64_t occurred;  // kOccurred, kShown, or 0 where n, r and s are nothing
};

/// One term in the network's unit: the layers of one tensor that several terms reach (docs/algorithm.md, "The network
/// as one unit").
struct NetworkUnit {
  NormState norm;           // skipped is not used: layers count
  std::uint64_t reached;    // the step in which the term first took part in any layer; 0 until then
  std::uint64_t withdrawn;  // the last step in which the term was not finite or too large in the unit
  float f;                  // s/σ
  double lagged_norm;       // as Term::lagged_norms
};

/// W of `stepScale: "mean"` in one tensor, as terms are processed.
struct StepDivisor {
  double sum;          // Σw over the terms that took part so far, in their order
  double max;          // the largest of these weights
  std::uint64_t step;  // the step that they took part in, as in Clock
  float w;             // W: Σw / max w, 1 where all weights are 0
};

/// The moments of lean tensors: codes of code_bytes() each, and with 8 bits an exponent per block.
struct CodePlane {
  std::byte* codes;
  std::uint8_t* exponents;
};

/// As m, v and x of a term, or of all terms.
struct CodePlanes {
  CodePlane m;
  CodePlane v;
  CodePlane x;
};

/// The state of one loss term. Planes and records that the options do not need are null.
struct Term {
  float* m;
  float* v;
  float* x;
  NormState* norms;            // per layer
  Clock* clocks;               // per tensor
  Coefficients* coefficients;  // per tensor
  double* partial;             // sums of squares per chunk, by slot
  // With each earlier term, in order, where cosines are computed; else null.
  double* dots;    // dot products of the gradients per chunk, by slot
  float* cosines;  // of the gradients in the last step, per layer; the last row is with itself
  // With the network as one unit.
  double* squares;       // q per tensor: the moving average of the squared gradient norm
  NetworkUnit* network;  // one
  // With lagged scales, per layer in which the term takes part: n before the open step, or n of the open step where
  // there was none.
  double* lagged_norms;
  // The values before the call: of the norms, for withdrawing the term from a layer; the others, for rolling the call
  // back (NonFinite::kSkipStep), or this term's part in the network's unit.
  NormState* former_norms;
  Clock* former_clocks;
  double* former_squares;
  // Where the state is lean.
  CodePlanes codes;
  std::uint32_t stream;  // of the term's draws
};

/// The state that the terms share.
struct Shared {
  float* m;                    // M, where first moments are summed
  float* v;                    // V, where both moments are
  float* x;                    // x, where first moments are summed and amsgrad is on
  CodePlanes codes;            // of the same
  std::byte* masters;          // of narrow parameters, with Rounding::kMaster; else null
  float* gathered;             // G of an open step, where both moments are summed; null before the first accumulate
  Clock* clocks;               // T per tensor, where they are
  Coefficients* coefficients;  // of T (c and b)
  Clock* former_clocks;        // as in Term
  StepDivisor* former_divisors;
  std::uint64_t* joined;  // per layer: the open step, if the layer is part of the network's unit in it
  std::uint64_t* ahead;   // per layer: whether it has begun the call without its norms; with lagged scales in one unit
  std::uint32_t* opener;  // per tensor, the first term of the open step: it decays M
  StepDivisor* divisors;  // per tensor, where the step is the mean of the terms' steps; else null
  std::uint64_t* step;    // the number of the open step; update advances it
  std::uint64_t* first_step;    // the number that stands for no completed step, for draws
  unsigned long long* tickets;  // per layer, then two more: finished parts of a launch; 0 between launches
};

/// Everything a kernel needs beside the gradients of the call. Passed by value; all pointers are to its device's
/// memory.
struct Tables {
  const Tensor* tensors;
  const Chunk* chunks;
  const Layer* layers;
  const std::uint32_t* members;
  float* const* parameters;  // addresses of θ, per tensor, of elements of the type Tensor::type
  const Term* terms;
  // The options of the open step. Behind pointers, so that a replay reads the current ones.
  const Group* groups;
  const GroupElements* group_elements;
  const double* weights;         // w, per term
  const double* gradient_scale;  // σ
  Shared shared;
  const std::uint32_t* empty_layers;  // layers without elements
  std::uint64_t element_count;
  std::uint64_t chunk_count;
  std::uint64_t slot_count;  // chunks of the whole model
  std::uint32_t tensor_count;
  std::uint32_t layer_count;
  std::uint32_t term_count;
  std::uint32_t empty_layer_count;
  bool summed;
  bool one_v;  // second moments are summed, too
  bool amsgrad;
  bool cosines;            // whether terms have dots and cosines
  bool network;            // whether the network is one unit
  bool rest;               // whether the n of a silent term rests
  bool lagged;             // whether scales are computed from the norms before the open step
  bool narrow;             // whether some tensor has narrow gradients
  bool narrow_parameters;  // whether some tensor is narrow itself
  NonFinite non_finite;
  Anchor anchor;
  std::uint32_t anchor_term;  // of Anchor::kTerm
  double initial_norm;        // c of `initialNorm: c`; 0 stands for "first"
  double balance;             // p of step 4
  StateType state_type;       // of lean tensors
  Rounding rounding;          // of narrow parameters
  std::uint64_t seed;         // of draws
};

/// The gradients of one call, of the terms first .. first + count: a row of addresses per term, null = absent. An
/// address is that of elements of the type Tensor::gradient.
struct Call {
  const float* const* gradients;
  std::uint32_t first;
  std::uint32_t count;
};

}  // namespace mtadam
