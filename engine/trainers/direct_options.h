#pragma once

// The options of direct preference training, and what they mean to its loss.

#include <cstdint>
#include <string>

#include "engine/optim/optimizer.h"
#include "engine/trainers/precision.h"
#include "kernels/loss_ops.h"

namespace hone::engine {

struct DirectOptions {
  /// "dpo" (Rafailov et al. 2023), "cdpo", "robust" (share label_smoothing of the judgements is
  /// wrong: smoothed labels, or an unbiased loss), "ipo" (of sums, as published), "ipo_length" (of
  /// means over tokens, TRL's), "hinge" (SLiC), "simpo", "orpo" (no reference), "kto" (each answer
  /// by itself). Formulas: kernels/math/direct.h.
  std::string loss = "dpo";
  /// 0 = the usual one: .1; simpo 2.
  double beta = 0.0;
  double label_smoothing = 0.1;
  double margin = 1.0;
  double desirable_weight = 1.0, undesirable_weight = 1.0;
  /// "sft": the policy that training starts from. "none": its log-probabilities count as 0.
  std::string reference = "sft";
  /// What several judgements of one pair are: "each" is one of the loss's pairs, so that people who
  /// disagree pull both ways; or their "majority" is one pair, an even split none.
  std::string raters = "each";
  /// A judgement without a winner: "drop", or "half" a judgement each way.
  std::string ties = "drop";
  double temperature = 1.0;
  int64_t max_new_tokens = 40;
  double epochs = 1.0;
  int64_t pairs_per_batch = 32;
  int64_t micro_tokens = 0;  // changes nothing but memory
  std::string precision = "float32";
  OptimizerOptions optimizer{.lr = 5e-5, .weight_decay = 0.0, .schedule = "linear"};

  template <class V>
  void visit(V&& v) {
    v("loss", loss, "dpo | cdpo | robust | ipo | ipo_length | hinge | simpo | orpo | kto");
    v("beta", beta, "weight of the KL to the reference (ipo: tau, orpo: lambda); 0 = .1, simpo 2");
    v("label_smoothing", label_smoothing, "cdpo, robust: share of judgements that are wrong");
    v("margin", margin, "simpo: gamma, what the chosen answer's reward must be ahead by");
    v("desirable_weight", desirable_weight, "kto: weight of chosen answers");
    v("undesirable_weight", undesirable_weight, "kto: weight of rejected answers");
    v("reference", reference, "sft | none (simpo and orpo have none)");
    v("raters", raters, "each judgement of a pair counts | their majority is one");
    v("ties", ties, "drop | half a judgement each way");
    v("temperature", temperature, "the policy is softmax(logits / temperature) everywhere");
    v("max_new_tokens", max_new_tokens, "limit of the samples that are judged, tokens");
    v("epochs", epochs, "passes over the judgements");
    v("pairs_per_batch", pairs_per_batch, "compared pairs of one optimizer step");
    v("micro_tokens", micro_tokens, "tokens of one forward pass, 0 = a step's, in parts that fit");
    v("precision", precision, kPrecisionHelp);
    v("optimizer", optimizer, "");
  }

  /// The loss reads log-probabilities of the starting policy.
  bool has_reference() const { return loss != "simpo" && loss != "orpo" && reference == "sft"; }
};

/// kernels::direct_loss of every loss but "kto", defaults filled in.
kernels::DirectLossOptions direct_loss_options(const DirectOptions& options);
kernels::KtoLossOptions kto_loss_options(const DirectOptions& options);

/// Options that contradict each other or are no choice: data::InputError at `where`, naming
/// `prefix` + option.
void check_direct_options(const DirectOptions& options, const std::string& where,
                          const std::string& prefix);

}  // namespace hone::engine
