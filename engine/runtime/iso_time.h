#pragma once

#include <string>

namespace hone::engine {

/// Now, as 2026-01-31T12:00:00Z.
std::string iso_time();

}  // namespace hone::engine
