#include "engine/optim/muon.h"

#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cmath>

namespace hone::engine {

at::Tensor orthogonalize(const at::Tensor& x) {
  constexpr int kSteps = 5;
  constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
  const int64_t rows = x.size(-2), cols = x.size(-1);
  auto y = x.reshape({-1, rows, cols});
  // The Gram matrix is taken over the shorter side.
  if (rows > cols) y = y.transpose(1, 2);
  y = y.div(y.square().sum({1, 2}, /*keepdim=*/true).sqrt().add(1e-7));
  for (int step = 0; step < kSteps; ++step) {
    const auto gram = at::bmm(y, y.transpose(1, 2));
    const auto quadratic = at::baddbmm(gram, gram, gram, /*beta=*/kB, /*alpha=*/kC);
    y = at::baddbmm(y, quadratic, y, /*beta=*/kA, /*alpha=*/1.0);
  }
  if (rows > cols) y = y.transpose(1, 2);
  return y.reshape(x.sizes());
}

Muon::Muon(const ParameterArena& parameters) {
  for (const auto& slice : parameters.slices()) {
    if (!parameters.leaves()[static_cast<size_t>(slice.leaf)].in_block()) continue;
    const int64_t rows = slice.shape.at(0), cols = slice.shape.at(1);
    auto group = std::find_if(groups_.begin(), groups_.end(),
                              [&](const Group& g) { return g.rows == rows && g.cols == cols; });
    if (group == groups_.end()) group = groups_.insert(group, Group{rows, cols, {}});
    group->offsets.push_back(slice.offset);
  }
}

void Muon::average(const at::Tensor& grad, const at::Tensor& momentum, double grad_scale,
                   const MuonStep& options) {
  grad.mul_(grad_scale);
  momentum.lerp_(grad, 1.0 - options.momentum);
  grad.lerp_(momentum, options.momentum);
}

void Muon::step(const at::Tensor& parameters, const at::Tensor& directions,
                const MuonStep& options) const {
  for (const auto& group : groups_) {
    const auto matrix = [&](const at::Tensor& arena, int64_t offset) {
      return arena.narrow(0, offset, group.rows * group.cols).view({group.rows, group.cols});
    };
    std::vector<at::Tensor> matrices;
    matrices.reserve(group.offsets.size());
    for (const int64_t offset : group.offsets) matrices.push_back(matrix(directions, offset));
    const auto updates = orthogonalize(at::stack(matrices));
    const double rate =
        options.lr *
        std::sqrt(std::max(1.0, static_cast<double>(group.rows) / static_cast<double>(group.cols)));
    for (size_t i = 0; i < group.offsets.size(); ++i) {
      matrix(parameters, group.offsets[i])
          .mul_(1.0 - options.decay)
          .sub_(updates[static_cast<int64_t>(i)], rate);
    }
  }
}

}  // namespace hone::engine
