#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/run/workspace.h"

namespace hone::engine {

/// A run's folder opened to use what its stages left; nothing is written to its metrics.
class FinishedRun {
 public:
  /// Throws data::InputError when one of `stages` is not done.
  FinishedRun(const std::filesystem::path& folder, const std::vector<std::string>& stages,
              at::Device device = at::kCPU);
  Workspace& workspace() { return *workspace_; }

 private:
  Metrics silent_;
  std::unique_ptr<Workspace> workspace_;
};

}  // namespace hone::engine
