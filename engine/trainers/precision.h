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
    "operands of matrix products: float32 | bf16 | auto (bf16 on a GPU and where the CPU has a "
    "matrix unit)";

/// Throws data::InputError.
inline void check_precision(const char* trainer, const std::string& precision,
                            double dropout = 0.0) {
  if (precision != "float32" && precision != "bf16" && precision != "auto") {
    throw data::InputError(trainer, "precision", "one of float32, bf16, auto", precision);
  }
  if (precision == "bf16" && dropout > 0) {
    throw data::InputError(trainer, "precision", "float32 or auto with dropout", precision);
  }
}

/// The models' products in that precision while this lives (CausalLM::set_bfloat16_products), so
/// that what scoring computed is what the first minibatch computes; null pointers are passed over.
/// `auto` with dropout is float32 on the CPU, whose bfloat16 block has none.
class PrecisionScope {
 public:
  PrecisionScope(std::initializer_list<CausalLM*> models, const std::string& precision,
                 double dropout = 0.0)
      : models_(models) {
    for (CausalLM* model : models_) {
      if (!model) continue;
      // The GPU's kernels for bfloat16 take heads of such widths.
      const bool has_unit = model->parameters().data().is_cpu()
                                ? kernels::amx_usable() && dropout == 0.0
                                : model->config().attention_head_dim() % 16 == 0;
      model->set_bfloat16_products(precision == "bf16" || (precision == "auto" && has_unit));
    }
  }
  ~PrecisionScope() {
    for (CausalLM* model : models_) {
      if (model) model->set_bfloat16_products(false);
    }
  }
  PrecisionScope(const PrecisionScope&) = delete;
  PrecisionScope& operator=(const PrecisionScope&) = delete;

 private:
  std::vector<CausalLM*> models_;
};

}  // namespace hone::engine
