#pragma once

// How much of what the machine's matrix products reach becomes training (Chowdhery et al. 2022,
// PaLM, appendix B: model FLOPs utilization).

#include "engine/models/causal_lm.h"

namespace hone::engine {

/// FLOP/s of matrix products of this process, measured once and kept: on the CPU float32 ones of
/// 768 x 768 matrices on its threads (about 30 ms), on a GPU bfloat16 ones of 8192 x 8192.
/// HONE_PEAK_TFLOPS sets it instead.
double measured_matrix_flops(at::Device device = at::kCPU);

/// FLOPs that forward and backward pass need for a token, however they are computed: 6 for each
/// element of the matrices (embeddings are looked up, a language model's head counts), and
/// attention's products with the half of `length` tokens that a token sees on average.
double training_flops(const CausalLM& model, double length);

/// On the CPU, tokens whose widest activations (gate and up) are 1 MB and so stay in a core's
/// second-level cache from one product to the next; 0, no bound, elsewhere.
int64_t fitting_tokens(const CausalLM& model);

}  // namespace hone::engine
