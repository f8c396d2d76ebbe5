#include "engine/trainers/utilization.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

namespace hone::engine {
namespace {

/// Best of a few products of size x size matrices; reading a number waits for the GPU.
double measure(int64_t size, const at::TensorOptions& options) {
  using Clock = std::chrono::steady_clock;
  constexpr int kRepeats = 8;
  const at::NoGradGuard no_grad;
  const auto a = at::full({size, size}, 0.5, options);
  double fastest = 1e9;
  for (int i = 0; i < kRepeats; ++i) {
    const auto start = Clock::now();
    const at::Tensor product = at::mm(a, a);
    if (!product.is_cpu()) static_cast<void>(product.select(0, 0).select(0, 0).item<double>());
    fastest = std::min(fastest, std::chrono::duration<double>(Clock::now() - start).count());
  }
  const auto n = static_cast<double>(size);
  return 2.0 * n * n * n / fastest;
}

double measure(at::Device device) {
  if (const char* set = std::getenv("HONE_PEAK_TFLOPS")) {
    const double value = std::strtod(set, nullptr);
    if (value > 0) return value * 1e12;
  }
  if (device.is_cpu()) return measure(768, at::kFloat);
  return measure(8192, at::TensorOptions().dtype(at::kBFloat16).device(device));
}

}  // namespace

double measured_matrix_flops(at::Device device) {
  static const double flops = measure(device);  // a process computes in one place
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

int64_t fitting_tokens(const CausalLM& model) {
  if (!model.parameters().data().is_cpu()) return 0;
  constexpr int64_t kElements = 1 << 18, kLeast = 512;
  return std::max(kLeast, kElements / (2 * model.config().intermediate_size));
}

}  // namespace hone::engine
