#pragma once

// A segment's columns where they lie: the file is mapped, its checksums are compared once, and a
// column is then a pointer. Everything is checked that could lead outside the file; HDF5's library
// is not asked.

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/hdf5/column_rows.h"
#include "data/hdf5/preamble.h"
#include "data/mapped_file.h"

namespace hone::data::hdf5 {

enum class Check {
  kChecksums,  // SHA-256 of the whole file, once: about 2 GB/s
  kNone,       // for files that this process has just checked or written
};

template <class Record>
class Rows;

class SegmentView {
 public:
  /// Throws CorruptError as read_segment does.
  explicit SegmentView(const std::filesystem::path& path, Check check = Check::kChecksums);
  /// Of a segment in memory; `name` stands in messages.
  SegmentView(std::string image, const std::string& name);

  const SegmentHeader& header() const { return header_; }
  const std::string& name() const { return name_; }
  bool has(const std::string& path) const { return columns_.count(path) != 0; }
  /// Throws ColumnError when there is no such column, or it is no whole number of T.
  template <class T>
  std::span<const T> column(const std::string& path) const;
  /// All rows of a kind, every column checked against the schema. Throws ColumnError.
  template <class Record>
  Rows<Record> rows(int64_t count) const;
  std::string_view bytes() const { return image_.empty() ? file_.bytes() : image_; }

 private:
  void open(Check check);
  std::string_view raw(const std::string& path) const;
  const char* aligned(const std::string& path, std::string_view bytes) const;

  MappedFile file_;
  std::string image_, name_;
  SegmentHeader header_;
  std::map<std::string, ColumnExtent> columns_;
  // Copies of columns that do not begin where their type may: those of a few rows, and of segments
  // that were written before columns were aligned.
  mutable std::map<std::string, std::vector<uint64_t>> copies_;
};

template <class T>
std::span<const T> SegmentView::column(const std::string& path) const {
  const std::string_view bytes = raw(path);
  if (bytes.size() % sizeof(T) != 0) {
    throw ColumnError(name_, path, "whole values of " + std::to_string(sizeof(T)) + " bytes",
                      std::to_string(bytes.size()) + " bytes");
  }
  const char* at = bytes.data();
  if (reinterpret_cast<uintptr_t>(at) % alignof(T) != 0) at = aligned(path, bytes);
  return {reinterpret_cast<const T*>(at), bytes.size() / sizeof(T)};
}

/// Rows of one kind in a SegmentView, which must outlive it.
template <class Record>
class Rows {
 public:
  Rows() = default;
  Rows(const SegmentView& view, int64_t count);

  int64_t size() const { return count_; }
  /// Every field.
  void read(int64_t row, Record& record) const;
  /// Number of a field in the schema, for the three below.
  static std::size_t column(std::string_view field);
  std::string_view text(std::size_t column, int64_t row) const {
    const Column& one = columns_[column];
    return {one.values + one.offsets[row],
            static_cast<std::size_t>(one.offsets[row + 1] - one.offsets[row])};
  }
  template <class T>
  T value(std::size_t column, int64_t row) const {
    return reinterpret_cast<const T*>(columns_[column].values)[row];
  }
  template <class T>
  std::span<const T> list(std::size_t column, int64_t row) const {
    const Column& one = columns_[column];
    return {reinterpret_cast<const T*>(one.values) + one.offsets[row],
            static_cast<std::size_t>(one.offsets[row + 1] - one.offsets[row])};
  }
  /// All values of a text or list one after the other: empty when no row has any.
  bool is_empty(std::size_t column) const {
    return count_ == 0 || columns_[column].offsets[count_] == 0;
  }

 private:
  struct Column {
    const char* values = nullptr;
    const int64_t* offsets = nullptr;
  };
  std::vector<Column> columns_;
  int64_t count_ = 0;
};

/// Throws ColumnError unless `offsets` are rows + 1, from 0 to `end` and rising.
void check_offsets(const std::string& file, const std::string& path,
                   std::span<const int64_t> offsets, int64_t rows, int64_t end);
/// Throws ColumnError unless all are at most `largest`.
void check_bytes(const std::string& file, const std::string& path, std::span<const uint8_t> values,
                 uint8_t largest);

template <class Record>
Rows<Record>::Rows(const SegmentView& view, int64_t count) : count_(count) {
  if (count == 0) return;
  const Record blank{};
  Schema<Record>::visit([&](const char* name, auto access) {
    using Field = std::decay_t<decltype(access(blank))>;
    using Stored = StoredElementOf<Field>;
    const std::string path = std::string("/") + Schema<Record>::kGroup + "/" + name;
    const auto values = view.column<Stored>(path);
    Column column{reinterpret_cast<const char*>(values.data()), nullptr};
    if constexpr (std::is_class_v<Field>) {
      const auto offsets = view.column<int64_t>(path + "_offsets");
      check_offsets(view.name(), path + "_offsets", offsets, count,
                    static_cast<int64_t>(values.size()));
      column.offsets = offsets.data();
    } else {
      if (static_cast<int64_t>(values.size()) != count) {
        throw ColumnError(view.name(), path, std::to_string(count) + " values",
                          std::to_string(values.size()) + " values");
      }
      // Split and Outcome have three values each.
      if constexpr (std::is_enum_v<Field>) check_bytes(view.name(), path, values, 2);
      if constexpr (std::is_same_v<Field, bool>) check_bytes(view.name(), path, values, 1);
    }
    columns_.push_back(column);
  });
}

template <class Record>
void Rows<Record>::read(int64_t row, Record& record) const {
  std::size_t at = 0;
  Schema<Record>::visit([&](const char*, auto access) {
    auto& field = access(record);
    using Field = std::decay_t<decltype(field)>;
    using Stored = StoredElementOf<Field>;
    const std::size_t column = at++;
    if constexpr (std::is_class_v<Field>) {
      const auto values = list<Stored>(column, row);
      if constexpr (std::is_same_v<Field, std::string>) {
        field.assign(reinterpret_cast<const char*>(values.data()), values.size());
      } else {
        field.assign(values.begin(), values.end());
      }
    } else {
      field = static_cast<Field>(value<Stored>(column, row));
    }
  });
}

template <class Record>
std::size_t Rows<Record>::column(std::string_view field) {
  std::size_t at = 0, found = static_cast<std::size_t>(-1);
  Schema<Record>::visit([&](const char* name, auto) {
    if (field == name) found = at;
    ++at;
  });
  return found;
}

template <class Record>
Rows<Record> SegmentView::rows(int64_t count) const {
  return Rows<Record>(*this, count);
}

}  // namespace hone::data::hdf5
