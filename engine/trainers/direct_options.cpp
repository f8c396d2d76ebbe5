#include "engine/trainers/direct_options.h"

#include "engine/trainers/option_checks.h"

namespace hone::engine {
namespace {

double beta_of(const DirectOptions& options) {
  if (options.beta > 0) return options.beta;
  return options.loss == "simpo" ? 2.0 : 0.1;
}

std::string kind_of(const std::string& loss) {
  if (loss == "cdpo") return "dpo";
  if (loss == "robust") return "robust_dpo";
  if (loss == "ipo_length") return "ipo_mean";
  return loss;
}

}  // namespace

kernels::DirectLossOptions direct_loss_options(const DirectOptions& options) {
  kernels::DirectLossOptions loss;
  loss.kind = kind_of(options.loss);
  loss.beta = beta_of(options);
  if (options.loss == "cdpo" || options.loss == "robust") {
    loss.label_smoothing = options.label_smoothing;
  }
  if (options.loss == "simpo") loss.margin = options.margin;
  return loss;
}

kernels::KtoLossOptions kto_loss_options(const DirectOptions& options) {
  return {.beta = beta_of(options),
          .desirable_weight = options.desirable_weight,
          .undesirable_weight = options.undesirable_weight};
}

void check_direct_options(const DirectOptions& o, const std::string& where,
                          const std::string& prefix) {
  const OptionChecks require(where, prefix);
  require.one_of("loss", o.loss,
                 {"dpo", "cdpo", "robust", "ipo", "ipo_length", "hinge", "simpo", "orpo", "kto"});
  require.not_negative("beta", o.beta);
  require.within("label_smoothing", o.label_smoothing, 0, 0.499999);
  require.not_negative("margin", o.margin);
  require.not_negative("desirable_weight", o.desirable_weight);
  require.not_negative("undesirable_weight", o.undesirable_weight);
  require.one_of("reference", o.reference, {"sft", "none"});
  require(o.loss != "kto" || o.reference == "sft", "reference",
          "sft with loss = kto, which measures its distance from it", o.reference);
  require.one_of("raters", o.raters, {"each", "majority"});
  require.one_of("ties", o.ties, {"drop", "half"});
  require(o.loss != "kto" || o.ties == "drop", "ties",
          "drop with loss = kto, to which an answer is good or bad", o.ties);
  require.within("temperature", o.temperature, 1e-3, 100);
  require.at_least("max_new_tokens", static_cast<double>(o.max_new_tokens), 1);
  require.positive("epochs", o.epochs);
  require.at_least("pairs_per_batch", static_cast<double>(o.pairs_per_batch), 1);
  require(o.loss != "kto" || o.pairs_per_batch >= 2, "pairs_per_batch",
          "at least 2 with loss = kto, which takes answers of other prompts",
          std::to_string(o.pairs_per_batch));
  require.at_least("micro_tokens", static_cast<double>(o.micro_tokens), 0);
  require.one_of("precision", o.precision, {"float32", "bf16", "auto"});
}

}  // namespace hone::engine
