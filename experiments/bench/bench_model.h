#pragma once

// What benchmarks of whole models are told through the environment: the model, sizes, the device.

#include <cstdint>
#include <memory>
#include <string>

#include "engine/models/causal_lm.h"

namespace hone::engine {

/// HONE_BENCH_<name>, a number.
int64_t size_of(const char* name, int64_t otherwise);

/// HONE_BENCH_DEVICE: cpu (default), cuda or auto.
at::Device bench_device();

/// A Hugging Face directory, or random:H,L,heads,kv_heads,F,V: a Llama of those sizes with random
/// weights.
std::unique_ptr<CausalLM> bench_model(const std::string& from, at::Device device);

}  // namespace hone::engine
