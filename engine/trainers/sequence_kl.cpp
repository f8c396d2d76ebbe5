#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include <numeric>

#include "engine/rollout/collector.h"
#include "engine/rollout/minibatches.h"
#include "engine/runtime/signals.h"
#include "engine/trainers/ppo_trainer.h"
#include "engine/trainers/ppo_update.h"

namespace hone::engine {

std::vector<double> sequence_kl(CausalLM& policy, CausalLM& reference,
                                const std::vector<TokenIds>& prompts,
                                const std::vector<TokenIds>& responses, double temperature) {
  constexpr int64_t kMicroTokens = 16384;
  const at::NoGradGuard no_grad;
  const auto& data = policy.parameters().data();
  const auto rollout = given_texts(prompts, responses, data.device());
  std::vector<int64_t> order;  // an empty response has no KL and no forward pass
  for (int64_t i = 0; i < rollout.size(); ++i) {
    if (rollout.response_tokens(i) > 0) order.push_back(i);
  }
  auto log_policy = at::zeros({rollout.entries()}, data.options());
  auto log_reference = at::zeros({rollout.entries()}, data.options());
  at::Tensor no_entropy;
  for (const auto& minibatch : make_minibatches(rollout, order, {.micro_tokens = kMicroTokens})) {
    for (const auto& pack : minibatch) {
      check_interrupted();
      score_policy(policy, pack, temperature, log_policy, no_entropy);
      score_policy(reference, pack, temperature, log_reference, no_entropy);
    }
  }
  const auto ratio =
      log_policy.to(at::kCPU, at::kDouble).sub(log_reference.to(at::kCPU, at::kDouble));
  const auto* log_ratio = ratio.const_data_ptr<double>();
  std::vector<double> kl;
  for (size_t i = 0; i + 1 < rollout.offsets.size(); ++i) {
    kl.push_back(
        std::accumulate(log_ratio + rollout.offsets[i], log_ratio + rollout.offsets[i + 1], 0.0));
  }
  return kl;
}

}  // namespace hone::engine
