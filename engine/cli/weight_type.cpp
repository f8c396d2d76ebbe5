#include "engine/cli/weight_type.h"

#include <CLI/CLI.hpp>

#include "data/error.h"

namespace hone::engine {

void add_weight_type_option(CLI::App& command, std::string& name) {
  command
      .add_option("--dtype", name,
                  "Type of the weights in memory: float32, bfloat16 (products in it as well) or"
                  " float16 (widened to float32 for each product)")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}))
      ->capture_default_str();
}

void add_device_option(CLI::App& command, std::string& name) {
  command.add_option("--device", name, kDeviceHelp)
      ->check(CLI::IsMember({"cpu", "cuda", "auto"}))
      ->capture_default_str();
}

at::ScalarType weight_type(const std::string& name) {
  if (name == "float32") return at::kFloat;
  if (name == "bfloat16") return at::kBFloat16;
  if (name == "float16") return at::kHalf;
  throw data::InputError("--dtype", "type", "float32, bfloat16 or float16", "'" + name + "'");
}

}  // namespace hone::engine
