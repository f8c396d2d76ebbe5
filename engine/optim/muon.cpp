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
    const auto& leaf = parameters.leaves()[static_cast<size_t>(slice.leaf)];
    if (!leaf.in_block()) continue;
    const int64_t rows = slice.shape.at(0), cols = slice.shape.at(1);
    auto group = std::find_if(groups_.begin(), groups_.end(), [&](const Group& g) {
      return g.block == leaf.block && g.rows == rows && g.cols == cols;
    });
    if (group == groups_.end()) group = groups_.insert(group, Group{leaf.block, rows, cols, {}});
    group->offsets.push_back(slice.offset);
  }
}

void Muon::average(const at::Tensor& grad, const at::Tensor& momentum, double grad_scale,
                   const MuonStep& options) {
  grad.mul_(grad_scale);
  momentum.lerp_(grad, 1.0 - options.momentum);
  grad.lerp_(momentum, options.momentum);
}

void Muon::step(const at::Tensor& parameters, const at::Tensor& directions, const MuonStep& options,
                const std::vector<ArenaInterval>& owned, int64_t first_block,
                int64_t end_block) const {
  for (const auto& group : groups_) {
    if (group.block < first_block || group.block >= end_block) continue;
    const int64_t size = group.rows * group.cols;
    std::vector<at::Tensor> matrices;
    matrices.reserve(group.offsets.size());
    for (const int64_t offset : group.offsets) {
      matrices.push_back(directions.narrow(0, offset, size).view({group.rows, group.cols}));
    }
    const auto updates = orthogonalize(at::stack(matrices)).reshape({-1, size});
    const double rate =
        options.lr *
        std::sqrt(std::max(1.0, static_cast<double>(group.rows) / static_cast<double>(group.cols)));
    for (size_t i = 0; i < group.offsets.size(); ++i) {
      for (const auto& interval : owned) {
        const int64_t begin = std::max(interval.begin, group.offsets[i]);
        const int64_t count = std::min(interval.end, group.offsets[i] + size) - begin;
        if (count <= 0) continue;
        parameters.narrow(0, begin, count)
            .mul_(1.0 - options.decay)
            .sub_(updates[static_cast<int64_t>(i)].narrow(0, begin - group.offsets[i], count),
                  rate);
      }
    }
  }
}

}  // namespace hone::engine
