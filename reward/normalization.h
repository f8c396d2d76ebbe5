#pragma once

namespace hone::reward {

/// score -> (score - mean) / std. "none" mean 0 std 1; "demonstrations" subtracts the mean score of
/// demonstrations (Stiennon); "policy" standardises by samples of the starting policy (Ziegler).
struct Normalization {
  double mean = 0.0;
  double std = 1.0;
  double apply(double score) const { return (score - mean) / std; }
};

}  // namespace hone::reward
