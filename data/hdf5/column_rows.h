#pragma once

// Rows of one kind held as the columns that they will be in a file, so that a writer needs little
// memory for a row and sealing copies nothing together.

#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "data/hdf5/io.h"
#include "data/hdf5/schema.h"

namespace hone::data::hdf5 {

/// The type in the file of a scalar field, or of the elements of a text or list.
template <class Field>
struct StoredElement {
  using Type =
      std::conditional_t<std::is_enum_v<Field> || std::is_same_v<Field, bool>, uint8_t, Field>;
};
template <>
struct StoredElement<std::string> {
  using Type = uint8_t;
};
template <class Element>
struct StoredElement<std::vector<Element>> {
  using Type = Element;
};
template <class Field>
using StoredElementOf = typename StoredElement<std::decay_t<Field>>::Type;

template <class Record>
class ColumnRows {
 public:
  void append(const Record& record) {
    std::size_t at = 0;
    Schema<Record>::visit([&](const char*, auto access) {
      if (at == columns_.size()) columns_.emplace_back();
      append_field(access(record), columns_[at++]);
    });
    ++rows_;
  }

  int64_t size() const { return rows_; }

  /// Of values and offsets.
  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const Column& column : columns_) {
      sum += column.values.size() + column.offsets.size() * sizeof(int64_t);
    }
    return sum;
  }

  /// Keeps the memory for the next rows.
  void clear() {
    for (Column& column : columns_) {
      column.values.clear();
      column.offsets.clear();
    }
    rows_ = 0;
  }

  /// The group and its columns; nothing when there are no rows.
  void write(ColumnFileWriter& file) const {
    if (rows_ == 0) return;
    const std::string group = std::string("/") + Schema<Record>::kGroup;
    file.add_group(group);
    const Record blank{};
    std::size_t at = 0;
    Schema<Record>::visit([&](const char* name, auto access) {
      using Field = std::decay_t<decltype(access(blank))>;
      using Stored = StoredElementOf<Field>;
      const Column& column = columns_[at++];
      file.add_column(group + "/" + name,
                      std::span(reinterpret_cast<const Stored*>(column.values.data()),
                                column.values.size() / sizeof(Stored)));
      if constexpr (std::is_class_v<Field>) {
        file.add_column(group + "/" + name + "_offsets", std::span(column.offsets));
      }
    });
  }

 private:
  struct Column {
    std::string values;
    std::vector<int64_t> offsets;  // of texts and lists: rows + 1
  };

  template <class Field>
  static void append_field(const Field& field, Column& column) {
    using Stored = StoredElementOf<Field>;
    if constexpr (std::is_class_v<Field>) {
      if (column.offsets.empty()) column.offsets.push_back(0);
      column.values.append(reinterpret_cast<const char*>(field.data()),
                           field.size() * sizeof(Stored));
      column.offsets.push_back(static_cast<int64_t>(column.values.size() / sizeof(Stored)));
    } else {
      const auto stored = static_cast<Stored>(field);
      column.values.append(reinterpret_cast<const char*>(&stored), sizeof stored);
    }
  }

  std::vector<Column> columns_;  // in the schema's order
  int64_t rows_ = 0;
};

}  // namespace hone::data::hdf5
