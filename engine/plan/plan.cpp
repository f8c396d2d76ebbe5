#include "engine/plan/plan.h"

#include <algorithm>
#include <cmath>

#include "data/atomic_file.h"
#include "data/error.h"
#include "engine/config/recipe_model.h"
#include "engine/models/layout.h"

namespace hone::engine {
namespace {

constexpr double kFloat = 4;            // bytes: parameters, gradients and moments are float32
constexpr double kBucketsUnderWay = 8;  // as in GradientExchange, sent and received

struct Cluster {
  const Hardware& hardware;
  Efficiency efficiency;
  double ranks;

  double link() const {
    const bool one_node = ranks <= hardware.devices_per_node;
    return efficiency.link * (one_node ? hardware.node_link : hardware.network_link);
  }
  /// Seconds that every rank takes for `flops` shared by all.
  double compute(double flops) const {
    return flops / (ranks * hardware.matrix_flops * efficiency.training);
  }
};

double cache_bytes_per_token(const ModelConfig& model) {
  return kFloat * 2 * static_cast<double>(model.layers * model.kv_heads) *
         static_cast<double>(model.attention_head_dim());
}

/// Parameters of a network, and where they lie.
struct Size {
  double all = 0, blocks = 0;  // blocks: matrices of the transformer blocks
  double layers = 1;
  double head = 0;  // of a language model, its matrix; looked up or multiplied by

  double outside() const { return all - blocks; }
  /// Elements that a token is multiplied by.
  double products(bool language_model) const { return blocks + (language_model ? head : 0); }
  /// Bytes of a network in parts: a rank's own, what stays whole, and two blocks on their turn.
  double in_parts(double ranks) const {
    return kFloat * (outside() + blocks / ranks +
                     std::min(2.0, layers) * blocks / layers * (ranks - 1) / ranks);
  }
};

Size size_of(const ModelConfig& model) {
  ParameterArena declared;
  declare_parameters(model, HeadKind::kLanguageModel, declared);
  Size size;
  for (const auto& leaf : declared.leaves()) {
    size.all += static_cast<double>(leaf.numel);
    if (leaf.in_block()) size.blocks += static_cast<double>(leaf.numel);
  }
  size.layers = static_cast<double>(model.layers);
  size.head = static_cast<double>(model.vocab_size * model.hidden_size);
  return size;
}

/// Memory of one more trained network.
void add_training(MemoryPlan& memory, const Size& size, double ranks, int64_t zero,
                  double bucket_bytes) {
  memory.parameters += zero >= 3 && ranks > 1 ? size.in_parts(ranks) : kFloat * size.all;
  memory.gradients += kFloat * size.all / (zero >= 2 ? ranks : 1);
  memory.optimizer += 2 * kFloat * size.all / (zero >= 1 ? ranks : 1);
  if (ranks == 1) return;
  memory.exchange += 2 * std::min(kBucketsUnderWay * bucket_bytes, kFloat * size.all);
  if (zero < 2) memory.exchange += kFloat * size.all / ranks;  // sums, beside the gradients
}

/// Gradients go to their owners and sums or parameters come back: twice (W-1)/W of P. With
/// parameters in parts those of the blocks come for each forward and each backward pass instead.
double exchanged_bytes(const Size& size, double ranks, int64_t zero, double passes) {
  const double share = kFloat * (ranks - 1) / ranks;
  if (zero < 3) return share * 2 * size.all;
  return share * (size.all + size.outside() + 2 * passes * size.blocks);
}

void add_communication(StepPlan& step, const Cluster& cluster, double bytes) {
  step.bytes_sent = bytes;
  step.communication_seconds = bytes / cluster.link();
  // The first half leaves during the backward pass (two thirds of the compute), the second, after
  // the optimizer, is waited for.
  const double hidden = std::min(step.communication_seconds / 2, step.compute_seconds * 2 / 3);
  step.exposed_seconds = step.communication_seconds - hidden;
}

StepPlan plan_language_model(const std::string& stage, const LmTrainingOptions& options,
                             const ModelConfig& model, const Size& size, const Cluster& cluster,
                             int64_t zero, double bucket_bytes) {
  StepPlan step;
  step.stage = stage;
  step.steps = options.steps;
  step.tokens = static_cast<double>(options.batch_tokens);
  add_training(step.memory, size, cluster.ranks, zero, bucket_bytes);
  const double own = step.tokens / cluster.ranks;
  const double micro =
      options.micro_tokens > 0 ? std::min(own, static_cast<double>(options.micro_tokens)) : own;
  step.memory.activations = micro * model.activation_bytes();
  step.compute_seconds = cluster.compute(6 * size.products(true) * step.tokens);
  add_communication(step, cluster, exchanged_bytes(size, cluster.ranks, zero, own / micro));
  return step;
}

StepPlan plan_reward(const ModelConfig& model, const Size& size, const Cluster& cluster,
                     int64_t zero, double bucket_bytes, const TextLengths& lengths) {
  StepPlan step;
  step.stage = "reward";
  step.tokens = lengths.reward_batch;
  add_training(step.memory, size, cluster.ranks, zero, bucket_bytes);
  step.memory.activations = step.tokens / cluster.ranks * model.activation_bytes();
  step.compute_seconds = cluster.compute(6 * size.products(false) * step.tokens);
  add_communication(step, cluster, exchanged_bytes(size, cluster.ranks, zero, 1));
  return step;
}

/// Both answers of a pair are read; the reference's pass over the data is not counted.
StepPlan plan_direct(const DirectOptions& options, const ModelConfig& model, const Size& size,
                     const Cluster& cluster, int64_t zero, double bucket_bytes,
                     const TextLengths& lengths) {
  LmTrainingOptions step;
  step.batch_tokens = std::llround(2.0 * static_cast<double>(options.pairs_per_batch) *
                                   (lengths.prompt + lengths.response));
  step.micro_tokens = options.micro_tokens;
  return plan_language_model("train", step, model, size, cluster, zero, bucket_bytes);
}

StepPlan plan_ppo(const Recipe& recipe, const ModelConfig& model, const Size& size,
                  const Cluster& cluster, int64_t zero, double bucket_bytes,
                  const TextLengths& lengths) {
  const auto& ppo = recipe.train.ppo;
  const bool critic = ppo.has_critic();
  const double trained = critic ? 2 : 1;
  StepPlan step;
  step.stage = "train";
  step.steps = ppo.iterations;
  const auto texts = static_cast<double>(ppo.prompts_per_iteration * ppo.samples_per_prompt);
  const double fresh = lengths.response, length = lengths.prompt + fresh;
  // Rows are sampled until the longest has ended.
  const auto rows_end = static_cast<double>(ppo.max_new_tokens);
  step.tokens = texts * length;
  for (int network = 0; network < static_cast<int>(trained); ++network) {
    add_training(step.memory, size, cluster.ranks, zero, bucket_bytes);
  }
  const bool parts = cluster.ranks > 1 && recipe.ranks.frozen == "auto"
                         ? zero >= 3
                         : cluster.ranks > 1 && recipe.ranks.frozen == "parts";
  step.memory.frozen = 2 * (parts ? size.in_parts(cluster.ranks) : kFloat * size.all);
  const double own = step.tokens / cluster.ranks;
  const double minibatch = own / static_cast<double>(ppo.minibatches);
  const double micro =
      ppo.micro_tokens > 0 ? std::min(minibatch, static_cast<double>(ppo.micro_tokens)) : minibatch;
  step.memory.activations = micro * model.activation_bytes();
  const double rows = std::min(256.0, std::ceil(texts / cluster.ranks));  // GenerationOptions
  step.memory.cache = rows * (lengths.prompt + rows_end) * cache_bytes_per_token(model);

  // Each new token of a batch of rows reads all weights once, or computes 2 P for each row.
  const double rounds = std::ceil(texts / cluster.ranks / rows);
  const double reading =
      kFloat * size.all / (cluster.hardware.memory_bandwidth * cluster.efficiency.decoding);
  // Rows that have ended compute no more.
  const double products = 2 * size.products(true) * rows * fresh /
                          (cluster.hardware.matrix_flops * cluster.efficiency.training);
  step.rollout_seconds = rounds * std::max(rows_end * reading, products) +
                         cluster.compute(2 * size.products(false) * (step.tokens - texts * fresh));
  // Old and reference log-probabilities with the head at responses only; score and values without.
  const double bodies = (critic ? 4 : 3) * size.blocks * step.tokens;
  step.scoring_seconds = cluster.compute(2 * (bodies + 2 * size.head * texts * fresh));
  step.compute_seconds =
      cluster.compute(static_cast<double>(ppo.epochs) * 6 *
                      (trained * size.blocks * step.tokens + size.head * texts * fresh));
  const auto updates = static_cast<double>(ppo.epochs * ppo.minibatches);
  const double passes = std::max(1.0, minibatch / micro);
  double bytes = updates * trained * exchanged_bytes(size, cluster.ranks, zero, passes);
  // Blocks in parts also come for each scoring pass, and the actor's for the rollout.
  const double scoring = static_cast<double>(ppo.minibatches) * passes *
                             ((zero >= 3 ? trained : 0) + (parts ? 2 : 0)) +
                         (zero >= 3 ? 1 : 0);
  bytes += scoring * kFloat * size.blocks * (cluster.ranks - 1) / cluster.ranks;
  add_communication(step, cluster, bytes);
  return step;
}

}  // namespace

ModelConfig planned_model(const Recipe& recipe, const std::filesystem::path& recipe_dir) {
  if (recipe.model.path.empty()) return recipe_model(recipe.model, recipe.tokenizer.vocab_size);
  const std::filesystem::path path =
      std::filesystem::path(expand_placeholders(recipe.model.path, recipe_dir, "")) / "config.json";
  return ModelConfig::from_json(data::read_file(path), path.string());
}

ClusterPlan plan_run(const Recipe& recipe, const ModelConfig& model, const Hardware& hardware,
                     int64_t ranks, int64_t zero, const TextLengths& lengths) {
  if (ranks < 1) {
    throw data::InputError("hone plan", "--gpus", "at least 1", std::to_string(ranks));
  }
  const Cluster cluster{hardware, efficiency_of(hardware), static_cast<double>(ranks)};
  ClusterPlan plan;
  plan.parameters = model.parameter_count();
  plan.ranks = ranks;
  const Size size = size_of(model);
  const double bucket = recipe.ranks.bucket_megabytes * (1 << 20);
  const auto has = [&](const char* stage) {
    return std::find(recipe.stages.begin(), recipe.stages.end(), stage) != recipe.stages.end();
  };
  if (has("pretrain") && recipe.model.path.empty()) {
    plan.stages.push_back(
        plan_language_model("pretrain", recipe.pretrain, model, size, cluster, zero, bucket));
  }
  if (has("sft")) {
    plan.stages.push_back(
        plan_language_model("sft", recipe.sft, model, size, cluster, zero, bucket));
  }
  if (has("reward")) {
    plan.stages.push_back(plan_reward(model, size, cluster, zero, bucket, lengths));
  }
  if (has("train")) {
    plan.stages.push_back(
        recipe.train.online()
            ? plan_ppo(recipe, model, size, cluster, zero, bucket, lengths)
            : plan_direct(recipe.train.direct, model, size, cluster, zero, bucket, lengths));
  }
  return plan;
}

}  // namespace hone::engine
