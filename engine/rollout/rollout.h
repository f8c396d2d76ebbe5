#pragma once

// One batch of experience: texts, their scores, and flat per-token tensors over the responses.
//
// An "entry" is one step of the decision process: entry t of a text is the state before response
// token t and the choice of that token. The entries of all texts lie one after another, text i at
// [offsets[i], offsets[i+1]). With a final state (placement "after_last", the EOS + 1 of TRL and
// sfd) a text has one more entry, the state after its last token; nothing is chosen there, mask 0.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "engine/packing/packed_batch.h"

namespace hone::engine {

/// B texts, E entries. Tensors are on the policy's device and of its dtype unless noted.
struct Rollout {
  std::vector<TrainingText> texts;  // [B] prompt + response, truncated after the first EOS
  std::vector<uint8_t> ended;       // [B] 1: the response ends with EOS
  std::vector<uint8_t> has_final;   // [B] 1: the text has an entry for the state after its end
  std::vector<int64_t> offsets;     // [B+1] of entries
  at::Tensor cu_entries;            // [B+1] int64, the same
  at::Tensor mask;                  // [E] uint8, 0 at final states; undefined when there is none
  at::Tensor behaviour_logprobs;    // [E] under the distribution really sampled from

  std::vector<double> raw_scores;         // [B] as the reward model or program gave them
  std::vector<double> normalized_scores;  // [B] before the rule for a missing EOS
  at::Tensor scores;                      // [B] what the policy is rewarded with

  at::Tensor old_logprobs, ref_logprobs;  // [E] 0 at final states
  at::Tensor entropy;                     // [E] of the policy that sampled; 0 at final states
  at::Tensor values;                      // [E] critic before the update; zeros without a critic
  at::Tensor advantages, returns;         // [E]

  int64_t size() const { return static_cast<int64_t>(texts.size()); }
  int64_t entries() const { return offsets.back(); }
  int64_t response_tokens(int64_t text) const {
    const auto& t = texts[static_cast<size_t>(text)];
    return static_cast<int64_t>(t.tokens.size()) - t.prompt_tokens;
  }
};

}  // namespace hone::engine
