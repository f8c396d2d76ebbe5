#include "experiments/experiment.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace hone::experiments {

bool ExperimentResult::passed() const {
  return std::all_of(rows.begin(), rows.end(), [](const auto& row) { return row.passed; });
}

std::string ExperimentResult::table() const {
  size_t width = 7;
  for (const auto& row : rows) width = std::max(width, row.name.size());
  char cell[256];
  std::snprintf(cell, sizeof(cell), "%-*s", static_cast<int>(width), "variant");
  std::string text = cell;
  for (const auto& column : columns) {
    std::snprintf(cell, sizeof(cell), " %10s", column.c_str());
    text += cell;
  }
  text += "  pass line\n";
  for (const auto& row : rows) {
    std::snprintf(cell, sizeof(cell), "%-*s", static_cast<int>(width), row.name.c_str());
    text += cell;
    for (const double figure : row.figures) {
      if (std::isnan(figure)) {
        std::snprintf(cell, sizeof(cell), " %10s", "-");
      } else {
        std::snprintf(cell, sizeof(cell),
                      figure != 0 && std::abs(figure) < 5e-4 ? " %10.1e" : " %10.3f", figure);
      }
      text += cell;
    }
    text += "  " + (row.expected.empty() ? std::string("shown only")
                                         : row.expected + (row.passed ? ": passed" : ": FAILED"));
    text += "\n";
  }
  return text + "\n" + reading + "\n";
}

nlohmann::json ExperimentResult::json() const {
  nlohmann::json rows_json = nlohmann::json::array();
  for (const auto& row : rows) {
    nlohmann::json object = {
        {"variant", row.name}, {"expected", row.expected}, {"passed", row.passed}};
    for (size_t c = 0; c < columns.size(); ++c) object[columns[c]] = row.figures[c];
    rows_json.push_back(std::move(object));
  }
  return {{"experiment", name}, {"passed", passed()}, {"reading", reading}, {"rows", rows_json}};
}

}  // namespace hone::experiments
