#pragma once

#include <string>
#include <vector>

namespace hone::engine {

/// The name with the smallest edit distance to `name`, or empty when none is within a third of its
/// length (at least 2).
std::string nearest_name(const std::string& name, const std::vector<std::string>& names);

}  // namespace hone::engine
