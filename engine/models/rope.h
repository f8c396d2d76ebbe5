#pragma once

// Rotary position tables (Su et al. 2021), with the two scalings that Llama checkpoints use.

#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

#include "engine/models/model_config.h"

namespace hone::engine {

/// Angle per position of each of the head_dim/2 pairs, in double: theta^(-2i/d), then
/// "linear": divided by factor (kaiokendev); "llama3": long wavelengths divided by factor, a smooth
/// ramp between original/low_freq_factor and original/high_freq_factor (Llama 3.1). All zero in a
/// family that learns its positions.
std::vector<double> rope_frequencies(const ModelConfig& config);

/// cos, sin [positions, head_dim/2], computed in double and rounded once.
std::pair<at::Tensor, at::Tensor> rope_tables(const ModelConfig& config, int64_t positions,
                                              at::ScalarType dtype, at::Device device);

}  // namespace hone::engine
