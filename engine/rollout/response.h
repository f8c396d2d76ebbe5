#pragma once

// Where a response ends, and what a text that never ends is worth.

#include <cstdint>
#include <span>
#include <string>

namespace hone::engine {

/// Tokens of a response up to and with its first token of `eos_ids`; all of them when it has none
/// (ALGORITHMS 5, 6). A chat model may have several: the end of a turn and the end of a text.
int64_t truncated_length(std::span<const int32_t> response, std::span<const int64_t> eos_ids);

/// How a text without EOS is scored (ALGORITHMS 24).
enum class MissingEos {
  kKeep,      // the score
  kReplace,   // penalty (OpenAI, sfd)
  kSubtract,  // score - penalty, penalty >= 0 (TRL)
  kCap,       // min(score, 0) + penalty, penalty <= 0: never better than an ended bad text
};

/// Throws data::InputError for an unknown name, and for a penalty whose sign would turn it into a
/// bonus.
MissingEos parse_missing_eos(const std::string& name, double penalty);
double missing_eos_score(double score, MissingEos rule, double penalty);

/// DAPO's soft punishment (Yu et al. 2025, eq. 13), <= 0: nothing for a response of up to
/// limit - margin tokens, -penalty at `limit`, linear between.
double overlong_score(int64_t tokens, int64_t limit, int64_t margin, double penalty);

}  // namespace hone::engine
