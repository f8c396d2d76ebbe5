// Bias, temperature, entropy's gradient, kinds of the policy loss and top-k of the head ops,
// against plain double loops over whole logits.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/ops.h"
#include "tests/kernels/expect_message.h"
#include "tests/kernels/finite_difference.h"

namespace hone::kernels {
namespace {

using test::expect_close;
using test::expect_gradient;
using test::expect_message;

struct Head {
  Tensor hidden, weight, bias, targets;
  double temperature;
};

Head random_head(std::mt19937& rng, int64_t tokens, int64_t width, int64_t vocabulary) {
  return {at::randn({tokens, width}, at::kDouble), at::randn({vocabulary, width}, at::kDouble),
          at::randn({vocabulary}, at::kDouble), at::randint(vocabulary, {tokens}, at::kLong),
          rng() % 2 ? 1.0 : 0.6};
}

struct Row {
  std::vector<double> logp;
  double entropy = 0;
};

std::vector<Row> rows_of(const Head& h) {
  const int64_t n = h.hidden.size(0), width = h.hidden.size(1), v = h.weight.size(0);
  const double *x = h.hidden.const_data_ptr<double>(), *w = h.weight.const_data_ptr<double>();
  const double* b = h.bias.const_data_ptr<double>();
  std::vector<Row> rows(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    auto& logp = rows[static_cast<size_t>(i)].logp;
    double total = 0;
    for (int64_t j = 0; j < v; ++j) {
      double z = b[j];
      for (int64_t k = 0; k < width; ++k) z += x[i * width + k] * w[j * width + k];
      logp.push_back(z / h.temperature);
      total += std::exp(logp.back());
    }
    for (double& l : logp) {
      l -= std::log(total);
      rows[static_cast<size_t>(i)].entropy -= std::exp(l) * l;
    }
  }
  return rows;
}

TEST(HeadOptions, MatchPlainLoopsOnTenThousandRandomShapes) {
  at::set_num_threads(1);  // thousands of meetings of threads for nothing
  at::manual_seed(1);
  std::mt19937 rng(1);
  for (int i = 0; i < 10000; ++i) {
    const auto size = [&](int most) { return static_cast<int64_t>(rng() % most); };
    const Head h = random_head(rng, size(5), 1 + size(4), 1 + size(20));
    const int64_t k = 1 + size(static_cast<int>(h.weight.size(0)));
    const auto rows = rows_of(h);
    const auto got = token_top_logprobs(h.hidden, h.weight, h.targets, k, h.temperature, h.bias);
    for (size_t r = 0; r < rows.size(); ++r) {
      const auto row = static_cast<int64_t>(r);
      const auto target = static_cast<size_t>(h.targets[row].item<int64_t>());
      ASSERT_NEAR(got.logprobs[row].item<double>(), rows[r].logp[target], 1e-10);
      ASSERT_NEAR(got.entropy[row].item<double>(), rows[r].entropy, 1e-10);
      std::vector<double> best = rows[r].logp;
      std::sort(best.begin(), best.end(), std::greater<>());
      for (int64_t j = 0; j < k; ++j) {
        const auto id = static_cast<size_t>(got.top_ids[row][j].item<int64_t>());
        ASSERT_NEAR(got.top_logprobs[row][j].item<double>(), best[static_cast<size_t>(j)], 1e-10);
        ASSERT_NEAR(rows[r].logp[id], best[static_cast<size_t>(j)], 1e-10);
      }
    }
    const auto same = token_logprobs(h.hidden, h.weight, h.targets, h.temperature, h.bias);
    ASSERT_TRUE(at::equal(same.logprobs, got.logprobs));
    const Tensor weights = at::rand({h.hidden.size(0)}, at::kDouble);
    double nll = 0;
    for (size_t r = 0; r < rows.size(); ++r) {
      const auto row = static_cast<int64_t>(r);
      nll -= weights[row].item<double>() *
             rows[r].logp[static_cast<size_t>(h.targets[row].item<int64_t>())];
    }
    ASSERT_NEAR(
        head_nll(h.hidden, h.weight, h.targets, weights, h.temperature, h.bias).loss.item<double>(),
        nll, 1e-10);
  }
}

TEST(HeadOptions, GradientsOfBiasAndEntropyEqualFiniteDifferences) {
  at::manual_seed(2);
  std::mt19937 rng(2);
  for (int i = 0; i < 6; ++i) {
    const Head h = random_head(rng, 4, 3, 7);
    const Tensor g = at::randn({4}, at::kDouble), e = at::randn({4}, at::kDouble);
    const auto loss_of = [&](const Head& x) {
      const auto out = token_logprobs(x.hidden, x.weight, x.targets, x.temperature, x.bias);
      // The entropy alone, the log-probabilities alone, both.
      return i % 3 == 0   ? (out.entropy * e).sum()
             : i % 3 == 1 ? (out.logprobs * g).sum()
                          : (out.logprobs * g + out.entropy * e).sum();
    };
    for (auto field : {&Head::hidden, &Head::weight, &Head::bias}) {
      const auto with = [&](const Tensor& x) {
        Head copy = h;
        copy.*field = x.view((h.*field).sizes());
        return copy;
      };
      const Tensor x = (h.*field).flatten();
      expect_gradient([&](const Tensor& v) { return loss_of(with(v)); }, x, "token_logprobs");
      expect_gradient(
          [&](const Tensor& v) {
            const Head c = with(v);
            return head_nll(c.hidden, c.weight, c.targets, g, c.temperature, c.bias).loss;
          },
          x, "head_nll");
    }
  }
}

TEST(HeadOptions, PolicyLossEqualsItsTwoHalvesForEveryKind) {
  at::manual_seed(3);
  std::mt19937 rng(3);
  for (const char* kind : {"ppo", "cispo", "sapo", "reinforce"}) {
    for (const double entropy_coef : {0.0, 0.3}) {
      // The second is large enough for several chunks and blocks.
      for (const auto& [tokens, vocabulary] : {std::pair{9, 33}, {700, 9001}}) {
        const Head h = random_head(rng, tokens, 5, vocabulary);
        const auto normal = [&] { return at::randn({tokens}, at::kDouble); };
        const Tensor logp = token_logprobs(h.hidden, h.weight, h.targets, 1.0, h.bias).logprobs;
        const Tensor old = logp + 0.3 * normal(), sampled = old + 0.3 * normal();
        const Tensor advantages = normal(), ref = logp + 0.5 * normal();
        const Tensor weights =
            at::rand({tokens}, at::kDouble) * (at::rand({tokens}, at::kDouble) < 0.8);
        PolicyLossOptions o;
        o.kind = kind;
        o.kl_coef = 0.2;
        o.behaviour = "token_mask";
        o.behaviour_low = 0.5;
        const auto leaf = [](const Tensor& x) { return x.detach().clone().requires_grad_(true); };
        const Tensor x1 = leaf(h.hidden), w1 = leaf(h.weight), b1 = leaf(h.bias);
        const auto folded = head_policy_loss(x1, w1, h.targets, old, advantages, ref, weights,
                                             h.temperature, o, b1, sampled, entropy_coef);
        folded.loss.backward();
        const Tensor x2 = leaf(h.hidden), w2 = leaf(h.weight), b2 = leaf(h.bias);
        const auto scored = token_logprobs(x2, w2, h.targets, h.temperature, b2);
        const auto loss =
            policy_loss(scored.logprobs, old, advantages, ref, weights, o, std::nullopt, sampled);
        const Tensor whole = loss.loss - entropy_coef * (weights * scored.entropy).sum();
        whole.backward();
        expect_close(folded.loss, whole, 1e-10, 1e-10, kind);
        Tensor metrics = loss.metrics.clone();
        metrics[5] = (weights * scored.entropy).sum().detach();
        expect_close(folded.metrics, metrics, 1e-10, 1e-10, kind);
        expect_close(x1.grad(), x2.grad(), 1e-10, 1e-10, "hidden");
        expect_close(w1.grad(), w2.grad(), 1e-10, 1e-10, "weight");
        expect_close(b1.grad(), b2.grad(), 1e-10, 1e-10, "bias");
        EXPECT_TRUE(at::equal(folded.logprobs, scored.logprobs));
      }
    }
  }
}

TEST(HeadOptions, BiasOfFloatAndBfloat16) {
  at::manual_seed(4);
  std::mt19937 rng(4);
  for (const auto& [type, tolerance, vocabulary] : {std::tuple{at::kFloat, 1e-4, 600},
                                                    {at::kBFloat16, 5e-2, 600},
                                                    {at::kBFloat16, 5e-2, 9001}}) {
    const Head h = random_head(rng, 300, 16, vocabulary);
    const auto as = [type = type](const Tensor& x) { return x.to(type).requires_grad_(true); };
    const Tensor x = as(h.hidden), w = as(h.weight), b = as(h.bias);
    const Tensor weights = at::full({300}, 1.0 / 300);
    const auto got = head_nll(x, w, h.targets, weights, 1.0, b);
    got.loss.backward();
    const Tensor exact = h.bias.clone().requires_grad_(true);
    head_nll(h.hidden, h.weight, h.targets, weights.to(at::kDouble), 1.0, exact).loss.backward();
    EXPECT_EQ(b.grad().scalar_type(), type);
    expect_close(b.grad(), exact.grad(), tolerance * 0.02, tolerance, "bias");
  }
}

/// Ids that the bias rules out weigh nothing, also where they fill whole tiles of a vocabulary.
TEST(HeadOptions, IdsRuledOutByTheBiasAreAsIfTheyWereNotThere) {
  at::manual_seed(5);
  std::mt19937 rng(5);
  const int64_t kept = 500;
  for (const int64_t vocabulary : {600, 20000}) {
    Head h = random_head(rng, 40, 6, vocabulary);
    h.targets = at::randint(vocabulary - kept, vocabulary, {40}, at::kLong);
    h.bias.narrow(0, 0, vocabulary - kept).fill_(-std::numeric_limits<double>::infinity());
    const Tensor weights = at::rand({40}, at::kDouble);
    const auto run = [&](const Tensor& w, const Tensor& bias, const Tensor& targets) {
      const Tensor x = h.hidden.clone().requires_grad_(true);
      const Tensor leaf = w.clone().requires_grad_(true);
      const auto got = token_logprobs(x, leaf, targets, 0.7, bias);
      ((got.logprobs + 0.3 * got.entropy) * weights).sum().backward();
      const auto nll = head_nll(x, leaf, targets, weights, 0.7, bias);
      nll.loss.backward();
      return std::vector<Tensor>{got.logprobs, got.entropy, nll.loss, x.grad(),
                                 leaf.grad().narrow(0, w.size(0) - kept, kept)};
    };
    const auto got = run(h.weight, h.bias, h.targets);
    const auto want =
        run(h.weight.narrow(0, vocabulary - kept, kept), h.bias.narrow(0, vocabulary - kept, kept),
            h.targets - (vocabulary - kept));
    for (size_t i = 0; i < got.size(); ++i) {
      expect_close(got[i], want[i], 1e-12, 1e-12, "result " + std::to_string(i));
    }
  }
}

TEST(HeadOptions, ErrorsNameArgumentExpectedAndGot) {
  const Tensor x = at::zeros({2, 3}), w = at::zeros({5, 3}), v = at::zeros({2});
  const Tensor ids = at::zeros({2}, at::kLong);
  const auto policy = [&](const auto& change, const OptionalTensor& behaviour = std::nullopt,
                          double entropy_coef = 0) {
    PolicyLossOptions o;
    change(o);
    return [=] {
      head_policy_loss(x, w, ids, v, v, std::nullopt, v, 1.0, o, std::nullopt, behaviour,
                       entropy_coef);
    };
  };
  const auto nothing = [](auto&) {};
  expect_message([&] { token_logprobs(x, w, ids, 1.0, at::zeros({4})); },
                 "token_logprobs: bias: expected [V] = [5], got Float [4] on cpu");
  expect_message([&] { head_nll(x, w, ids, v, 1.0, at::zeros({5}, at::kDouble)); },
                 "head_nll: bias: expected Float, got Double [5] on cpu");
  expect_message([&] { token_top_logprobs(x, w, ids, 6, 1.0); },
                 "token_top_logprobs: k: expected a number in [1, 5], got 6");
  expect_message([&] { token_top_logprobs(x, w, ids, 0, 1.0); }, "token_top_logprobs: k: ");
  expect_message(policy([](auto& o) { o.kind = "gspo"; }),
                 "head_policy_loss: kind: expected a ratio of single tokens (token_logprobs and "
                 "policy_loss take whole sequences), got \"gspo\"");
  expect_message(policy([](auto& o) { o.behaviour = "sequence_mask"; }, v),
                 "head_policy_loss: behaviour: expected a ratio of single tokens");
  expect_message(policy(nothing, at::zeros({3})),
                 "head_policy_loss: logp_behaviour: expected [N] = [2], got Float [3] on cpu");
  expect_message(policy(nothing, std::nullopt, std::nan("")),
                 "head_policy_loss: entropy_coef: expected a finite number, got nan");
}

}  // namespace
}  // namespace hone::kernels
