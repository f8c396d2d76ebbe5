#include "engine/models/rope.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/outer.h>

#include <cmath>
#include <numbers>

#include "engine/models/families.h"

namespace hone::engine {

std::vector<double> rope_frequencies(const ModelConfig& config) {
  // Zero turns where positions are learned: attention then leaves queries and keys as they are.
  const int64_t pairs = config.attention_head_dim() / 2;
  if (find_family(config.family, "model").learned_positions) {
    return std::vector<double>(static_cast<size_t>(pairs), 0.0);
  }
  std::vector<double> frequencies;
  for (int64_t i = 0; i < pairs; ++i) {
    const double exponent = static_cast<double>(2 * i) / static_cast<double>(config.head_dim);
    double frequency = std::pow(config.rope_theta, -exponent);
    if (config.rope_scaling == "linear") {
      frequency /= config.rope_factor;
    } else if (config.rope_scaling == "llama3") {
      // How many turns the pair makes within the original context decides: many turns keep the
      // frequency, few turns are stretched, those between are blended.
      const double turns = static_cast<double>(config.rope_original_positions) * frequency /
                           (2.0 * std::numbers::pi);
      const double low = config.rope_low_freq_factor, high = config.rope_high_freq_factor;
      if (turns < low) {
        frequency /= config.rope_factor;
      } else if (turns <= high) {
        const double smooth = (turns - low) / (high - low);
        frequency = (1.0 - smooth) * frequency / config.rope_factor + smooth * frequency;
      }
    }
    frequencies.push_back(frequency);
  }
  return frequencies;
}

std::pair<at::Tensor, at::Tensor> rope_tables(const ModelConfig& config, int64_t positions,
                                              at::ScalarType dtype, at::Device device) {
  const at::NoGradGuard no_grad;
  std::vector<double> frequencies = rope_frequencies(config);
  const auto pairs = static_cast<int64_t>(frequencies.size());
  const auto row = at::from_blob(frequencies.data(), {pairs}, at::kDouble);
  const auto angles = at::outer(at::arange(positions, at::kDouble), row);
  const auto options = at::TensorOptions().dtype(dtype).device(device);
  return {angles.cos().to(options), angles.sin().to(options)};
}

}  // namespace hone::engine
