// `advantages` against a second judge: the textbook recursion over deltas, written from the formula
// on plain vectors of double, masked steps removed first. It shares no code with kernels/math.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::expect_message;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Case {
  std::vector<double> old, ref, values, scores, token_rewards;
  std::vector<int64_t> cu = {0};
  std::vector<uint8_t> mask;
  bool with_mask = false, with_token_rewards = false;
  AdvantageOptions options;

  Tensor tensor(const std::vector<double>& x, at::ScalarType type) const {
    return at::tensor(x, at::kDouble).to(type);
  }
  Advantages run(at::ScalarType type) const {
    return advantages(
        tensor(old, type), tensor(ref, type), tensor(values, type), tensor(scores, type),
        at::tensor(cu, at::kLong),
        with_mask
            ? OptionalTensor(at::tensor(std::vector<int64_t>(mask.begin(), mask.end()), at::kLong)
                                 .to(at::kByte))
            : std::nullopt,
        options, with_token_rewards ? OptionalTensor(tensor(token_rewards, type)) : std::nullopt);
  }
};

double kl_reference(double d, const AdvantageOptions& o) {
  d = std::min(std::max(d, -o.kl_clamp), o.kl_clamp);
  if (o.kl_estimator == "k1") return d;
  if (o.kl_estimator == "k2") return d * d / 2;
  if (o.kl_estimator == "k3") return std::exp(-d) - 1 + d;
  return std::abs(d);
}

struct Reference {
  std::vector<double> advantages, returns, rewards;
  double sum = 0, squares = 0, count = 0, kl = 0;
};

Reference reference(const Case& c) {
  const size_t n = c.old.size();
  Reference out{std::vector<double>(n), std::vector<double>(n), std::vector<double>(n)};
  for (size_t row = 0; row + 1 < c.cu.size(); ++row) {
    std::vector<int64_t> steps;  // the entries that take part, in order
    for (int64_t t = c.cu[row]; t < c.cu[row + 1]; ++t) {
      if (!c.with_mask || c.mask[t]) steps.push_back(t);
    }
    if (steps.empty()) continue;
    const size_t trained = steps.size();
    const bool extra = c.options.placement == "after_last" && steps.back() + 1 < c.cu[row + 1];
    if (extra) steps.push_back(steps.back() + 1);
    for (size_t i = 0; i < steps.size(); ++i) {
      const int64_t t = steps[i];
      double reward = c.with_token_rewards ? c.token_rewards[t] : 0;
      if (i < trained) {
        const double kl = kl_reference(c.old[t] - c.ref[t], c.options);
        reward -= c.options.kl_coef * kl;
        out.kl += kl;
      }
      if (i + 1 == steps.size()) reward += c.scores[row];
      out.rewards[t] = reward;
    }
    double after = 0;
    for (size_t i = steps.size(); i-- > 0;) {
      const int64_t t = steps[i];
      const double next_value = i + 1 < steps.size() ? c.values[steps[i + 1]] : 0;
      const double delta = out.rewards[t] + c.options.gamma * next_value - c.values[t];
      after = delta + c.options.gamma * c.options.lambda * after;
      out.returns[t] = after + c.values[t];
      if (i >= trained) continue;
      out.advantages[t] = after;
      out.sum += after;
      out.squares += after * after;
      out.count += 1;
    }
  }
  return out;
}

Case random_case(std::mt19937& rng, int64_t rows, int64_t longest) {
  std::normal_distribution<double> normal;
  const auto below = [&](int n) { return static_cast<int>(rng() % n); };
  Case c;
  c.with_mask = below(3) != 0;
  c.with_token_rewards = below(3) == 0;
  c.options.kl_coef = below(4) == 0 ? 0 : 0.3 * normal(rng);
  c.options.kl_estimator = std::vector<std::string>{"k1", "k2", "k3", "abs"}[below(4)];
  c.options.kl_clamp = below(2) ? kNoClamp : 0.5;
  c.options.placement = below(2) ? "last" : "after_last";
  c.options.gamma = below(2) ? 1.0 : 0.9;
  c.options.lambda = std::vector<double>{0, 0.5, 0.95, 1}[below(4)];
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t length = below(4) == 0 ? below(2) : below(static_cast<int>(longest) + 1);
    const int kind = below(4);  // all, random, a masked tail, none
    const int64_t tail = below(static_cast<int>(length) + 1);
    for (int64_t i = 0; i < length; ++i) {
      const bool kept = kind == 0 || (kind == 1 && below(2)) || (kind == 2 && i < tail);
      c.mask.push_back(kept);
      c.old.push_back(-std::abs(normal(rng)));
      c.ref.push_back(c.old.back() + 0.5 * normal(rng));
      c.values.push_back(normal(rng));
      c.token_rewards.push_back(normal(rng));
    }
    c.cu.push_back(c.cu.back() + length);
    c.scores.push_back(normal(rng));
  }
  return c;
}

void expect_same(const Case& c, at::ScalarType type, double tolerance, const std::string& what) {
  const Reference want = reference(c);
  const Advantages got = c.run(type);
  const auto double_tensor = [&](const std::vector<double>& x) { return c.tensor(x, at::kDouble); };
  expect_close(got.advantages, double_tensor(want.advantages), tolerance, tolerance, what);
  expect_close(got.returns, double_tensor(want.returns), tolerance, tolerance, what);
  expect_close(got.rewards, double_tensor(want.rewards), tolerance, tolerance, what);
  EXPECT_EQ(got.stats.scalar_type(), at::kDouble);
  const double n = std::max(1.0, want.count);
  expect_close(got.stats / n, double_tensor({want.sum, want.squares, want.count, want.kl}) / n,
               tolerance, 10 * tolerance, what);
}

TEST(Advantages, MatchTheTextbookOnRandomRaggedBatches) {
  std::mt19937 rng(1);
  for (int i = 0; i < 3000; ++i) {
    const Case c = random_case(rng, rng() % 9, 40);
    expect_same(c, at::kDouble, 1e-11, "case " + std::to_string(i));
    if (i % 4 == 0) expect_same(c, at::kFloat, 2e-5, "float case " + std::to_string(i));
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(Advantages, AMillionStepsInOneRow) {
  std::mt19937 rng(2);
  Case c = random_case(rng, 0, 0);
  std::normal_distribution<double> normal;
  c.with_mask = c.with_token_rewards = false;
  c.options = {};
  c.options.kl_coef = 0.1;
  for (int64_t i = 0; i < (1 << 20); ++i) {
    c.old.push_back(0.1 * normal(rng));
    c.ref.push_back(0.1 * normal(rng));
    c.values.push_back(normal(rng));
  }
  c.cu.push_back(1 << 20);
  c.scores.push_back(1);
  expect_same(c, at::kDouble, 1e-10, "1M");
}

TEST(Advantages, MaskedInputsAreNeverRead) {
  std::mt19937 rng(3);
  for (int i = 0; i < 200; ++i) {
    Case c = random_case(rng, 4, 12);
    c.with_mask = true;
    c.options.placement = "last";
    const Advantages want = c.run(at::kDouble);
    for (size_t t = 0; t < c.mask.size(); ++t) {
      if (!c.mask[t]) c.old[t] = c.ref[t] = c.values[t] = c.token_rewards[t] = kNan;
    }
    const Advantages got = c.run(at::kDouble);
    EXPECT_TRUE(at::equal(got.advantages, want.advantages));
    EXPECT_TRUE(at::equal(got.returns, want.returns));
    EXPECT_TRUE(at::equal(got.stats, want.stats));
  }
}

TEST(Advantages, ThreadsAndPackingOrderChangeNoBit) {
  std::mt19937 rng(4);
  const Case c = random_case(rng, 400, 300);
  at::set_num_threads(1);
  const Advantages one = c.run(at::kFloat);
  at::set_num_threads(4);
  const Advantages four = c.run(at::kFloat);
  at::set_num_threads(1);
  EXPECT_TRUE(at::equal(one.advantages, four.advantages));
  EXPECT_TRUE(at::equal(one.stats, four.stats));

  // The second half first; and each half alone, whose stats add up.
  const int64_t half = 200, cut = c.cu[half], n = c.cu.back();
  const auto part = [&](int64_t first, int64_t last) {
    Case p = c;
    const auto slice = [&](auto& x) {
      x = std::decay_t<decltype(x)>(x.begin() + c.cu[first], x.begin() + c.cu[last]);
    };
    slice(p.old), slice(p.ref), slice(p.values), slice(p.token_rewards), slice(p.mask);
    p.scores = {c.scores.begin() + first, c.scores.begin() + last};
    p.cu.clear();
    for (int64_t i = first; i <= last; ++i) p.cu.push_back(c.cu[i] - c.cu[first]);
    return p;
  };
  const Advantages head = part(0, half).run(at::kFloat), tail = part(half, 400).run(at::kFloat);
  EXPECT_TRUE(at::equal(head.advantages, one.advantages.slice(0, 0, cut)));
  EXPECT_TRUE(at::equal(tail.returns, one.returns.slice(0, cut, n)));
  expect_close(head.stats + tail.stats, one.stats, 1e-9, 1e-12, "stats add up");
}

TEST(Advantages, WhitenedAdvantagesIgnoreAConstantInTheScore) {
  std::mt19937 rng(5);
  Case c = random_case(rng, 20, 30);
  c.with_mask = false;
  c.options = {};
  c.options.lambda = 1;  // then a constant in the score shifts every advantage alike
  const Advantages before = c.run(at::kDouble);
  for (double& s : c.scores) s += 7;
  const Advantages after = c.run(at::kDouble);
  for (bool unbiased : {false, true}) {
    expect_close(whiten(after.advantages, after.stats, unbiased, true),
                 whiten(before.advantages, before.stats, unbiased, true), 1e-10);
  }
}

TEST(Advantages, ReadsNonContiguousInput) {
  std::mt19937 rng(6);
  const Case c = random_case(rng, 5, 20);
  const auto wide = [&](const std::vector<double>& x) {
    return at::stack({c.tensor(x, at::kDouble), c.tensor(x, at::kDouble) * kNan}, 1).select(1, 0);
  };
  const auto got = advantages(wide(c.old), wide(c.ref), wide(c.values), wide(c.scores),
                              at::tensor(c.cu, at::kLong), std::nullopt, c.options);
  Case plain = c;
  plain.with_mask = plain.with_token_rewards = false;
  EXPECT_TRUE(at::equal(got.advantages, plain.run(at::kDouble).advantages));
}

TEST(Advantages, ErrorsNameArgumentExpectedAndGot) {
  const Tensor x = at::zeros({4}), two = at::zeros({2}), cu = at::tensor({0, 1, 4}, at::kLong);
  const AdvantageOptions o;
  const auto call = [&](const Tensor& old, const Tensor& values, const Tensor& scores,
                        const Tensor& offsets, const OptionalTensor& mask,
                        const AdvantageOptions& options) {
    return [=] { advantages(old, x, values, scores, offsets, mask, options); };
  };
  const auto with = [&](const auto& change) {
    AdvantageOptions changed;
    change(changed);
    return call(x, x, two, cu, std::nullopt, changed);
  };
  const OptionalTensor none;
  expect_message(call(x.to(at::kHalf), x, two, cu, none, o),
                 "advantages: logp_old: expected float32 or float64, got Half [4] on cpu");
  expect_message(call(x.view({2, 2}), x, two, cu, none, o),
                 "advantages: logp_old: expected 1 dimension, got Float [2, 2] on cpu");
  expect_message(call(x, two, two, cu, none, o),
                 "advantages: values: expected Float [4] on cpu as logp_old, got Float [2] on cpu");
  expect_message(call(x, x, x, cu, none, o),
                 "advantages: scores: expected [B] of cu_seqlens [B+1] = [2], got Float [4]");
  expect_message(call(x, x, two, cu.to(at::kInt), none, o),
                 "advantages: cu_seqlens: expected int64 [B+1], got Int [3] on cpu");
  expect_message(call(x, x, two, at::tensor({1, 2, 4}, at::kLong), none, o),
                 "advantages: cu_seqlens[0]: expected 0, got 1");
  expect_message(call(x, x, two, at::tensor({0, 5, 4}, at::kLong), none, o),
                 "advantages: cu_seqlens: expected values that never fall, got 5 then 4 at 2");
  expect_message(call(x, x, two, at::tensor({0, 1, 3}, at::kLong), none, o),
                 "advantages: cu_seqlens: expected to end at the number of tokens 4, got 3");
  expect_message(call(x, x, two, cu, two.to(at::kBool), o),
                 "advantages: mask: expected uint8 or bool [N] with N = 4, got Bool [2] on cpu");
  expect_message(with([](auto& c) { c.placement = "first"; }),
                 "advantages: placement: expected \"last\" or \"after_last\", got \"first\"");
  expect_message(with([](auto& c) { c.kl_estimator = "k4"; }), "advantages: kl_estimator: ");
  expect_message(with([](auto& c) { c.kl_clamp = 0; }), "advantages: kl_clamp: ");
  expect_message(with([](auto& c) { c.gamma = 1.5; }),
                 "advantages: gamma: expected a number in [0, 1], got 1.5");
  expect_message(with([](auto& c) { c.lambda = kNan; }), "advantages: lambda: ");
  expect_message(with([](auto& c) { c.kl_coef = kNan; }), "advantages: kl_coef: ");
}

}  // namespace
}  // namespace hone::kernels
