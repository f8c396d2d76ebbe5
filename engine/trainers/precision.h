#pragma once

// The option `precision` of every trainer.

#include <initializer_list>
#include <string>
#include <vector>

#include "data/error.h"
#include "engine/models/causal_lm.h"
#include "kernels/cpu/amx.h"

namespace hone::engine {

constexpr const char* kPrecisionHelp =
    "operands of matrix products: float32 | bf16 | auto (bf16 where the CPU has a matrix unit)";

/// Throws data::InputError.
inline void check_precision(const char* trainer, const std::string& precision,
                            double dropout = 0.0) {
  if (precision != "float32" && precision != "bf16" && precision != "auto") {
    throw data::InputError(trainer, "precision", "one of float32, bf16, auto", precision);
  }
  if (precision != "float32" && dropout > 0) {
    throw data::InputError(trainer, "precision", "float32 with dropout", precision);
  }
}

/// The models' products in that precision while this lives (CausalLM::set_bfloat16_products), so
/// that what scoring computed is what the first minibatch computes; null pointers are passed over.
class PrecisionScope {
 public:
  PrecisionScope(std::initializer_list<CausalLM*> models, const std::string& precision)
      : models_(models) {
    set(precision == "bf16" || (precision == "auto" && kernels::amx_usable()));
  }
  ~PrecisionScope() { set(false); }
  PrecisionScope(const PrecisionScope&) = delete;
  PrecisionScope& operator=(const PrecisionScope&) = delete;

 private:
  void set(bool bfloat16) {
    for (CausalLM* model : models_) {
      if (model) model->set_bfloat16_products(bfloat16);
    }
  }
  std::vector<CausalLM*> models_;
};

}  // namespace hone::engine
