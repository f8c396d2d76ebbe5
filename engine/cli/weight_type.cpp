#include "engine/cli/weight_type.h"

#include <CLI/CLI.hpp>

#include "data/error.h"

namespace hone::engine {

void add_weight_type_option(CLI::App& command, std::string& name) {
  command
      .add_option("--dtype", name,
                  "Type of the weights in memory and of the arithmetic: float32 or bfloat16")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
}

at::ScalarType weight_type(const std::string& name) {
  if (name == "float32") return at::kFloat;
  if (name == "bfloat16") return at::kBFloat16;
  throw data::InputError("--dtype", "type", "float32 or bfloat16", "'" + name + "'");
}

}  // namespace hone::engine
