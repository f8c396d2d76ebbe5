#pragma once

// Muon: the momentum of a matrix, orthogonalised, is its update (K. Jordan 2024). Directions that
// the gradient rarely shows move as far as those that it always shows.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "engine/models/parameter_arena.h"
#include "engine/optim/arena_buckets.h"

namespace hone::engine {

/// Approximately U V^T of the singular value decomposition x = U S V^T, for each matrix of x
/// [..., rows, cols]: five Newton-Schulz steps with the quintic 3.4445, -4.7750, 2.0315, which
/// brings singular values into about [0.7, 1.2].
at::Tensor orthogonalize(const at::Tensor& x);

struct MuonStep {
  double lr = 0.0;        // rate of the update
  double decay = 0.0;     // the matrix is scaled by 1 - decay first
  double momentum = 0.0;  // of the exponential average, with Nesterov's look-ahead
};

/// The named matrices of every leaf that is in_block(), each by itself: query, key and value are
/// three matrices although one leaf holds them. A block's matrices of one shape go through the
/// GEMMs together, whatever other blocks are at hand, so that the bits do not depend on those.
class Muon {
 public:
  explicit Muon(const ParameterArena& parameters);
  /// Element by element, so any part of the arenas will do: `grad`, times grad_scale (clipping),
  /// goes into the average `momentum` and becomes the direction that is to be orthogonalised.
  static void average(const at::Tensor& grad, const at::Tensor& momentum, double grad_scale,
                      const MuonStep& options);
  /// Moves the elements `owned` of blocks [first_block, end_block) of `parameters` [P] along the
  /// orthogonalised `directions` [P], of which those blocks have to be whole. The rate of a matrix
  /// is lr * sqrt(max(1, rows / cols)).
  void step(const at::Tensor& parameters, const at::Tensor& directions, const MuonStep& options,
            const std::vector<ArenaInterval>& owned, int64_t first_block, int64_t end_block) const;

 private:
  struct Group {
    int64_t block = 0, rows = 0, cols = 0;
    std::vector<int64_t> offsets;  // of each matrix in the arena
  };
  std::vector<Group> groups_;
};

}  // namespace hone::engine
