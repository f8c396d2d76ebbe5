#include "kernels/aggregation.h"

#include <string>

#include "kernels/checks.h"

namespace hone::kernels {

AggregationWeights aggregation_weights(const char* op, std::string_view aggregation,
                                       const AggregationCounts& counts) {
  if (aggregation == "token_mean") return {.per_token = 1.0 / counts.tokens};
  if (aggregation == "seq_mean_token_mean") return {.per_sequence = 1.0 / counts.sequences};
  if (aggregation == "seq_mean_token_sum") return {.per_token = 1.0 / counts.sequences};
  HONE_CHECK(aggregation == "constant", op, "aggregation",
             "\"token_mean\", \"seq_mean_token_mean\", \"seq_mean_token_sum\" or \"constant\"",
             "\"", std::string(aggregation), "\"");
  return {.per_token = 1.0 / (counts.sequences * counts.length)};
}

}  // namespace hone::kernels
