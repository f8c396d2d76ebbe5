#include "engine/rollout/collector.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>

#include "data/error.h"
#include "engine/packing/random_order.h"
#include "engine/runtime/signals.h"

namespace hone::engine {
namespace {

/// This rank's shards of texts 0, 1, ... with these numbers of tokens: lists of indices. The shards
/// of all ranks, one after another, are the natural order.
std::vector<std::vector<int64_t>> shards_of(const std::vector<int64_t>& tokens,
                                            const ShardSpan& span) {
  std::vector<int64_t> order(tokens.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto shards = balanced_parts(order, tokens, span.shards);
  const auto size = static_cast<int64_t>(shards.size());
  return {shards.begin() + std::min(size, span.begin), shards.begin() + std::min(size, span.end)};
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

template <class T>
void append_values(const std::string& bytes, std::vector<T>& values) {
  const size_t before = values.size();
  values.resize(before + bytes.size() / sizeof(T));
  std::memcpy(values.data() + before, bytes.data(), bytes.size());
}

/// Every rank's samples, in the order of the ranks.
std::vector<Sample> gather_samples(Communicator& communicator, std::vector<Sample> mine) {
  if (communicator.world() == 1) return mine;
  std::vector<int64_t> heads;
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  for (const auto& sample : mine) {
    heads.insert(heads.end(), {sample.prompt, static_cast<int64_t>(sample.tokens.size())});
    tokens.insert(tokens.end(), sample.tokens.begin(), sample.tokens.end());
    logprobs.insert(logprobs.end(), sample.logprobs.begin(), sample.logprobs.end());
  }
  std::vector<int64_t> all_heads;
  std::vector<int32_t> all_tokens;
  std::vector<float> all_logprobs;
  const auto gather = [&](const auto& values, auto& all) {
    for (const auto& bytes : all_gather_bytes(communicator, bytes_of(values), "sampled texts")) {
      append_values(bytes, all);
    }
  };
  gather(heads, all_heads);
  gather(tokens, all_tokens);
  gather(logprobs, all_logprobs);
  std::vector<Sample> samples;
  auto token = all_tokens.begin();
  auto logprob = all_logprobs.begin();
  for (size_t i = 0; i < all_heads.size(); i += 2) {
    Sample sample;
    sample.prompt = all_heads[i];
    sample.tokens.assign(token, token + all_heads[i + 1]);
    sample.logprobs.assign(logprob, logprob + all_heads[i + 1]);
    token += all_heads[i + 1];
    logprob += all_heads[i + 1];
    samples.push_back(std::move(sample));
  }
  return samples;
}

/// Offsets and cu_entries from the texts and has_final.
void index_entries(Rollout& rollout, at::Device device) {
  auto bounds = at::empty({rollout.size() + 1}, at::TensorOptions().dtype(at::kLong));
  auto* bound = bounds.mutable_data_ptr<int64_t>();
  bound[0] = 0;
  for (int64_t i = 0; i < rollout.size(); ++i) {
    bound[i + 1] =
        bound[i] + rollout.response_tokens(i) + rollout.has_final[static_cast<size_t>(i)];
  }
  rollout.offsets.assign(bound, bound + rollout.size() + 1);
  rollout.cu_entries = bounds.to(device);
}

}  // namespace

std::vector<int64_t> draw_prompts(int64_t prompts, int64_t count, uint64_t seed,
                                  int64_t iteration) {
  std::vector<int64_t> drawn;
  for (uint64_t round = 0; static_cast<int64_t>(drawn.size()) < count; ++round) {
    const auto order =
        random_order(prompts, mix_seed(seed, static_cast<uint64_t>(iteration)), round);
    const auto missing = static_cast<size_t>(count) - drawn.size();
    drawn.insert(drawn.end(), order.begin(),
                 order.begin() + static_cast<int64_t>(std::min(missing, order.size())));
  }
  return drawn;
}

Rollout sample_texts(CausalLM& policy, const std::vector<TokenIds>& prompts,
                     const RolloutOptions& options, Communicator& communicator,
                     const ShardSpan& span) {
  GenerationOptions generation;
  generation.max_new_tokens = options.max_new_tokens;
  generation.temperature = options.temperature;
  generation.seed = options.seed;
  generation.stop_ids = options.eos_ids;
  if (!policy.parameters().data().is_cpu()) {
    // A step costs a GPU its launches and the weights, for few rows as for many.
    generation.max_rows = 1024;
    generation.prefill_tokens = 16384;
  }
  generation.progress = [](int64_t) {
    check_interrupted();
    return true;
  };
  std::vector<int64_t> longest;
  for (const auto& prompt : prompts) {
    longest.push_back(static_cast<int64_t>(prompt.size()) + options.max_new_tokens);
  }
  std::vector<Sample> mine;
  for (const auto& shard : shards_of(longest, span)) {
    std::vector<TokenIds> dealt;
    for (const int64_t i : shard) dealt.push_back(prompts[static_cast<size_t>(i)]);
    for (auto& sample : generate(policy, dealt, options.samples_per_prompt, generation, shard)) {
      sample.prompt = shard[static_cast<size_t>(sample.prompt)];
      mine.push_back(std::move(sample));
    }
  }
  const auto samples = gather_samples(communicator, std::move(mine));

  Rollout rollout;
  bool any_final = false;
  for (const auto& sample : samples) {
    const auto length = truncated_length(sample.tokens, options.eos_ids);
    TrainingText text;
    text.tokens = prompts[static_cast<size_t>(sample.prompt)];
    text.prompt_tokens = static_cast<int64_t>(text.tokens.size());
    text.tokens.insert(text.tokens.end(), sample.tokens.begin(), sample.tokens.begin() + length);
    rollout.texts.push_back(std::move(text));
    const auto& ends = options.eos_ids;
    rollout.ended.push_back(
        length > 0 && std::find(ends.begin(), ends.end(),
                                sample.tokens[static_cast<size_t>(length - 1)]) != ends.end());
    rollout.has_final.push_back(options.final_states && length < options.max_new_tokens);
    any_final = any_final || rollout.has_final.back() != 0;
  }
  const auto& data = policy.parameters().data();
  index_entries(rollout, data.device());
  auto logprobs = at::zeros({rollout.entries()}, at::TensorOptions().dtype(at::kFloat));
  auto mask = at::ones({rollout.entries()}, at::TensorOptions().dtype(at::kByte));
  auto* logprob = logprobs.mutable_data_ptr<float>();
  auto* taken = mask.mutable_data_ptr<uint8_t>();
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto tokens = rollout.response_tokens(static_cast<int64_t>(i));
    std::copy_n(samples[i].logprobs.begin(), tokens, logprob + rollout.offsets[i]);
    if (rollout.has_final[i]) taken[rollout.offsets[i + 1] - 1] = 0;
  }
  rollout.behaviour_logprobs = logprobs.to(data.options());
  if (any_final) rollout.mask = mask.to(data.device());
  return rollout;
}

namespace {

/// Texts [first, first + count) of a scored rollout without final states.
struct Stretch {
  const Rollout* of;
  int64_t first, count;
};

Rollout joined(const std::vector<Stretch>& stretches) {
  Rollout rollout;
  std::vector<at::Tensor> logprobs, scores;
  const auto take = [](auto& to, const auto& from, const Stretch& s) {
    to.insert(to.end(), from.begin() + s.first, from.begin() + s.first + s.count);
  };
  for (const auto& s : stretches) {
    take(rollout.texts, s.of->texts, s);
    take(rollout.ended, s.of->ended, s);
    take(rollout.has_final, s.of->has_final, s);
    take(rollout.raw_scores, s.of->raw_scores, s);
    take(rollout.normalized_scores, s.of->normalized_scores, s);
    const auto begin = s.of->offsets[static_cast<size_t>(s.first)],
               end = s.of->offsets[static_cast<size_t>(s.first + s.count)];
    logprobs.push_back(s.of->behaviour_logprobs.narrow(0, begin, end - begin));
    scores.push_back(s.of->scores.narrow(0, s.first, s.count));
  }
  rollout.behaviour_logprobs = at::cat(logprobs);
  rollout.scores = at::cat(scores);
  index_entries(rollout, rollout.scores.device());
  return rollout;
}

}  // namespace

DifferingGroups groups_that_differ(int64_t count, int64_t group_size, int64_t most_rounds,
                                   const std::function<Rollout(int64_t round)>& next_round) {
  std::vector<Rollout> rounds;
  rounds.reserve(static_cast<size_t>(most_rounds));  // stretches point into it
  std::vector<Stretch> differing, flat;
  const auto missing = [&] { return count - static_cast<int64_t>(differing.size()); };
  while (missing() > 0 && static_cast<int64_t>(rounds.size()) < most_rounds) {
    rounds.push_back(next_round(static_cast<int64_t>(rounds.size())));
    const auto& scores = rounds.back().raw_scores;
    for (int64_t first = 0; first < rounds.back().size() && missing() > 0; first += group_size) {
      const auto begin = scores.begin() + first;
      const bool same =
          std::all_of(begin, begin + group_size, [&](double x) { return x == *begin; });
      (same ? flat : differing).push_back({&rounds.back(), first, group_size});
    }
  }
  DifferingGroups result;
  result.rounds = static_cast<int64_t>(rounds.size());
  result.flat = std::max<int64_t>(0, missing());
  differing.insert(differing.end(), flat.begin(), flat.begin() + result.flat);
  result.rollout = joined(differing);
  return result;
}

Rollout given_texts(const std::vector<TokenIds>& prompts, const std::vector<TokenIds>& responses,
                    at::Device device) {
  if (prompts.size() != responses.size()) {
    throw data::InputError("rollout", "responses",
                           std::to_string(prompts.size()) + ", one a prompt",
                           std::to_string(responses.size()));
  }
  Rollout rollout;
  for (size_t i = 0; i < prompts.size(); ++i) {
    TrainingText text{prompts[i], static_cast<int64_t>(prompts[i].size())};
    text.tokens.insert(text.tokens.end(), responses[i].begin(), responses[i].end());
    rollout.texts.push_back(std::move(text));
  }
  rollout.ended.assign(prompts.size(), 0);
  rollout.has_final.assign(prompts.size(), 0);
  index_entries(rollout, device);
  return rollout;
}

void score_texts(Rollout& rollout,
                 const std::function<std::vector<float>(const std::vector<TokenIds>&)>& score,
                 const ScoringOptions& options, Communicator& communicator, const ShardSpan& span) {
  const auto score_some = [&](const std::vector<int64_t>& texts) {
    std::vector<TokenIds> tokens;
    for (const int64_t i : texts) tokens.push_back(rollout.texts[static_cast<size_t>(i)].tokens);
    const auto some = score(tokens);
    if (some.size() == texts.size()) return bytes_of(some);
    throw data::Error("ppo", "scores", std::to_string(texts.size()) + ", one a text",
                      std::to_string(some.size()));
  };
  std::vector<int64_t> lengths;
  for (const auto& text : rollout.texts)
    lengths.push_back(static_cast<int64_t>(text.tokens.size()));
  std::string mine;
  if (!options.alone) {
    for (const auto& shard : shards_of(lengths, span)) mine += score_some(shard);
  } else if (communicator.leads()) {
    mine = score_some(shards_of(lengths, {}).front());
  }
  if (options.done) options.done();
  std::vector<float> scores;
  for (const auto& bytes : all_gather_bytes(communicator, mine, "scores")) {
    append_values(bytes, scores);
  }
  auto rewards = at::empty({rollout.size()}, at::TensorOptions().dtype(at::kDouble));
  auto* reward = rewards.mutable_data_ptr<double>();
  rollout.raw_scores.assign(scores.begin(), scores.end());
  rollout.normalized_scores.clear();
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!std::isfinite(scores[i])) {
      throw data::Error("ppo", "score of text " + std::to_string(i), "a finite number",
                        std::to_string(scores[i]));
    }
    const double normalized = options.normalization.apply(scores[i]);
    rollout.normalized_scores.push_back(normalized);
    const bool missing = options.eos_exists && !rollout.ended[i];
    reward[i] = missing ? missing_eos_score(normalized, options.missing_eos, options.eos_penalty)
                        : normalized;
    reward[i] +=
        overlong_score(rollout.response_tokens(static_cast<int64_t>(i)), options.overlong_limit,
                       options.overlong_margin, options.overlong_penalty);
  }
  rollout.scores = rewards.to(rollout.behaviour_logprobs.options());
}

}  // namespace hone::engine
