#include "data/importers/tsv.h"

#include <algorithm>
#include <utility>

#include "data/importers/line_error.h"

namespace hone::data {
namespace {

constexpr std::size_t kNowhere = static_cast<std::size_t>(-1);

}  // namespace

void TsvTable::split(std::string_view line) {
  cells_.clear();
  for (;;) {
    const std::size_t tab = line.find('\t');
    cells_.push_back(line.substr(0, tab));
    if (tab == std::string_view::npos) break;
    line.remove_prefix(tab + 1);
  }
}

bool TsvTable::take_header(std::string_view line) {
  split(line);
  if (!read_header()) return false;
  first_ = false;
  return true;
}

bool TsvTable::take(std::string_view line) {
  split(line);
  if (std::exchange(first_, false)) {
    if (read_header()) return true;
    places_.clear();
    for (std::size_t i = 0; i < columns_.size(); ++i) places_.push_back(i);
  }
  const auto required = static_cast<std::size_t>(
      std::count_if(columns_.begin(), columns_.end(), [](const auto& c) { return c.required; }));
  const std::size_t least = header_cells_ > 0 ? header_cells_ : required;
  const std::size_t most = header_cells_ > 0 ? header_cells_ : columns_.size();
  if (cells_.size() < least || cells_.size() > most) {
    const std::string range = least == most ? std::to_string(least)
                                            : std::to_string(least) + " to " + std::to_string(most);
    throw LineError("columns", range + " separated by tabs", std::to_string(cells_.size()));
  }
  return false;
}

bool TsvTable::read_header() {
  places_.clear();
  for (const TsvColumn& column : columns_) {
    auto found = std::find(cells_.begin(), cells_.end(), column.name);
    for (const std::string& alias : column.aliases) {
      if (found == cells_.end()) found = std::find(cells_.begin(), cells_.end(), alias);
    }
    if (found == cells_.end() && column.required) return false;
    places_.push_back(found == cells_.end() ? kNowhere
                                            : static_cast<std::size_t>(found - cells_.begin()));
  }
  header_cells_ = cells_.size();
  return true;
}

std::string_view TsvTable::cell(std::size_t index) const {
  const std::size_t place = places_[index];
  return place < cells_.size() ? cells_[place] : std::string_view{};
}

}  // namespace hone::data
