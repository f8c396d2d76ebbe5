#pragma once

// Next-token training: pretraining (no prompt) and SFT (prompt masked).

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/models/causal_lm.h"
#include "engine/optim/optimizer.h"
#include "engine/packing/packed_batch.h"
#include "engine/trainers/precision.h"
#include "engine/trainers/training_context.h"

namespace hone::engine {

struct LmTrainingOptions {
  int64_t steps = 0;            // 0: by epochs
  double epochs = 1.0;          // used when steps = 0
  int64_t batch_tokens = 1536;  // tokens of one optimizer step
  int64_t micro_tokens = 0;  // tokens of one forward; 0 = batch_tokens. Changes nothing but memory
  double dropout = 0.0;
  std::string precision = "float32";
  OptimizerOptions optimizer;

  template <class V>
  void visit(V&& v) {
    v("steps", steps, "optimizer steps; 0 = by epochs");
    v("epochs", epochs, "passes over the data when steps = 0");
    v("batch_tokens", batch_tokens, "tokens of one optimizer step");
    v("micro_tokens", micro_tokens, "tokens of one forward pass, 0 = batch_tokens");
    v("dropout", dropout, "residual dropout probability");
    v("precision", precision, kPrecisionHelp);
    v("optimizer", optimizer, "");
  }
};

struct LmTrainingResult {
  int64_t steps = 0, tokens = 0;  // tokens read, prompts and repeated epochs included
  double final_loss = 0;          // mean of the last 50 steps, nats per token
  double seconds = 0;
};

/// Adds the gradient of the mean negative log-likelihood over every predicted token of `texts` to
/// the model's arena and returns that mean (nats per token). Forward passes take at most
/// `micro_tokens` tokens (0 = all): the gradient is the same whatever their number. `predicted`:
/// the mean is over so many tokens (of which these texts are a part); 0 = over these texts' own.
/// `before_last` is called before the last backward pass.
double accumulate_lm_gradients(CausalLM& model, const std::vector<const TrainingText*>& texts,
                               int64_t micro_tokens, int64_t predicted = 0,
                               const std::function<void()>& before_last = {});

/// Trains in place; `area` names stage and metrics ("pretrain", "sft"). Texts without a token to
/// predict are left out. Throws Interrupted at a step boundary when asked to stop, data::InputError
/// when there is nothing to learn from or a text is longer than the model's context.
LmTrainingResult train_lm(CausalLM& model, const std::vector<TrainingText>& texts,
                          const LmTrainingOptions& options, uint64_t seed, const std::string& area,
                          const TrainingContext& context);

struct LmEvaluation {
  double nats_per_token = 0, perplexity = 0;
  double total_nats = 0;
  int64_t tokens = 0;
};
/// Over all predicted tokens (prompts are not). Nothing predicted: zeros and perplexity 1.
LmEvaluation evaluate_lm(CausalLM& model, const std::vector<TrainingText>& texts);

}  // namespace hone::engine
