#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace hone::engine {

/// A value of a foreign file as an error message shows it: one line of ASCII, cut after 100
/// characters.
inline std::string shown_json(const nlohmann::json& value) {
  constexpr size_t kLimit = 100;
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true);
  if (text.size() > kLimit) text.replace(kLimit, std::string::npos, "...");
  return text;
}

}  // namespace hone::engine
