#pragma once

// What the head ops do on the CPU, whatever the vocabulary. A small one goes through the chunk loop
// that CUDA shares (composite/chunked_head.h), whole rows at a time; a large one, whose rows leave
// the caches between two products, in tiles (head_tiles.h). All passes over the same hidden states
// give the same log-probabilities, bit for bit, on any number of threads.

#include <c10/util/FunctionRef.h>

#include <cstdint>

#include "kernels/composite/chunked_head.h"
#include "kernels/cpu/head_rows.h"

namespace hone::kernels {

/// T is the type computed in: float for bfloat16 inputs.
template <typename T>
struct HeadPass {
  const HeadInputs& in;
  double temperature;
  T* logprobs;  // [N]
  T* entropy;   // [N]
};

/// d loss / d logprob of a token, once its log-probability is known.
template <typename T>
using LogprobGradient = c10::function_ref<T(int64_t token, T logprob)>;

/// Fills logprobs and entropy.
template <typename T>
void head_forward(const HeadPass<T>& pass);

/// head_forward and the gradients from the same logits: three GEMMs. `grad_entropy` [N] or null.
template <typename T>
HeadGradients head_fused(const HeadPass<T>& pass, const HeadNeeds& needs,
                         LogprobGradient<T> gradient, const T* grad_entropy);

/// The gradients, from logprobs and entropy as head_forward left them: the logits are made again.
/// `grads` of all tokens.
template <typename T>
HeadGradients head_backward(const HeadPass<T>& pass, const HeadNeeds& needs,
                            const HeadRowGrads<T>& grads);

}  // namespace hone::kernels
