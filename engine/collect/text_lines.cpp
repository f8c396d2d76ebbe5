#include "engine/collect/text_lines.h"

#include <fstream>

#include "data/error.h"

namespace hone::engine {

void for_each_text_line(const std::filesystem::path& path,
                        const std::function<void(const std::string&, const std::string&)>& line) {
  std::ifstream file(path);
  if (!file) throw data::InputError(path.string(), "file", "one that can be read", "none");
  std::string text;
  for (int64_t number = 1; std::getline(file, text); ++number) {
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    line(text, path.string() + ":" + std::to_string(number));
  }
}

}  // namespace hone::engine
