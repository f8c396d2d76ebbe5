#pragma once

// The folder of one stage's checkpoints: what is whole in it, and what may go.

#include <filesystem>
#include <string>
#include <vector>

#include "engine/checkpoint/checkpoint_options.h"
#include "engine/checkpoint/manifest.h"

namespace hone::engine {

class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::filesystem::path path) : path_(std::move(path)) {}

  const std::filesystem::path& path() const { return path_; }
  /// Published checkpoints, the oldest first.
  std::vector<std::filesystem::path> checkpoints() const;
  std::filesystem::path partial(const TrainingPosition& position) const;
  /// Makes the folder; removes what a killed process left half-written. Throws data::IoError.
  void prepare() const;
  /// Manifest last: then the folder gets its name, durably. Throws data::IoError.
  void publish(const std::filesystem::path& partial, const Manifest& manifest) const;
  /// Removes all but the newest `keep_last` and those at multiples of `keep_every`.
  void retain(const CheckpointOptions& options) const;
  /// Removes one checkpoint so that a kill in the midst leaves no half of it under its name.
  void remove(const std::filesystem::path& checkpoint) const;
  /// Renames the whole folder to <name>.old-<n>; returns the new name.
  std::filesystem::path set_aside() const;

 private:
  std::filesystem::path path_;
};

}  // namespace hone::engine
