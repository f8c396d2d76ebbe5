#pragma once

// The second judge of `advantages`: the textbook recursions over deltas, written from the formulas
// on plain vectors of double, masked steps removed first. It shares no code with kernels/math.

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "kernels/advantage_ops.h"

namespace hone::kernels::test {

/// One sequence; entry t is trained where kept[t].
struct Row {
  std::vector<double> old, ref, values, token_rewards, behaviour;
  std::vector<uint8_t> kept;
  double score = 0, bootstrap = 0;
  int64_t length = 0;  // entries from here on are not kept (padded rows)
};

struct Case {
  std::vector<Row> rows;
  int64_t width = 0;  // of padded rows
  bool padded = false, with_mask = false, with_lengths = false, with_token_rewards = false;
  bool with_ref = true, with_values = true, with_scores = true, with_bootstrap = false;
  AdvantageOptions options;

  bool trained(const Row& row, size_t t) const {
    return (!with_mask || row.kept[t]) && (!with_lengths || static_cast<int64_t>(t) < row.length);
  }
};

/// What a case gives, rows one after the other.
struct Reference {
  std::vector<double> advantages, returns, rewards;
  double sum = 0, squares = 0, count = 0, kl = 0;
};

inline double kl_reference(double d, const AdvantageOptions& o) {
  d = std::min(std::max(d, -o.kl_clamp), o.kl_clamp);
  if (o.kl_estimator == "k1") return d;
  if (o.kl_estimator == "k2") return d * d / 2;
  if (o.kl_estimator == "k3") return std::exp(-d) - 1 + d;
  return std::abs(d);
}

inline Reference reference(const Case& c) {
  Reference out;
  const AdvantageOptions& o = c.options;
  const double lambda = o.estimator == "return" ? 1.0 : o.lambda;
  for (const Row& row : c.rows) {
    const size_t base = out.advantages.size(), size = row.old.size();
    for (auto* x : {&out.advantages, &out.returns, &out.rewards}) x->resize(base + size);
    std::vector<size_t> steps;  // the entries that take part, in order
    for (size_t t = 0; t < size; ++t) {
      if (c.trained(row, t)) steps.push_back(t);
    }
    if (steps.empty()) continue;
    const size_t trained = steps.size();
    if (o.placement == "after_last" && steps.back() + 1 < size) steps.push_back(steps.back() + 1);
    for (size_t i = 0; i < steps.size(); ++i) {
      const size_t t = steps[i];
      double reward = c.with_token_rewards ? row.token_rewards[t] : 0;
      if (i < trained && c.with_ref) {
        const double kl = kl_reference(row.old[t] - row.ref[t], o);
        reward -= o.kl_coef * kl;
        out.kl += kl;
      }
      if (i + 1 == steps.size() && c.with_scores) reward += row.score;
      out.rewards[base + t] = reward;
    }
    double after = 0;  // A_{t+1}, or v_{t+1} - V_{t+1} of V-trace
    double next_value = c.with_bootstrap ? row.bootstrap : 0;
    for (size_t i = steps.size(); i-- > 0;) {
      const size_t t = steps[i];
      const double value = c.with_values ? row.values[t] : 0, reward = out.rewards[base + t];
      double advantage = 0;
      if (o.estimator == "vtrace") {
        const double ratio = i < trained ? std::exp(row.old[t] - row.behaviour[t]) : 1;
        const double rho = std::min(o.rho_clip, ratio), trace = lambda * std::min(o.c_clip, ratio);
        advantage = rho * (reward + o.gamma * (next_value + after) - value);
        after = rho * (reward + o.gamma * next_value - value) + o.gamma * trace * after;
      } else {
        after = reward + o.gamma * next_value - value + o.gamma * lambda * after;
        advantage = after;
      }
      out.returns[base + t] = value + after;
      next_value = value;
      if (i >= trained) continue;
      out.advantages[base + t] = advantage;
      out.sum += advantage;
      out.squares += advantage * advantage;
      out.count += 1;
    }
  }
  return out;
}

inline int64_t below(std::mt19937& rng, int64_t n) {
  return static_cast<int64_t>(rng() % static_cast<uint64_t>(n));
}

inline Row random_row(std::mt19937& rng, int64_t size) {
  std::normal_distribution<double> normal;
  Row row;
  const int64_t kind = below(rng, 5);  // all, random, a masked tail, none, long stretches
  const int64_t tail = below(rng, size + 1), stretch = 1 + below(rng, 100);
  for (int64_t t = 0; t < size; ++t) {
    row.kept.push_back(kind == 0 || (kind == 1 && below(rng, 2)) || (kind == 2 && t < tail) ||
                       (kind == 4 && t / stretch % 2 == 0));
    row.old.push_back(-std::abs(normal(rng)));
    row.ref.push_back(row.old.back() + 0.5 * normal(rng));
    row.behaviour.push_back(row.old.back() + 0.3 * normal(rng));
    row.values.push_back(normal(rng));
    row.token_rewards.push_back(normal(rng));
  }
  row.length = below(rng, size + 1);
  row.score = normal(rng);
  row.bootstrap = normal(rng);
  return row;
}

/// Anything an `advantages` call may be, rows up to `longest`.
inline Case random_case(std::mt19937& rng, int64_t rows, int64_t longest) {
  std::normal_distribution<double> normal;
  const auto chance = [&](int64_t one_in) { return below(rng, one_in) == 0; };
  const auto one_of = [&](auto... x) {
    return std::vector{x...}[static_cast<size_t>(below(rng, sizeof...(x)))];
  };
  Case c;
  c.padded = chance(2);
  c.width = below(rng, longest + 1);
  c.with_mask = !chance(3);
  c.with_lengths = c.padded && chance(2);
  c.with_token_rewards = chance(3);
  c.with_values = !chance(6);
  c.with_bootstrap = chance(3);
  AdvantageOptions& o = c.options;
  o.kl_coef = chance(4) ? 0 : 0.3 * normal(rng);
  c.with_ref = o.kl_coef != 0 || chance(2);
  o.kl_estimator = one_of("k1", "k2", "k3", "abs");
  o.kl_clamp = chance(2) ? kNoClamp : 0.5;
  o.placement = one_of("last", "last", "after_last", "per_token");
  if (o.placement == "per_token") c.with_token_rewards = true;
  c.with_scores = o.placement != "per_token" && !chance(6);
  o.gamma = chance(2) ? 1.0 : 0.9;
  o.lambda = one_of(0.0, 0.5, 0.95, 1.0);
  o.estimator = one_of("gae", "td_lambda", "return", "vtrace");
  o.rho_clip = one_of(0.7, 1.0, 2.0, kNoClamp);
  o.c_clip = one_of(0.7, 1.0, kNoClamp);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t size = c.padded ? c.width : chance(4) ? below(rng, 2) : below(rng, longest + 1);
    c.rows.push_back(random_row(rng, size));
  }
  return c;
}

/// The arrays of a case as tensors, and the call. `tail` columns of junk after each padded row, and
/// as many before: rows are then strided.
struct CaseTensors {
  Tensor old;
  OptionalTensor ref, values, scores, cu_seqlens, mask;
  AdvantageExtras extras;

  explicit CaseTensors(const Case& c, at::ScalarType type, int64_t junk = 0) {
    const auto rows = static_cast<int64_t>(c.rows.size());
    const auto per_token = [&](auto member, at::ScalarType to, double filler) {
      std::vector<double> flat;
      for (const Row& row : c.rows) {
        if (c.padded) flat.insert(flat.end(), static_cast<size_t>(junk), filler);
        flat.insert(flat.end(), (row.*member).begin(), (row.*member).end());
        if (c.padded) flat.insert(flat.end(), static_cast<size_t>(junk), filler);
      }
      const Tensor x = at::tensor(flat, at::kDouble).to(to);
      return c.padded ? x.view({rows, c.width + 2 * junk}).narrow(1, junk, c.width) : x;
    };
    const auto per_row = [&](auto member, at::ScalarType to) {
      std::vector<double> flat;
      for (const Row& row : c.rows) flat.push_back(static_cast<double>(row.*member));
      return at::tensor(flat, at::kDouble).to(to);
    };
    const double junk_value = std::nan("");
    old = per_token(&Row::old, type, junk_value);
    if (c.with_ref) ref = per_token(&Row::ref, type, junk_value);
    if (c.with_values) values = per_token(&Row::values, type, junk_value);
    if (c.with_scores) scores = per_row(&Row::score, type);
    if (c.with_mask) mask = per_token(&Row::kept, at::kByte, 1);
    if (c.with_token_rewards) {
      extras.token_rewards = per_token(&Row::token_rewards, type, junk_value);
    }
    if (c.with_lengths) extras.lengths = per_row(&Row::length, at::kLong);
    if (c.with_bootstrap) extras.bootstrap_values = per_row(&Row::bootstrap, type);
    if (c.options.estimator == "vtrace") {
      extras.logp_behaviour = per_token(&Row::behaviour, type, junk_value);
    }
    if (c.padded) return;
    std::vector<int64_t> cu = {0};
    for (const Row& row : c.rows) cu.push_back(cu.back() + static_cast<int64_t>(row.old.size()));
    cu_seqlens = at::tensor(cu, at::kLong);
  }

  Advantages run(const AdvantageOptions& options) const {
    return advantages(old, ref, values, scores, cu_seqlens, mask, options, extras);
  }
};

}  // namespace hone::kernels::test
