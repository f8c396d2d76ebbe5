#pragma once

// The options --dtype and --device of commands that load a model.

#include <c10/core/ScalarType.h>

#include <string>

#include "engine/runtime/device.h"

namespace CLI {
class App;
}

namespace hone::engine {

/// Adds --dtype; only names that weight_type() knows pass.
void add_weight_type_option(CLI::App& command, std::string& name);
at::ScalarType weight_type(const std::string& name);

/// Adds --device, as find_device() takes it.
void add_device_option(CLI::App& command, std::string& name);

}  // namespace hone::engine
