#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace hone::engine {

/// One line on a command line that could not be read: which verb, what was not understood and the
/// nearest name that would be, or what is missing; then where help is. `app` is the application
/// whose parse threw `error`.
std::string usage_error(const CLI::App& app, const CLI::ParseError& error);

}  // namespace hone::engine
