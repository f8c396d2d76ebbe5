#include "engine/plan/hardware.h"

#include "data/error.h"

namespace hone::engine {
namespace {
constexpr double kGB = 1e9, kTera = 1e12;
}

// Peaks: NVIDIA's data sheets of the SXM boards (A100 80GB 2021, H100 2023, H200 2024, HGX B200
// 2025), bfloat16 on tensor cores without sparsity; NVLink half of the bidirectional figure;
// network: one port for each GPU as in DGX A100 (HDR 200 Gb/s), DGX H100 and H200 (NDR 400 Gb/s),
// DGX B200 (NDR).
const std::vector<Hardware>& known_hardware() {
  static const std::vector<Hardware> table = {
      {"a100", 80 * kGB, 312 * kTera, 2039 * kGB, 8, 300 * kGB, 25 * kGB,
       "NVIDIA A100 80GB SXM data sheet"},
      {"h100", 80 * kGB, 989 * kTera, 3350 * kGB, 8, 450 * kGB, 50 * kGB,
       "NVIDIA H100 SXM data sheet"},
      {"h200", 141 * kGB, 989 * kTera, 4800 * kGB, 8, 450 * kGB, 50 * kGB,
       "NVIDIA H200 SXM data sheet"},
      {"b200", 180 * kGB, 2250 * kTera, 7700 * kGB, 8, 900 * kGB, 50 * kGB,
       "NVIDIA HGX B200 data sheet"},
      // One rank with both cores; ranks of one machine share its memory and speak over loopback.
      {"cpu2", 24 * kGB, 0.265 * kTera, 20 * kGB, 1, 2 * kGB, 2 * kGB,
       "float32 GEMM measured on two AVX-512 cores (experiments/recipes/quickstart.toml)"}};
  return table;
}

const Hardware& find_hardware(const std::string& name) {
  std::string names;
  for (const auto& hardware : known_hardware()) {
    if (name == hardware.name) return hardware;
    names += (names.empty() ? "" : ", ") + std::string(hardware.name);
  }
  throw data::InputError("hone plan", "--gpu", "one of " + names, "'" + name + "'");
}

// 0.40: Llama 3 405B trained at 38-43 % of the H100's bfloat16 peak on 8,192-16,384 GPUs
// (arXiv:2407.21783, table 4); PaLM 540B at 46 % (arXiv:2204.02311, table 3). cpu2: 0.70, between
// what the quickstart's stages reach of its GEMM peak (experiments/results/plan_quickstart.json).
Efficiency efficiency_of(const Hardware& hardware) {
  Efficiency efficiency;
  if (std::string(hardware.name) == "cpu2") efficiency.training = 0.70;
  return efficiency;
}

}  // namespace hone::engine
