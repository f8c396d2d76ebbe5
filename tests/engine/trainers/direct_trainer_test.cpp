// Direct preference training: one step against autograd over full logits by the published formulas,
// and what whole trainings must show.

#include "engine/trainers/direct_trainer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "data/error.h"
#include "tests/engine/trainers/tiny_model.h"
#include "tests/support/expect_close.h"

namespace hone::engine {
namespace {

const std::vector<std::string> kLosses = {"dpo",   "cdpo",  "robust", "ipo", "ipo_length",
                                          "hinge", "simpo", "orpo",   "kto"};

/// Answers to 12 prompts; of each pair the one with token 3 in it is the better one. Every third
/// pair was judged by people who disagree, one text is in two pairs.
DirectProblem problem_of(CausalLM& policy) {
  DirectProblem problem;
  problem.policy = &policy;
  problem.seed = 4;
  for (int32_t i = 0; i < 12; ++i) {
    const TokenIds prompt(size_t(1 + i % 3), 4 + i % 5);
    for (const int32_t word : {3, 5 + i % 9}) {
      TrainingText text{prompt, int64_t(prompt.size())};
      for (int32_t t = 0; t < 2 + (i + word) % 4; ++t) text.tokens.push_back(t % 2 ? word : 6);
      text.tokens.push_back(word);
      text.tokens.push_back(0);
      problem.texts.push_back(text);
    }
    const bool disputed = i % 3 == 2;
    const reward::DirectPair pair{2 * i, 2 * i + 1, disputed ? 2.0 : 1.0, disputed ? 1.0 : 0.0};
    (i < 9 ? problem.pairs : problem.held_out).push_back(pair);
  }
  problem.pairs.push_back({1, 2 * 5, 0.0, 1.0});
  return problem;
}

/// Log-probability of a text's answer, with gradient, from whole logits.
at::Tensor answer_logprob(CausalLM& model, const TrainingText& text, double temperature) {
  const at::Tensor ids = at::tensor(std::vector<int64_t>(text.tokens.begin(), text.tokens.end()));
  const auto hidden = model.hidden(ids.slice(0, 0, -1), at::tensor({int64_t(0), ids.numel() - 1}));
  const auto logp = at::log_softmax(hidden.mm(model.lm_head().t()) / temperature, 1);
  return logp.gather(1, ids.slice(0, 1).view({-1, 1})).slice(0, text.prompt_tokens - 1).sum();
}

/// One judgement's loss as its paper has it.
at::Tensor published(const std::string& loss, const at::Tensor& chosen, const at::Tensor& rejected,
                     double ref_chosen, double ref_rejected, double n_chosen, double n_rejected,
                     double kl) {
  const auto h = (chosen - ref_chosen) - (rejected - ref_rejected);
  const auto nls = [](const at::Tensor& z) { return -at::log_sigmoid(z); };
  if (loss == "dpo") return nls(0.1 * h);
  if (loss == "cdpo") return 0.8 * nls(0.1 * h) + 0.2 * nls(-0.1 * h);
  if (loss == "robust") return (0.8 * nls(0.1 * h) - 0.2 * nls(-0.1 * h)) / 0.6;
  if (loss == "ipo") return (h - 5.0).square();
  if (loss == "ipo_length") {
    return ((chosen - ref_chosen) / n_chosen - (rejected - ref_rejected) / n_rejected - 5.0)
        .square();
  }
  if (loss == "hinge") return at::relu(1 - 0.1 * h);
  if (loss == "simpo") return nls(2.0 * (chosen / n_chosen - rejected / n_rejected) - 1.0);
  if (loss == "orpo") {
    const auto odds = [](const at::Tensor& mean) { return mean - at::log1p(-mean.exp()); };
    return -chosen / n_chosen + 0.1 * nls(odds(chosen / n_chosen) - odds(rejected / n_rejected));
  }
  const double z0 = std::max(0.0, kl);
  return 0.5 * (1 - at::sigmoid(0.1 * (chosen - ref_chosen - z0))) +
         0.5 * (1 - at::sigmoid(0.1 * (z0 - (rejected - ref_rejected))));
}

TEST(DirectUpdate, GradientsEqualThePublishedLossesHoweverPacked) {
  const auto policy = test::tiny_model(HeadKind::kLanguageModel, at::kDouble, 1);
  const auto reference = test::tiny_model(HeadKind::kLanguageModel, at::kDouble, 2);
  policy->parameters().enable_grad();
  const auto problem = problem_of(*policy);
  ScoredTexts texts{problem.texts, answer_logprobs(*reference, problem.texts, 0.7)};
  std::vector<at::Tensor> sides;
  for (const auto& text : texts.texts) sides.push_back(answer_logprob(*policy, text, 0.7));
  const auto side = [&](int64_t i) { return sides[size_t(i)]; };
  for (const auto& loss : kLosses) {
    DirectOptions options;
    options.loss = loss;
    options.label_smoothing = 0.2;
    options.temperature = 0.7;
    const double judgements = judgements_of(problem.pairs), kl = 0.3;
    at::Tensor total = at::zeros({}, at::kDouble);
    double right = 0;
    for (const auto& pair : problem.pairs) {
      const auto length = [&](int64_t i) {
        const auto& text = texts.texts[size_t(i)];
        return double(int64_t(text.tokens.size()) - text.prompt_tokens);
      };
      const auto add = [&](int64_t c, int64_t r, double wins) {
        if (wins == 0) return;
        total = total + wins / judgements *
                            published(loss, side(c), side(r), texts.reference[size_t(c)],
                                      texts.reference[size_t(r)], length(c), length(r), kl);
        const bool free = loss == "simpo" || loss == "orpo";
        const bool means = free || loss == "ipo_length";
        const auto reward = [&](int64_t i) {
          const double ref = free ? 0.0 : texts.reference[size_t(i)];
          return (side(i).item<double>() - ref) / (means ? length(i) : 1.0);
        };
        right += reward(c) > reward(r) ? wins / judgements : 0.0;
      };
      add(pair.first, pair.second, pair.first_wins);
      add(pair.second, pair.first, pair.second_wins);
    }
    policy->parameters().zero_grad();
    total.backward({}, /*retain_graph=*/true);
    const auto want = policy->parameters().grad().clone();
    for (const int64_t micro : {0, 40, 1}) {
      policy->parameters().zero_grad();
      const auto figures = accumulate_direct_gradients(
          *policy, texts, problem.pairs,
          {.options = options, .judgements = judgements, .kl = kl, .micro_tokens = micro});
      EXPECT_NEAR(figures.loss, total.item<double>(), 1e-10) << loss;
      EXPECT_NEAR(figures.accuracy, right, 1e-12) << loss;
      test::expect_close(policy->parameters().grad(), want, 1e-11);
    }
    EXPECT_GT(want.abs().max().item<double>(), 1e-4) << loss;
  }
}

TEST(DirectUpdate, PartsOfAStepAddUpToTheWhole) {
  const auto policy = test::tiny_model(HeadKind::kLanguageModel, at::kDouble, 1);
  policy->parameters().enable_grad();
  const auto problem = problem_of(*policy);
  const ScoredTexts texts{problem.texts, std::vector<double>(problem.texts.size(), -3.0)};
  const DirectOptions options;
  const DirectObjective whole = {.options = options, .judgements = judgements_of(problem.pairs)};
  const auto all = accumulate_direct_gradients(*policy, texts, problem.pairs, whole);
  const auto want = policy->parameters().grad().clone();
  policy->parameters().zero_grad();
  double loss = 0, chosen = 0;
  for (const auto& pair : problem.pairs) {
    const auto part = accumulate_direct_gradients(*policy, texts, {pair}, whole);
    loss += part.loss;
    chosen += part.chosen_logprob;
  }
  EXPECT_NEAR(loss, all.loss, 1e-12);
  EXPECT_NEAR(chosen, all.chosen_logprob, 1e-12);
  test::expect_close(policy->parameters().grad(), want, 1e-12);
}

DirectOptions quick() {
  DirectOptions options;
  options.epochs = 8;
  options.pairs_per_batch = 4;
  options.optimizer.lr = 1e-2;
  return options;
}

DirectResult train(CausalLM& policy, const DirectOptions& options, uint64_t seed = 4) {
  auto problem = problem_of(policy);
  problem.seed = seed;
  Metrics metrics({}, true);
  return train_direct(problem, options, metrics);
}

TEST(DirectTrainer, EveryLossLearnsWhatWasPreferred) {
  for (const auto& loss : kLosses) {
    auto options = quick();
    options.loss = loss;
    const auto policy = test::tiny_model(HeadKind::kLanguageModel, at::kFloat, 1);
    const auto result = train(*policy, options);
    EXPECT_EQ(result.steps, 24) << loss;
    EXPECT_GT(result.after.accuracy, 0.75) << loss;
    EXPECT_GT(result.after.margin, result.before.margin) << loss;
    EXPECT_LT(result.training_after.loss, result.training_before.loss) << loss;
  }
}

TEST(DirectTrainer, TheFirstStepIsAtTheReference) {
  auto options = quick();
  options.pairs_per_batch = 100;
  options.epochs = 1;
  const auto policy = test::tiny_model(HeadKind::kLanguageModel, at::kFloat, 1);
  const auto result = train(*policy, options);
  EXPECT_EQ(result.steps, 1);
  EXPECT_NEAR(result.first_loss, std::log(2.0), 1e-6);
  EXPECT_NEAR(result.before.margin, 0.0, 1e-6);
  options.reference = "none";
  const auto free = test::tiny_model(HeadKind::kLanguageModel, at::kFloat, 1);
  EXPECT_GT(std::abs(train(*free, options).before.margin), 1e-3);
}

TEST(DirectTrainer, SameSeedSameBytesWhateverFitsIntoAPass) {
  at::Tensor first, alone;
  for (int run = 0; run < 4; ++run) {
    const auto policy = test::tiny_model(HeadKind::kLanguageModel, at::kDouble, 1);
    auto options = quick();
    options.epochs = 2;
    if (run == 3) options.micro_tokens = 1;
    train(*policy, options, run == 2 ? 5 : 4);
    const auto& data = policy->parameters().data();
    if (run == 0) first = data.clone();
    if (run < 3) {
      EXPECT_EQ(at::equal(first, data), run < 2) << run;
    } else {
      EXPECT_LT((first - data).abs().max().item<double>(), 1e-9);
    }
  }
}

TEST(DirectTrainer, LooksComeWhenAskedFor) {
  const auto policy = test::tiny_model(HeadKind::kLanguageModel, at::kFloat, 1);
  auto problem = problem_of(*policy);
  auto options = quick();
  options.epochs = 2;  // 6 steps
  std::vector<int64_t> seen;
  problem.look_every = 4;
  problem.look = [&](int64_t step, const DirectFigures& held_out) {
    seen.push_back(step);
    EXPECT_GT(held_out.loss, 0.0);
  };
  Metrics metrics({}, true);
  train_direct(problem, options, metrics);
  EXPECT_EQ(seen, (std::vector<int64_t>{0, 4, 6}));
}

TEST(DirectTrainer, RefusesWhatCannotBe) {
  const auto refuses = [](auto change, const std::string& option) {
    const auto policy = test::tiny_model(HeadKind::kLanguageModel, at::kFloat, 1);
    auto problem = problem_of(*policy);
    DirectOptions options;
    change(problem, options);
    Metrics metrics({}, true);
    try {
      train_direct(problem, options, metrics);
      ADD_FAILURE() << option << ": no error";
    } catch (const data::InputError& error) {
      EXPECT_NE(std::string(error.what()).find(option), std::string::npos) << error.what();
    }
  };
  refuses([](auto&, auto& o) { o.loss = "ppo"; }, "loss");
  refuses([](auto&, auto& o) { o.label_smoothing = 0.5; }, "label_smoothing");
  refuses([](auto&, auto& o) { o.reference = "policy"; }, "reference");
  refuses([](auto&, auto& o) { o.loss = "kto", o.reference = "none"; }, "reference");
  refuses([](auto&, auto& o) { o.loss = "kto", o.ties = "half"; }, "ties");
  refuses([](auto&, auto& o) { o.loss = "kto", o.pairs_per_batch = 1; }, "pairs_per_batch");
  refuses([](auto&, auto& o) { o.epochs = 0; }, "epochs");
  refuses([](auto& p, auto&) { p.pairs.clear(); }, "comparisons");
  refuses([](auto& p, auto&) { p.texts[3].tokens.resize(80, 1); }, "text 3");
}

}  // namespace
}  // namespace hone::engine
