// Bad input of `advantages`: every message names op, argument, expected and got.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "kernels/inputs.h"
#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"

namespace hone::kernels {
namespace {

using hone::test::expect_message;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A call that is right until `change` spoils it.
struct Call {
  Tensor old = at::zeros({4});
  OptionalTensor ref = at::zeros({4}), values = at::zeros({4}), scores = at::zeros({2});
  OptionalTensor cu = at::tensor({0, 1, 4}, at::kLong), mask;
  AdvantageOptions options;
  AdvantageExtras extras;

  void run() const { advantages(old, ref, values, scores, cu, mask, options, extras); }
};

Call padded() {
  Call c;
  c.old = at::zeros({2, 3});
  c.ref = c.values = c.old;
  c.cu = std::nullopt;
  return c;
}

void expect(const std::function<void(Call&)>& change, const std::string& message,
            Call call = Call()) {
  change(call);
  expect_message([&] { call.run(); }, "advantages: " + message);
}

TEST(AdvantageErrors, Tensors) {
  Call().run();
  padded().run();
  const Tensor two = at::zeros({2}), x = at::zeros({4});
  expect([&](Call& c) { c.old = x.to(at::kHalf); },
         "logp_old: expected float32, float64 or bfloat16, got Half [4] on cpu");
  expect(
      [&](Call& c) {
        c.old = x.view({2, 2});
      },
      "logp_old: expected 1 dimension, got Float [2, 2] on cpu");
  expect([&](Call& c) { c.old = Tensor(); },
         "logp_old: expected float32, float64 or bfloat16, got an undefined tensor");
  expect([&](Call& c) { c.cu = std::nullopt; },
         "logp_old: expected [B,T], or [N] with cu_seqlens, got Float [4] on cpu");
  expect([&](Call& c) { c.values = two; },
         "values: expected the sizes of logp_old = [4], got Float [2] on cpu");
  expect([&](Call& c) { c.ref = x.to(at::kDouble); },
         "logp_ref: expected Float, got Double [4] on cpu");
  expect([&](Call& c) { c.ref = x.to(at::kInt); },
         "logp_ref: expected float32, float64 or bfloat16, got Int [4] on cpu");
  expect([&](Call& c) { c.scores = x; },
         "scores: expected [B] of cu_seqlens [B+1] = [2], got Float [4] on cpu");
  expect([&](Call& c) { c.scores = at::zeros({3}); },
         "scores: expected [B] of logp_old [B,T] = [2], got Float [3] on cpu", padded());
  expect([&](Call& c) { c.extras.bootstrap_values = x; }, "bootstrap_values: expected [B]");
  expect([&](Call& c) { c.extras.token_rewards = two; }, "token_rewards: expected the sizes");
  expect([&](Call& c) { c.mask = two.to(at::kBool); },
         "mask: expected uint8 or bool [4] as logp_old, got Bool [2] on cpu");
  expect(
      [&](Call& c) {
        c.mask = at::ones({2, 3});
      },
      "mask: expected uint8 or bool [2, 3] as logp_old, got Float [2, 3] on cpu", padded());
  // Beside a meta tensor the dispatcher would pick the shapes-only op; the check is the kernels'.
  const OptionalTensor none, elsewhere = at::zeros({4}, at::kMeta);
  const Call c;
  const auto settings = advantage_settings(0, "k1", 1, "last", "gae", 1, 1, 1, 1);
  expect_message(
      [&] {
        check_advantages({c.old, c.ref, elsewhere, c.scores, c.cu, none, none, none, none, none},
                         settings);
      },
      "advantages: values: expected cpu, got Float [4] on meta");
}

TEST(AdvantageErrors, RowsAndLengths) {
  const auto cu = [](std::vector<int64_t> x) {
    return [x](Call& c) { c.cu = at::tensor(x, at::kLong); };
  };
  expect(cu({1, 2, 4}), "cu_seqlens[0]: expected 0, got 1");
  expect(cu({0, 5, 4}), "cu_seqlens: expected values that never fall, got 5 then 4 at 2");
  expect(cu({0, 1, 3}), "cu_seqlens: expected to end at the number of tokens 4, got 3");
  expect([](Call& c) { c.cu = at::empty({0}, at::kLong); },
         "cu_seqlens: expected int64 [B+1], got Long [0] on cpu");
  expect([](Call& c) { c.cu = c.cu->to(at::kInt); },
         "cu_seqlens: expected int64 [B+1], got Int [3] on cpu");
  const auto lengths = [](std::vector<int64_t> x) {
    return [x](Call& c) { c.extras.lengths = at::tensor(x, at::kLong); };
  };
  expect(lengths({1, 2}), "lengths: expected none beside cu_seqlens");
  expect(lengths({1, 4}), "lengths[1]: expected a number from 0 to T = 3, got 4", padded());
  expect(lengths({-1, 2}), "lengths[0]: expected a number from 0 to T = 3, got -1", padded());
  expect(lengths({1}), "lengths: expected [B] of logp_old [B,T] = [2], got Long [1]", padded());
  expect([](Call& c) { c.extras.lengths = at::zeros({2}, at::kInt); },
         "lengths: expected Long, got Int [2] on cpu", padded());
}

TEST(AdvantageErrors, Options) {
  const auto option = [](const std::function<void(AdvantageOptions&)>& change) {
    return [change](Call& c) { change(c.options); };
  };
  expect(option([](auto& o) { o.placement = "first"; }),
         "placement: expected \"last\", \"after_last\" or \"per_token\", got \"first\"");
  expect(option([](auto& o) { o.estimator = "mc"; }),
         "estimator: expected \"gae\", \"td_lambda\", \"return\" or \"vtrace\", got \"mc\"");
  expect(option([](auto& o) { o.kl_estimator = "k4"; }), "kl_estimator: expected \"k1\"");
  expect(option([](auto& o) { o.kl_clamp = 0; }), "kl_clamp: expected a positive number");
  expect(option([](auto& o) { o.gamma = 1.5; }), "gamma: expected a number in [0, 1], got 1.5");
  expect(option([](auto& o) { o.lambda = kNan; }), "lambda: expected a number in [0, 1], got nan");
  expect(option([](auto& o) { o.kl_coef = kNan; }), "kl_coef: expected a finite number, got nan");
  expect(option([](auto& o) { o.rho_clip = 0; }), "rho_clip: expected a positive number");
  expect(option([](auto& o) { o.c_clip = kNan; }), "c_clip: expected a positive number");
}

TEST(AdvantageErrors, WhatOneArgumentNeedsOfAnother) {
  expect([](Call& c) { c.ref = std::nullopt, c.options.kl_coef = 0.1; },
         "logp_ref: expected the reference log-probabilities that kl_coef needs, got none");
  expect([](Call& c) { c.options.estimator = "vtrace"; },
         "logp_behaviour: expected the log-probabilities of the policy that wrote the text, got "
         "none");
  expect([](Call& c) { c.extras.logp_behaviour = c.old; },
         "logp_behaviour: expected none, because only estimator \"vtrace\" reads it");
  expect([](Call& c) { c.options.placement = "per_token", c.scores = std::nullopt; },
         "token_rewards: expected the rewards that placement \"per_token\" needs, got none");
  expect([](Call& c) { c.options.placement = "per_token", c.extras.token_rewards = c.old; },
         "scores: expected none beside placement \"per_token\", got Float [2] on cpu");
}

TEST(AdvantageErrors, NumbersThatAreNone) {
  const auto at_index = [](const Tensor& like, int64_t i, double x) {
    Tensor out = at::zeros_like(like);
    out.view({-1})[i] = x;
    return out;
  };
  const Call plain;
  expect([&](Call& c) { c.old = at_index(plain.old, 1, kNan); },
         "logp_old[1]: expected a finite number, got nan");
  expect([&](Call& c) { c.ref = at_index(plain.old, 3, -kInfinity); },
         "logp_ref[3]: expected a finite number, got -inf");
  expect([&](Call& c) { c.values = at_index(plain.old, 0, kNan); },
         "values[0]: expected a finite number, got nan");
  expect([&](Call& c) { c.scores = at_index(*plain.scores, 1, kInfinity); },
         "scores[1]: expected a finite number, got inf");
  expect([&](Call& c) { c.extras.bootstrap_values = at_index(*plain.scores, 0, kNan); },
         "bootstrap_values[0]: expected a finite number, got nan");
  expect([&](Call& c) { c.values = at_index(c.old, 4, kNan); },
         "values[1, 1]: expected a finite number, got nan", padded());
}

TEST(AdvantageErrors, Outputs) {
  const Call c;
  const auto into = [&](const Tensor& advantages, const Tensor& stats) {
    return [=] {
      advantages_into({advantages, at::zeros({4}), at::zeros({4}), stats}, c.old, c.ref, c.values,
                      c.scores, c.cu, c.mask, c.options);
    };
  };
  const Tensor stats = at::zeros({4}, at::kDouble);
  into(at::zeros({4}), stats)();
  expect_message(into(at::zeros({5}), stats),
                 "advantages: advantages: expected the sizes of logp_old = [4], got Float [5]");
  expect_message(into(at::zeros({4}, at::kDouble), stats),
                 "advantages: advantages: expected Float, got Double [4] on cpu");
  expect_message(into(at::zeros({4, 2}).select(1, 0), stats),
                 "advantages: advantages: expected contiguous memory");
  expect_message(into(at::zeros({4}), at::zeros({4})), "advantages: stats: expected Double");
}

}  // namespace
}  // namespace hone::kernels
