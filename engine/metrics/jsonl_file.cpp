#include "engine/metrics/jsonl_file.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

namespace hone::engine {

JsonlFile::JsonlFile(const std::filesystem::path& path) : file_(path) {
  file_.cut_after_last('\n');
}

void JsonlFile::write(const std::string& stage, int64_t step, double time, double seconds,
                      const MetricValues& values) {
  using Json = nlohmann::ordered_json;
  // Milliseconds and microseconds are what the clocks are worth; more digits are noise in the file.
  Json object = {{"stage", stage},
                 {"step", step},
                 {"time", std::round(time * 1e3) / 1e3},
                 {"seconds", std::round(seconds * 1e6) / 1e6}};
  for (const auto& [name, value] : values) {
    object[name] = std::isfinite(value) ? Json(value) : Json(nullptr);
  }
  file_.append(object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

bool JsonlFile::rewind(uint64_t size, const std::set<std::string>& kept) {
  std::istringstream lines(file_.tail(size));
  std::string others;
  for (std::string line; std::getline(lines, line);) {
    const auto object = nlohmann::json::parse(line, nullptr, false);
    if (object.is_object() && kept.count(object.value("stage", "")) > 0) others += line + "\n";
  }
  file_.cut_to(size);
  if (!others.empty()) file_.append(others);
  return others.empty();
}

}  // namespace hone::engine
