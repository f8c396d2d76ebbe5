#pragma once

// posterior.safetensors beside a reward model's weights: what it is unsure of (reward/posterior.h).

#include <filesystem>
#include <string>

#include "reward/posterior.h"

namespace hone::engine {

/// Tensors mean [H], precision [H, H] and likelihood [3] (model, tie, lapse), F64, and the SHA-256
/// of model.safetensors as 64 characters (U8). Atomic.
void write_posterior(const std::filesystem::path& directory, const reward::Posterior& posterior);

struct StoredPosterior {
  reward::Posterior posterior;
  std::string reward_hash;  // of the model that it is of
};
/// Throws data::InputError when there is none, when it is of other weights than those beside it, or
/// damaged; the message says how to get one.
StoredPosterior read_posterior(const std::filesystem::path& directory);
bool has_posterior(const std::filesystem::path& directory);

}  // namespace hone::engine
