#include "engine/trainers/direct_update.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/repeat_interleave.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "engine/distributed/shard_tree.h"
#include "engine/runtime/signals.h"
#include "kernels/ops.h"

namespace hone::engine {
namespace {

using reward::DirectPair;

constexpr int64_t kScoringTokens = 8192;  // of one forward pass without gradient

/// Log-probabilities of the answers' tokens, and their sums.
struct Scored {
  at::Tensor logprobs;           // [M], of all texts one after another
  std::vector<double> sums;      // [T]
  std::vector<int64_t> lengths;  // [T] tokens of each answer
};

Scored score(CausalLM& model, const std::vector<const TrainingText*>& texts, double temperature) {
  const auto batch = next_token_batch(texts, model.parameters().data().device());
  const auto hidden = model.hidden(batch.input.tokens, batch.input.cu_seqlens, batch.predict);
  Scored scored;
  scored.logprobs =
      kernels::token_logprobs(hidden, model.lm_head(), batch.targets, temperature).logprobs;
  const auto host = scored.logprobs.detach().to(at::kCPU, at::kDouble).contiguous();
  const auto* next = host.const_data_ptr<double>();
  for (const auto* text : texts) {
    const auto size = static_cast<int64_t>(text->tokens.size());
    const int64_t length = size - std::clamp<int64_t>(text->prompt_tokens, 1, size);
    scored.sums.push_back(std::accumulate(next, next + length, 0.0));
    scored.lengths.push_back(length);
    next += length;
  }
  return scored;
}

int64_t read_tokens(const TrainingText& text) {
  return static_cast<int64_t>(text.tokens.size()) - 1;
}

/// One judgement's sides as places in a pack, and its share of the step.
struct Judged {
  int64_t chosen, rejected;
  double weight;
};

struct Pack {
  std::vector<int64_t> texts;  // each once
  std::vector<Judged> judged;
};

std::vector<Pack> pack_pairs(const ScoredTexts& texts, const std::vector<DirectPair>& pairs,
                             int64_t micro_tokens, double judgements) {
  std::vector<int64_t> order(pairs.size()), lengths;
  std::iota(order.begin(), order.end(), int64_t{0});
  for (const auto& pair : pairs) {
    lengths.push_back(read_tokens(texts.texts[static_cast<size_t>(pair.first)]) +
                      read_tokens(texts.texts[static_cast<size_t>(pair.second)]));
  }
  std::vector<Pack> packs;
  for (const auto& part : fill_batches(order, lengths, micro_tokens)) {
    Pack pack;
    std::unordered_map<int64_t, int64_t> places;
    const auto place = [&](int64_t text) {
      const auto [at, fresh] = places.emplace(text, static_cast<int64_t>(pack.texts.size()));
      if (fresh) pack.texts.push_back(text);
      return at->second;
    };
    for (const int64_t p : part) {
      const auto& pair = pairs[static_cast<size_t>(p)];
      const int64_t first = place(pair.first), second = place(pair.second);
      const auto add = [&](int64_t chosen, int64_t rejected, double wins) {
        if (wins > 0) pack.judged.push_back({chosen, rejected, wins / judgements});
      };
      add(first, second, pair.first_wins);
      add(second, first, pair.second_wins);
    }
    packs.push_back(std::move(pack));
  }
  return packs;
}

/// Loss and figures of a pack's judgements as a function of its answers' log-probabilities, a leaf
/// [T] float64 on the CPU.
std::pair<at::Tensor, DirectFigures> loss_of(const at::Tensor& sums, const Scored& scored,
                                             const Pack& pack, const ScoredTexts& texts,
                                             const DirectObjective& objective) {
  std::vector<int64_t> chosen, rejected;
  std::vector<double> weights, lengths, references;
  for (const auto& one : pack.judged) {
    chosen.push_back(one.chosen);
    rejected.push_back(one.rejected);
    weights.push_back(one.weight);
  }
  for (size_t i = 0; i < pack.texts.size(); ++i) {
    lengths.push_back(static_cast<double>(std::max<int64_t>(1, scored.lengths[i])));
    references.push_back(texts.reference[static_cast<size_t>(pack.texts[i])]);
  }
  const auto numbers = [](const std::vector<double>& values) {
    return at::tensor(values, at::kDouble);
  };
  const auto c = at::tensor(chosen, at::kLong), r = at::tensor(rejected, at::kLong);
  const auto weight = numbers(weights), length = numbers(lengths), reference = numbers(references);
  const auto& options = objective.options;
  kernels::DirectPairs pairs;
  pairs.logp_chosen = sums.index_select(0, c);
  pairs.logp_rejected = sums.index_select(0, r);
  if (options.loss != "simpo" && options.loss != "orpo") {
    pairs.ref_chosen = reference.index_select(0, c);
    pairs.ref_rejected = reference.index_select(0, r);
  }
  pairs.length_chosen = length.index_select(0, c);
  pairs.length_rejected = length.index_select(0, r);
  auto of_pairs = options;
  if (options.loss == "kto") of_pairs.loss = "dpo";  // whose rewards KTO's are
  const auto direct = kernels::direct_loss(pairs, weight, direct_loss_options(of_pairs));
  auto loss = direct.loss;
  if (options.loss == "kto") {
    // Each judgement is one desirable and one undesirable answer, of half its weight.
    const auto kl = at::tensor({objective.kl}, at::kDouble).select(0, 0);
    const auto side = [&](const at::Tensor& logp, const at::Tensor& ref, bool desirable) {
      const auto flags = at::zeros(logp.sizes(), at::TensorOptions().dtype(at::kBool));
      flags.fill_(desirable);
      return kernels::kto_loss(logp, ref, flags, weight * 0.5, kl, kto_loss_options(options)).loss;
    };
    loss = side(pairs.logp_chosen, *pairs.ref_chosen, true) +
           side(pairs.logp_rejected, *pairs.ref_rejected, false);
  }
  const auto* metric = direct.metrics.const_data_ptr<double>();
  const auto mean = [&](const at::Tensor& logp) {
    return (weight * logp.detach()).sum().item<double>();
  };
  return {loss,
          {.loss = loss.item<double>(),
           .accuracy = metric[0],
           .margin = metric[1],
           .chosen_reward = metric[2],
           .rejected_reward = metric[3],
           .chosen_logprob = mean(pairs.logp_chosen),
           .rejected_logprob = mean(pairs.logp_rejected)}};
}

/// act(scored, pack, is it the last) on every pack.
template <class Act>
void for_each_pack(CausalLM& model, const ScoredTexts& texts, const std::vector<Pack>& packs,
                   double temperature, const Act& act) {
  for (const auto& pack : packs) {
    std::vector<const TrainingText*> chosen;
    for (const int64_t i : pack.texts) chosen.push_back(&texts.texts[static_cast<size_t>(i)]);
    act(score(model, chosen, temperature), pack, &pack == &packs.back());
  }
}

void add_to(std::array<double, DirectFigures::kNumbers>& total, const DirectFigures& figures) {
  const auto numbers = figures.numbers();
  for (size_t i = 0; i < numbers.size(); ++i) total[i] += numbers[i];
}

}  // namespace

std::array<double, DirectFigures::kNumbers> DirectFigures::numbers() const {
  return {loss, accuracy, margin, chosen_reward, rejected_reward, chosen_logprob, rejected_logprob};
}

DirectFigures DirectFigures::of(const double* n) {
  return {n[0], n[1], n[2], n[3], n[4], n[5], n[6]};
}

double judgements_of(const std::vector<DirectPair>& pairs) {
  double total = 0;
  for (const auto& pair : pairs) total += pair.first_wins + pair.second_wins;
  return total;
}

DirectFigures accumulate_direct_gradients(CausalLM& policy, const ScoredTexts& texts,
                                          const std::vector<DirectPair>& pairs,
                                          const DirectObjective& objective,
                                          const std::function<void()>& before_last) {
  std::array<double, DirectFigures::kNumbers> total{};
  const auto packs = pack_pairs(texts, pairs, objective.micro_tokens, objective.judgements);
  for_each_pack(policy, texts, packs, objective.options.temperature,
                [&](const Scored& scored, const Pack& pack, bool last) {
                  auto sums = at::tensor(scored.sums, at::kDouble);
                  sums.requires_grad_(true);
                  const auto [loss, figures] = loss_of(sums, scored, pack, texts, objective);
                  loss.backward();
                  add_to(total, figures);
                  // Every token of an answer moves its sum by one.
                  const auto each =
                      at::repeat_interleave(sums.grad(), at::tensor(scored.lengths, at::kLong));
                  if (before_last && last) before_last();
                  scored.logprobs.backward(each.to(scored.logprobs.options()));
                });
  return DirectFigures::of(total.data());
}

DirectFigures evaluate_direct(CausalLM& policy, const ScoredTexts& texts,
                              const std::vector<DirectPair>& pairs, const DirectOptions& options) {
  const at::NoGradGuard no_grad;
  std::array<double, DirectFigures::kNumbers> total{};
  const DirectObjective objective = {.options = options, .judgements = 1};
  for_each_pack(policy, texts, pack_pairs(texts, pairs, kScoringTokens, objective.judgements),
                options.temperature, [&](const Scored& scored, const Pack& pack, bool) {
                  check_interrupted();
                  const auto sums = at::tensor(scored.sums, at::kDouble);
                  add_to(total, loss_of(sums, scored, pack, texts, objective).second);
                });
  // Whole judgements add up exactly.
  for (double& sum : total) sum /= std::max(1.0, judgements_of(pairs));
  return DirectFigures::of(total.data());
}

std::vector<double> answer_logprobs(CausalLM& model, const std::vector<TrainingText>& texts,
                                    double temperature, Communicator& communicator) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> order(texts.size()), lengths;
  std::iota(order.begin(), order.end(), int64_t{0});
  for (const auto& text : texts) lengths.push_back(read_tokens(text));
  const auto count = static_cast<int64_t>(texts.size());
  const auto sums = at::zeros({count}, at::TensorOptions().dtype(at::kDouble));
  auto* sum = sums.mutable_data_ptr<double>();
  int64_t pass = 0;
  for (const auto& part : fill_batches(order, lengths, kScoringTokens)) {
    if (pass++ % communicator.world() != communicator.rank()) continue;
    check_interrupted();
    std::vector<const TrainingText*> chosen;
    for (const int64_t i : part) chosen.push_back(&texts[static_cast<size_t>(i)]);
    const auto scored = score(model, chosen, temperature);
    for (size_t i = 0; i < part.size(); ++i) sum[part[i]] = scored.sums[i];
  }
  model.meet();
  share_disjoint(communicator, sums, "log-probabilities of answers");
  return {sum, sum + count};
}

}  // namespace hone::engine
