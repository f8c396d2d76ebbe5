#include "engine/trainers/utilization.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

namespace hone::engine {
namespace {

double measure() {
  if (const char* set = std::getenv("HONE_PEAK_TFLOPS")) {
    const double value = std::strtod(set, nullptr);
    if (value > 0) return value * 1e12;
  }
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kSize = 768;
  constexpr int kRepeats = 8;
  const at::NoGradGuard no_grad;
  const auto a = at::full({kSize, kSize}, 0.5, at::kFloat);
  double fastest = 1e9;
  for (int i = 0; i < kRepeats; ++i) {
    const auto start = Clock::now();
    at::mm(a, a);
    fastest = std::min(fastest, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return 2.0 * kSize * kSize * kSize / fastest;
}

}  // namespace

double measured_matrix_flops() {
  static const double flops = measure();
  return flops;
}

double training_flops(const CausalLM& model, double length) {
  const auto& config = model.config();
  int64_t elements = 0;
  for (const auto& leaf : model.parameters().leaves()) {
    if (leaf.in_block()) elements += leaf.numel;
  }
  if (model.head() == HeadKind::kLanguageModel) elements += config.vocab_size * config.hidden_size;
  const auto mixed = static_cast<double>(config.layers * config.heads * config.head_dim);
  // Scores and values, once forward and twice backward.
  return 6 * static_cast<double>(elements) + 12 * mixed * length / 2;
}

}  // namespace hone::engine
