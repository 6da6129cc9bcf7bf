#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "training.h"

// The formulas of docs/algorithm.md in float64, without any of the code under test.

namespace mtadam::test {

/// How often a term (or any term) took part in a tensor's steps, and the products of the betas.
struct Ticks {
  int t = 0;
  double p1 = 1, p2 = 1;
  void advance(const GroupOptions& group) {
    t += 1;
    p1 *= group.beta1;
    p2 *= group.beta2;
  }
};

class Oracle {
 public:
  explicit Oracle(const Model& model)
      : model_(model), groups_(model.groups), layers_(model.layer_count()), clocks_(model.parameters.size()) {
    for (const std::vector<float>& values : model.theta) theta_.emplace_back(values.begin(), values.end());
    for (std::uint32_t term = 0; term < model.options.terms; ++term) {
      terms_.emplace_back();
      terms_[term].norms.resize(layers_);
      for (const std::vector<double>& values : theta_) terms_[term].tensors.emplace_back(values.size());
    }
    for (const std::vector<double>& values : theta_) shared_.emplace_back(values.size());
  }

  void set_groups(const std::vector<GroupOptions>& groups) { groups_ = groups; }

  void step(const Gradients& gradients) {
    for (TermState& term : terms_) {
      for (Norm& norm : term.norms) norm.former = norm.occurred ? std::optional(norm.n) : std::nullopt;
    }
    std::vector<std::vector<bool>> present(terms_.size(), std::vector<bool>(theta_.size(), false));
    const std::vector<TermState> former = terms_;
    bool skips = false;
    for (std::uint32_t layer = 0; layer < layers_; ++layer) skips |= take_norms(gradients, layer, present);
    if (skips && model_.options.form.non_finite == NonFinite::kSkipStep) {
      for (std::size_t i = 0; i < terms_.size(); ++i) {
        for (std::uint32_t layer = 0; layer < layers_; ++layer) {
          terms_[i].norms[layer].restore(former[i].norms[layer]);
        }
      }
      return;
    }
    for (std::uint32_t tensor = 0; tensor < theta_.size(); ++tensor) move(gradients, tensor, present);
  }

  const std::vector<std::vector<double>>& theta() const { return theta_; }
  double norm(std::uint32_t term, std::uint32_t layer) const { return terms_[term].norms[layer].n; }
  double scale(std::uint32_t term, std::uint32_t layer) const { return terms_[term].norms[layer].s; }
  double skipped(std::uint32_t term, std::uint32_t layer) const { return terms_[term].norms[layer].skipped; }
  bool occurred(std::uint32_t term, std::uint32_t layer) const { return terms_[term].norms[layer].occurred; }
  std::vector<Ticks> clocks(std::uint32_t term) const {
    std::vector<Ticks> clocks;
    for (const Moments& tensor : terms_[term].tensors) clocks.push_back(tensor.clock);
    return clocks;
  }
  const std::vector<Ticks>& shared_clocks() const { return clocks_; }

 private:
  struct Norm {
    double n = 0, s = 0, skipped = 0;
    bool occurred = false;
    void restore(const Norm& before) {
      n = before.n;
      s = before.s;
      occurred = before.occurred;
    }
    std::optional<double> former;  // n before the step
  };
  struct Moments {
    explicit Moments(std::size_t size) : m(size), v(size), x(size) {}
    Ticks clock;
    std::vector<double> m, v, x;
  };
  struct TermState {
    std::vector<Norm> norms;
    std::vector<Moments> tensors;
  };

  struct AnchorNorm {
    double n;
    std::optional<std::size_t> term;  // whose n it is, unless it is the mean
  };

  // The norm that scales are computed from.
  double scaling(const Norm& norm) const { return model_.options.form.lagged ? norm.former.value_or(norm.n) : norm.n; }

  bool skips_elements() const { return model_.options.form.non_finite == NonFinite::kSkipElement; }

  // Whether the term has reached all tensors of the layer for which it has a gradient.
  bool has_reached(const Gradients& gradients, std::size_t term, std::uint32_t layer) const {
    for (std::size_t p = 0; p < theta_.size(); ++p) {
      if (model_.parameters[p].layer != layer || !gradients[term][p]) continue;
      if (terms_[term].tensors[p].clock.t == 0) return false;
    }
    return true;
  }

  // Step 3; nullopt where no term qualifies.
  std::optional<AnchorNorm> anchor_of(std::uint32_t layer) const {
    const auto norm = [&](std::size_t i) { return scaling(terms_[i].norms[layer]); };
    std::vector<std::size_t> qualified;
    for (std::size_t i = 0; i < terms_.size(); ++i) {
      if (terms_[i].norms[layer].occurred && norm(i) > 1e-10) qualified.push_back(i);
    }
    if (qualified.empty()) return std::nullopt;
    const std::size_t named = model_.options.anchor_term;
    std::size_t anchor = qualified[0];
    switch (model_.options.anchor) {
      case Anchor::kFirst:
        break;
      case Anchor::kMax:
        for (const std::size_t i : qualified) anchor = norm(i) > norm(anchor) ? i : anchor;
        break;
      case Anchor::kMean: {
        double product = 1;
        for (const std::size_t i : qualified) product *= std::pow(norm(i), 1.0 / static_cast<double>(qualified.size()));
        return AnchorNorm{product, std::nullopt};
      }
      case Anchor::kTerm:
        if (std::count(qualified.begin(), qualified.end(), named) == 1) anchor = named;
    }
    return AnchorNorm{norm(anchor), anchor};
  }

  // "Finite in, finite out": whether a gradient of norm r leaves float32 when it is scaled by s.
  bool leaves_float32(double r, double s) const {
    if (model_.options.form.non_finite == NonFinite::kPropagate || model_.options.form.lagged) return false;
    return !(s * r <= 1e18) || std::isinf(static_cast<float>(s / model_.gradient_scale));
  }

  // Steps 1 to 4. Whether a norm counts as not finite.
  bool take_norms(const Gradients& gradients, std::uint32_t layer, std::vector<std::vector<bool>>& present) {
    std::vector<double> r(terms_.size());
    std::vector<bool> in_layer(terms_.size(), false);
    std::vector<Norm> former;
    bool skips = false;
    for (std::size_t i = 0; i < terms_.size(); ++i) {
      double squares = 0, beta3 = 0;
      bool any = false;
      for (std::size_t p = 0; p < theta_.size(); ++p) {
        if (model_.parameters[p].layer != layer) continue;
        beta3 = groups_[model_.parameters[p].group].beta3;
        if (!gradients[i][p]) continue;
        any = true;
        for (const double g : *gradients[i][p]) squares += g * g;
      }
      Norm& norm = terms_[i].norms[layer];
      former.push_back(norm);
      if (!any) continue;
      r[i] = std::sqrt(squares) / model_.gradient_scale;
      if (!std::isfinite(r[i])) {
        norm.skipped += 1;
        skips = true;
        in_layer[i] = skips_elements() && has_reached(gradients, i, layer);
        continue;
      }
      in_layer[i] = true;
      const double initial = model_.options.initial_norm;
      if (!norm.occurred) norm.n = initial == 0 ? r[i] : initial;
      if (norm.occurred || initial != 0) norm.n = beta3 * norm.n + (1 - beta3) * r[i];
      norm.occurred = true;
    }
    const auto withdraw = [&](std::size_t i) {
      terms_[i].norms[layer].restore(former[i]);
      terms_[i].norms[layer].skipped += 1;
      in_layer[i] = false;
      skips = true;
    };
    std::optional<AnchorNorm> anchor = anchor_of(layer);
    while (anchor && anchor->term && in_layer[*anchor->term] &&
           leaves_float32(r[*anchor->term], model_.weights[*anchor->term])) {
      withdraw(*anchor->term);
      anchor = anchor_of(layer);
    }
    for (std::size_t i = 0; i < terms_.size(); ++i) {
      if (!in_layer[i]) continue;
      Norm& norm = terms_[i].norms[layer];
      const double n = scaling(norm);
      norm.s = n > 1e-10 ? model_.weights[i] * std::pow(anchor->n / n, model_.options.balance) : 1;
      if (model_.weights[i] == 0) norm.s = 0;
      if (leaves_float32(r[i], norm.s)) {
        withdraw(i);
        continue;
      }
      for (std::size_t p = 0; p < theta_.size(); ++p) {
        present[i][p] = present[i][p] || (model_.parameters[p].layer == layer && gradients[i][p].has_value());
      }
    }
    return skips;
  }

  // Steps 5 to 7.
  void move(const Gradients& gradients, std::uint32_t p, const std::vector<std::vector<bool>>& present) {
    const GroupOptions& group = groups_[model_.parameters[p].group];
    const bool summed = model_.options.form.summed, amsgrad = model_.options.form.amsgrad;
    bool any = false;
    double weights = 0, largest_weight = 0;
    for (std::size_t i = 0; i < terms_.size(); ++i) {
      if (!present[i][p]) continue;
      any = true;
      weights += model_.weights[i];
      largest_weight = std::max(largest_weight, model_.weights[i]);
      terms_[i].tensors[p].clock.advance(group);
    }
    if (!any) return;
    const double w = model_.options.form.mean && largest_weight > 0 ? weights / largest_weight : 1;
    clocks_[p].advance(group);
    for (std::size_t e = 0; e < theta_[p].size(); ++e) {
      if (model_.options.form.one_v) {
        move_by_sum(gradients, p, e, present, w);
        continue;
      }
      double& theta = theta_[p][e];
      double u = 0, d = 0;
      if (summed) shared_[p].m[e] *= group.beta1;
      for (std::size_t i = 0; i < terms_.size(); ++i) {
        Moments& own = terms_[i].tensors[p];
        if (present[i][p]) {
          const double s = terms_[i].norms[model_.parameters[p].layer].s;
          double g = (group.maximize ? -1 : 1) * s * double{(*gradients[i][p])[e]} / model_.gradient_scale;
          const bool rests = skips_elements() && !(std::fabs(g) <= 1e18);
          if (!group.decoupled) g += group.weight_decay * theta;
          if (rests) g = 0;
          own.m[e] = rests ? own.m[e] : group.beta1 * own.m[e] + (1 - group.beta1) * g;
          shared_[p].m[e] += summed ? (1 - group.beta1) * g : 0;
          own.v[e] = rests ? own.v[e] : group.beta2 * own.v[e] + (1 - group.beta2) * g * g;
          own.x[e] = std::max(own.x[e], own.v[e]);
          shared_[p].x[e] = std::max(shared_[p].x[e], own.v[e]);
        }
        if (!present[i][p] && (!summed || own.clock.t == 0)) continue;
        const double v = amsgrad ? own.x[e] : own.v[e];
        d = std::max(d, std::sqrt(v) / std::sqrt(1 - own.clock.p2) + group.eps);
        u += group.lr / (1 - own.clock.p1) * own.m[e];
      }
      if (summed) u = group.lr / (1 - clocks_[p].p1) * shared_[p].m[e];
      if (summed && amsgrad) d = std::sqrt(shared_[p].x[e]) / std::sqrt(1 - clocks_[p].p2) + group.eps;
      theta -= u / d / w + (group.decoupled ? group.lr * group.weight_decay * theta : 0);
    }
  }

  // Steps 5 to 7 at one element where both moments are summed.
  void move_by_sum(const Gradients& gradients, std::uint32_t p, std::size_t e,
                   const std::vector<std::vector<bool>>& present, double w) {
    const GroupOptions& group = groups_[model_.parameters[p].group];
    double& theta = theta_[p][e];
    double g = group.decoupled ? 0 : group.weight_decay * theta;
    for (std::size_t i = 0; i < terms_.size(); ++i) {
      if (!present[i][p]) continue;
      const double s = terms_[i].norms[model_.parameters[p].layer].s;
      const double share = (group.maximize ? -1 : 1) * s * double{(*gradients[i][p])[e]} / model_.gradient_scale;
      if (!skips_elements() || std::fabs(share) <= 1e18) g += share;
    }
    Moments& own = shared_[p];
    own.m[e] = group.beta1 * own.m[e] + (1 - group.beta1) * g;
    own.v[e] = group.beta2 * own.v[e] + (1 - group.beta2) * g * g;
    own.x[e] = std::max(own.x[e], own.v[e]);
    const double second = model_.options.form.amsgrad ? own.x[e] : own.v[e];
    const double q = group.lr / (1 - clocks_[p].p1) * own.m[e] / (std::sqrt(second / (1 - clocks_[p].p2)) + group.eps);
    theta -= q / w + (group.decoupled ? group.lr * group.weight_decay * theta : 0);
  }

  Model model_;
  std::vector<GroupOptions> groups_;
  std::uint32_t layers_;
  std::vector<std::vector<double>> theta_;
  std::vector<TermState> terms_;
  std::vector<Moments> shared_;
  std::vector<Ticks> clocks_;  // T
};

// docs/algorithm.md, "Tolerance".
inline constexpr double kTolerance = 2e-7;

inline void expect_close(const std::vector<std::vector<double>>& expected,
                         const std::vector<std::vector<float>>& actual) {
  for (std::size_t p = 0; p < expected.size(); ++p) {
    for (std::size_t e = 0; e < expected[p].size(); ++e) {
      ASSERT_NEAR(double{actual[p][e]}, expected[p][e], kTolerance) << "tensor " << p << ", element " << e;
    }
  }
}

inline void expect_close(const std::vector<Ticks>& expected, const std::vector<Clock>& actual) {
  ASSERT_EQ(expected.size(), actual.size());
  for (std::size_t p = 0; p < expected.size(); ++p) {
    ASSERT_EQ(actual[p].t, expected[p].t) << "clock of tensor " << p;
    ASSERT_NEAR(actual[p].p1, expected[p].p1, 1e-15) << "clock of tensor " << p;
    ASSERT_NEAR(actual[p].p2, expected[p].p2, 1e-15) << "clock of tensor " << p;
  }
}

}  // namespace mtadam::test
