#pragma once

// A recipe: everything that a run depends on, as one visited struct.
//
// Strings of commands and paths may hold {recipe} (the recipe's folder), {out} (the run folder),
// {python} ($HONE_PYTHON, else the checkout's .venv, else python3) and {cache} ($HONE_CACHE, else
// .cache beside the checkout's recipes).

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/checkpoint/checkpoint_options.h"
#include "engine/runtime/device.h"
#include "engine/trainers/direct_options.h"
#include "engine/trainers/lm_trainer.h"
#include "engine/trainers/ppo_options.h"
#include "engine/trainers/reward_trainer.h"

namespace hone::engine {

struct ImportSpec {
  std::string format, input, split = "group-hash";

  template <class V>
  void visit(V&& v) {
    v("format", format, "one of `hone import --help`");
    v("input", input, "file");
    v("split", split, "group-hash | train, for records that name none");
  }
};

struct DataOptions {
  std::vector<std::string> prepare;
  std::vector<ImportSpec> imports;
  int64_t max_tokens = 64;
  int64_t prompt_words = 0;

  template <class V>
  void visit(V&& v) {
    v("prepare", prepare, "external command that writes the files to import; empty = none");
    v("imports", imports, "files to import, in order: [{ format = .., input = .. }]");
    v("max_tokens", max_tokens,
      "longest text in tokens; prompts lose their beginning, answers their end");
    v("prompt_words", prompt_words,
      "first words of a text that serve as its prompt, 0 = stored prompts");
  }
};

struct TokenizerOptions {
  int64_t vocab_size = 2048;

  template <class V>
  void visit(V&& v) {
    v("vocab_size", vocab_size,
      "byte-level BPE entries, the 256 bytes and 3 special ones included");
  }
};

struct ModelOptions {
  std::string path;
  int64_t hidden_size = 128, layers = 2, heads = 4, kv_heads = 4, intermediate_size = 344;
  int64_t max_positions = 128;
  double rope_theta = 10000.0;
  bool tie_embeddings = true;

  template <class V>
  void visit(V&& v) {
    v("path", path, "Hugging Face directory to start from; empty = pretrain from scratch");
    v("hidden_size", hidden_size, "width of the residual stream");
    v("layers", layers, "transformer blocks");
    v("heads", heads, "attention heads");
    v("kv_heads", kv_heads, "key and value heads, divides heads");
    v("intermediate_size", intermediate_size, "width of the gated MLP");
    v("max_positions", max_positions, "longest context, tokens");
    v("rope_theta", rope_theta, "base of the rotary embedding");
    v("tie_embeddings", tie_embeddings, "LM head = embedding");
  }
};

struct RewardStageOptions {
  std::string init = "sft";
  std::string raters = "even";
  std::string judgements = "auto";
  int64_t votes = 8000;
  int64_t baseline_votes = 32000;
  double baseline_same_person = 0.5;
  RewardTrainingOptions training;

  template <class V>
  void visit(V&& v) {
    v("init", init, "sft | pretrain | random: what the reward model starts from");
    v("raters", raters, "even | odd | all raters of each group train it; the others judge");
    v("judgements", judgements,
      "auto (ratings when there are any, and what `hone collect` asked) | ratings | comparisons | "
      "all");
    v("votes", votes, "held-out single judgements of each kind that measure it");
    v("baseline_votes", baseline_votes, "judgements of the other raters for the bag of words");
    v("baseline_same_person", baseline_same_person,
      "share of those that one person gave in one group");
    v("training", training, "");
  }
};

/// How a policy is sampled where it is looked at.
struct SamplingOptions {
  int64_t max_new_tokens = 0;
  double temperature = 1.0;
};

struct TrainStageOptions {
  std::string method = "online";
  std::string normalization = "policy";
  int64_t normalization_samples = 512;
  std::vector<std::string> reward_command;
  int64_t evaluate_every = 10;
  PpoOptions ppo;
  DirectOptions direct;

  bool online() const { return method == "online"; }
  SamplingOptions sampling() const {
    if (online()) return {ppo.max_new_tokens, ppo.temperature};
    return {direct.max_new_tokens, direct.temperature};
  }

  template <class V>
  void visit(V&& v) {
    v("method", method,
      "online: samples scored by the reward model ([train.ppo]) | direct: the stored comparisons "
      "themselves, no reward model ([train.direct])");
    v("normalization", normalization, "policy | demonstrations | none: what score 0 (and 1) mean");
    v("normalization_samples", normalization_samples, "samples of the starting policy for it");
    v("reward_command", reward_command, "external program as reward instead of the reward model");
    v("evaluate_every", evaluate_every,
      "iterations (online) or optimizer steps (direct) between looks at the judge, 0 = only at the "
      "end");
    v("ppo", ppo, "online training, whatever the algorithm");
    v("direct", direct, "training on comparisons");
  }
};

struct EvaluateOptions {
  int64_t prompts = 400;
  int64_t seed = 1;
  std::vector<std::string> judge;
  std::string judge_name = "external judge";

  template <class V>
  void visit(V&& v) {
    v("prompts", prompts, "held-out prompts");
    v("seed", seed, "of the samples that are judged");
    v("judge", judge,
      "external command: JSONL {text, prompt, response} in, {score} out; empty = none");
    v("judge_name", judge_name, "how the report calls it");
  }
};

struct RanksOptions {
  int64_t shards = 0;
  bool deterministic = false;
  int64_t zero = 0;
  std::string frozen = "auto";
  double bucket_megabytes = 16;
  double silence_seconds = 60;
  double collective_seconds = 1800;

  bool frozen_in_parts() const { return frozen == "auto" ? zero == 3 : frozen == "parts"; }
  /// Logical shards of a step on `world` ranks.
  int64_t shards_of(int64_t world) const {
    if (shards > 0) return shards;
    return deterministic ? std::max<int64_t>(4, world) : world;
  }

  template <class V>
  void visit(V&& v) {
    v("shards", shards,
      "parts of an optimizer step that results depend on, however many ranks share them; 0 = one a "
      "rank");
    v("deterministic", deterministic,
      "the same bits on 1, 2 and 4 ranks: 4 shards where shards = 0");
    v("zero", zero,
      "what a rank keeps its part of only: 0 nothing | 1 optimizer state | 2 gradients too | 3 "
      "parameters too");
    v("frozen", frozen,
      "reference and reward model in PPO: whole | parts, gathered block by block as in zero = 3 | "
      "auto: parts where zero = 3");
    v("bucket_megabytes", bucket_megabytes, "gradients leave in buckets of this size");
    v("silence_seconds", silence_seconds, "a rank not heard from for so long is lost");
    v("collective_seconds", collective_seconds, "limit of one collective while all ranks live");
  }
};

struct Recipe {
  std::string name = "run";
  int64_t seed = 0;
  int64_t threads = 0;
  std::string device = "auto";
  std::vector<std::string> stages = {"import", "pretrain", "sft",   "reward",
                                     "train",  "evaluate", "report"};
  DataOptions data;
  TokenizerOptions tokenizer;
  ModelOptions model;
  LmTrainingOptions pretrain, sft;
  RewardStageOptions reward;
  TrainStageOptions train;
  EvaluateOptions evaluate;
  CheckpointOptions checkpoint;
  RanksOptions ranks;

  /// A reward model is trained, or asked for by what is trained.
  bool has_reward_model() const {
    return train.online() || std::find(stages.begin(), stages.end(), "reward") != stages.end();
  }

  template <class V>
  void visit(V&& v) {
    v("name", name, "shown in the report");
    v("seed", seed, "of everything random");
    v("threads", threads, "CPU threads, 0 = all cores");
    v("device", device, kDeviceHelp);
    v("stages", stages, "in order, of import pretrain sft reward train evaluate report");
    v("data", data, "");
    v("tokenizer", tokenizer, "");
    v("model", model, "");
    v("pretrain", pretrain, "");
    v("sft", sft, "");
    v("reward", reward, "");
    v("train", train, "");
    v("evaluate", evaluate, "");
    v("checkpoint", checkpoint, "when a stage that trains is saved");
    v("ranks", ranks, "when a launcher (torchrun, srun, mpirun) starts several");
  }
};

/// Reads a recipe, applies `overrides` ("a.b=c", values in TOML or bare words), checks every field.
/// Throws data::InputError naming file, line and option.
Recipe read_recipe(const std::filesystem::path& path, const std::vector<std::string>& overrides);

/// Impossible values and combinations: InputError naming the option, what was expected and got.
void validate_recipe(const Recipe& recipe, const std::string& where);

/// Replaces {recipe}, {out}, {python} and {cache}; other braces stay.
std::string expand_placeholders(const std::string& text, const std::filesystem::path& recipe_dir,
                                const std::filesystem::path& out);

}  // namespace hone::engine
