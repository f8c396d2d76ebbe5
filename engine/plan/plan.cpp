#include "engine/plan/plan.h"

#include <algorithm>
#include <cmath>

#include "data/atomic_file.h"
#include "data/error.h"
#include "engine/config/recipe_model.h"

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

/// Bytes of tensors that a token leaves for the backward pass.
double activation_bytes(const ModelConfig& model) {
  const auto hidden = static_cast<double>(model.hidden_size);
  const auto qkv = static_cast<double>((model.heads + 2 * model.kv_heads) * model.head_dim);
  const auto mixed = static_cast<double>(model.heads * model.head_dim);
  // Input, two normed inputs, the middle of the block; qkv and what attention makes of them; gate,
  // up and their product.
  const double block = 4 * hidden + qkv + mixed + 3 * static_cast<double>(model.intermediate_size);
  return kFloat * (static_cast<double>(model.layers) * block + 2 * hidden);
}

double cache_bytes_per_token(const ModelConfig& model) {
  return kFloat * 2 * static_cast<double>(model.layers * model.kv_heads) *
         static_cast<double>(model.attention_head_dim());
}

/// Memory of `networks` trained networks of P parameters each.
void add_training(MemoryPlan& memory, double parameters, double ranks, int64_t zero,
                  double bucket_bytes) {
  memory.parameters += kFloat * parameters;
  memory.gradients += kFloat * parameters / (zero >= 2 ? ranks : 1);
  memory.optimizer += 2 * kFloat * parameters / (zero >= 1 ? ranks : 1);
  if (ranks == 1) return;
  memory.exchange += 2 * std::min(kBucketsUnderWay * bucket_bytes, kFloat * parameters);
  if (zero < 2) memory.exchange += kFloat * parameters / ranks;  // sums, beside the gradients
}

/// Gradients go to their owners and sums or parameters come back: twice (W-1)/W of P.
double exchanged_bytes(double parameters, double ranks) {
  return 2 * kFloat * parameters * (ranks - 1) / ranks;
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
                             const ModelConfig& model, double parameters, const Cluster& cluster,
                             int64_t zero, double bucket_bytes) {
  StepPlan step;
  step.stage = stage;
  step.steps = options.steps;
  step.tokens = static_cast<double>(options.batch_tokens);
  add_training(step.memory, parameters, cluster.ranks, zero, bucket_bytes);
  const double own = step.tokens / cluster.ranks;
  const double micro =
      options.micro_tokens > 0 ? std::min(own, static_cast<double>(options.micro_tokens)) : own;
  step.memory.activations = micro * activation_bytes(model);
  step.compute_seconds = cluster.compute(6 * parameters * step.tokens);
  add_communication(step, cluster, exchanged_bytes(parameters, cluster.ranks));
  return step;
}

StepPlan plan_ppo(const Recipe& recipe, const ModelConfig& model, double parameters,
                  const Cluster& cluster, int64_t zero, double bucket_bytes) {
  const auto& ppo = recipe.train.ppo;
  const bool critic = ppo.algorithm == "ppo";
  const double trained = critic ? 2 : 1;
  StepPlan step;
  step.stage = "train";
  step.steps = ppo.iterations;
  const auto texts = static_cast<double>(ppo.prompts_per_iteration * ppo.samples_per_prompt);
  const auto fresh = static_cast<double>(ppo.max_new_tokens);
  const double length = std::min(static_cast<double>(recipe.data.max_tokens) + fresh,
                                 static_cast<double>(model.max_positions));
  step.tokens = texts * length;
  for (int network = 0; network < static_cast<int>(trained); ++network) {
    add_training(step.memory, parameters, cluster.ranks, zero, bucket_bytes);
  }
  step.memory.frozen = 2 * kFloat * parameters;
  const double own = step.tokens / cluster.ranks;
  const double minibatch = own / static_cast<double>(ppo.minibatches);
  const double micro =
      ppo.micro_tokens > 0 ? std::min(minibatch, static_cast<double>(ppo.micro_tokens)) : minibatch;
  step.memory.activations = micro * activation_bytes(model);
  const double rows = std::min(256.0, std::ceil(texts / cluster.ranks));  // GenerationOptions
  step.memory.cache = rows * length * cache_bytes_per_token(model);

  // Each new token of a batch of rows reads all weights once, or computes 2 P for each row.
  const double rounds = std::ceil(texts / cluster.ranks / rows);
  const double reading =
      kFloat * parameters / (cluster.hardware.memory_bandwidth * cluster.efficiency.decoding);
  const double products =
      2 * parameters * rows / (cluster.hardware.matrix_flops * cluster.efficiency.training);
  step.rollout_seconds = rounds * fresh * std::max(reading, products) +
                         cluster.compute(2 * parameters * (step.tokens - texts * fresh));
  // Old and reference log-probabilities, score, values.
  step.scoring_seconds = cluster.compute((critic ? 4 : 3) * 2 * parameters * step.tokens);
  step.compute_seconds =
      cluster.compute(static_cast<double>(ppo.epochs) * trained * 6 * parameters * step.tokens);
  const auto updates = static_cast<double>(ppo.epochs * ppo.minibatches);
  add_communication(step, cluster, updates * trained * exchanged_bytes(parameters, cluster.ranks));
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
                     int64_t ranks, int64_t zero) {
  if (ranks < 1) {
    throw data::InputError("hone plan", "--gpus", "at least 1", std::to_string(ranks));
  }
  const Cluster cluster{hardware, efficiency_of(hardware), static_cast<double>(ranks)};
  ClusterPlan plan;
  plan.parameters = model.parameter_count();
  plan.ranks = ranks;
  const auto parameters = static_cast<double>(plan.parameters);
  const double bucket = recipe.ranks.bucket_megabytes * (1 << 20);
  const auto has = [&](const char* stage) {
    return std::find(recipe.stages.begin(), recipe.stages.end(), stage) != recipe.stages.end();
  };
  if (has("pretrain") && recipe.model.path.empty()) {
    plan.stages.push_back(
        plan_language_model("pretrain", recipe.pretrain, model, parameters, cluster, zero, bucket));
  }
  if (has("sft")) {
    plan.stages.push_back(
        plan_language_model("sft", recipe.sft, model, parameters, cluster, zero, bucket));
  }
  if (has("train")) {
    plan.stages.push_back(plan_ppo(recipe, model, parameters, cluster, zero, bucket));
  }
  return plan;
}

}  // namespace hone::engine
