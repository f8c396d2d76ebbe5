#include "experiments/bench/bench_model.h"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include "engine/runtime/device.h"

namespace hone::engine {

int64_t size_of(const char* name, int64_t otherwise) {
  const char* value = std::getenv((std::string("HONE_BENCH_") + name).c_str());
  return value ? std::atoll(value) : otherwise;
}

at::Device bench_device() {
  const char* place = std::getenv("HONE_BENCH_DEVICE");
  return find_device("HONE_BENCH_DEVICE", place ? place : "cpu");
}

std::unique_ptr<CausalLM> bench_model(const std::string& from, at::Device device) {
  if (!from.starts_with("random:")) {
    return load_model(from, HeadKind::kLanguageModel, at::kFloat, device);
  }
  ModelConfig config;
  long long h = 0, layers = 0, heads = 0, kv = 0, f = 0, v = 0;
  if (std::sscanf(from.c_str(), "random:%lld,%lld,%lld,%lld,%lld,%lld", &h, &layers, &heads, &kv,
                  &f, &v) != 6) {
    throw std::runtime_error("HONE_BENCH_MODEL: expected random:H,L,heads,kv_heads,F,V, got " +
                             from);
  }
  config.hidden_size = h;
  config.layers = layers;
  config.heads = heads;
  config.kv_heads = kv;
  config.head_dim = h / heads;
  config.intermediate_size = f;
  config.vocab_size = v;
  config.max_positions = 8192;
  auto model = std::make_unique<CausalLM>(config, HeadKind::kLanguageModel, at::kFloat, device);
  model->initialize(0);
  return model;
}

}  // namespace hone::engine
