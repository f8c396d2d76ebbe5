#pragma once

// Tab-separated lines whose columns are known by position, or by name when the first line names
// them.

#include <string>
#include <string_view>
#include <vector>

namespace hone::data {

struct TsvColumn {
  std::string name;
  std::vector<std::string> aliases;  // other names in a header
  bool required = true;              // optional ones come last
};

class TsvTable {
 public:
  explicit TsvTable(std::vector<TsvColumn> columns) : columns_(std::move(columns)) {}

  /// Splits the line. True when it is the first one and a header: it names every required column,
  /// in any order; columns of other names are then ignored. Throws LineError when the number of
  /// cells is wrong.
  bool take(std::string_view line);
  /// Takes the line only if it is a header.
  bool take_header(std::string_view line);
  /// Cell of columns[index]; empty when that optional column is not there.
  std::string_view cell(std::size_t index) const;

 private:
  void split(std::string_view line);
  bool read_header();
  std::vector<TsvColumn> columns_;
  std::vector<std::string_view> cells_;
  std::vector<std::size_t> places_;  // per column: index of its cell, or kNowhere
  std::size_t header_cells_ = 0;     // 0: by position
  bool first_ = true;
};

}  // namespace hone::data
