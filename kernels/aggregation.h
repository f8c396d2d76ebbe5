#pragma once

// How tokens' losses become one number (ALGORITHMS: token mean of DAPO, sequence mean of token
// means of GRPO, sequence sum, constant length of Dr.GRPO): as weights, whose denominators are
// counts of the global batch, so that a loss and its gradient do not depend on micro-batches or
// ranks.

#include <cstdint>
#include <string_view>

namespace hone::kernels {

/// Counts of the global batch.
struct AggregationCounts {
  double tokens;     // that take part
  double sequences;  // with at least one such token
  double length;     // "constant": tokens that a sequence is counted as
};

/// A token's weight is per_token + per_sequence / (tokens of its sequence).
struct AggregationWeights {
  double per_token = 0.0;
  double per_sequence = 0.0;
};

/// "token_mean" 1/tokens; "seq_mean_token_mean" 1/(sequences own tokens); "seq_mean_token_sum"
/// 1/sequences; "constant" 1/(sequences length). `op` names the caller in the error for another.
AggregationWeights aggregation_weights(const char* op, std::string_view aggregation,
                                       const AggregationCounts& counts);

}  // namespace hone::kernels
