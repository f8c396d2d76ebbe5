#include "engine/cli/inspect_text.h"

#include <algorithm>
#include <cstdio>
#include <iterator>

namespace hone::engine {

std::string bytes_text(uint64_t bytes) {
  const char* const units[] = {"B", "kB", "MB", "GB", "TB"};
  auto size = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; size >= 1000 && unit + 1 < std::size(units); ++unit) size /= 1000;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", size, units[unit]);
  return text;
}

std::string labelled(const std::string& label, const std::string& value) {
  constexpr std::size_t kLabelColumns = 17;
  std::string text = label;
  text.resize(std::max(kLabelColumns, label.size() + 1), ' ');
  return text + value + "\n";
}

}  // namespace hone::engine
