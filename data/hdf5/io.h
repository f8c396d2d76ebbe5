#pragma once

// One-dimensional columns and scalar attributes in HDF5 files: written into memory, so that the
// disk sees one plain write; read with every size checked against the file before anything is
// allocated. All types are little-endian and contiguous; nothing is compressed or variable-length.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/error.h"
#include "data/hdf5/handle.h"

namespace hone::data::hdf5 {

/// Damage that can be put down to one column.
class ColumnError : public CorruptError {
 public:
  /// column: dataset path. The message is "<file>: <column>: expected <expected>, got <got>".
  ColumnError(const std::string& file, std::string column, const std::string& expected,
              const std::string& got);
  const std::string& column() const { return column_; }
  /// "expected <expected>, got <got>"
  const std::string& finding() const { return finding_; }

 private:
  std::string column_, finding_;
};

/// Where a column's bytes lie in the file, and their SHA-256.
struct ColumnExtent {
  uint64_t offset = 0, bytes = 0;
  std::string sha256;
};

/// A new file in memory. T is uint8_t, int8_t, int64_t or double.
class ColumnFileWriter {
 public:
  /// `reserved` bytes before the HDF5 data stay for the caller (an HDF5 user block: a power of two
  /// from 512 up).
  explicit ColumnFileWriter(uint64_t reserved);
  ~ColumnFileWriter();
  void add_group(const std::string& path);
  /// Writes the dataset and its attribute "sha256".
  template <class T>
  void add_column(const std::string& path, std::span<const T> values);
  template <class T>
  void add_column(const std::string& path, const std::vector<T>& values) {
    add_column(path, std::span<const T>(values));
  }
  void add_attribute(const std::string& name, const std::string& value);
  void add_attribute(const std::string& name, int64_t value);
  /// The columns so far, by path.
  const std::map<std::string, ColumnExtent>& columns() const { return columns_; }
  /// The whole file, `reserved` zero bytes first. Ends the writer.
  std::string finish();

 private:
  struct Image;
  void write(const std::string& path, hid_t type, const void* values, uint64_t count,
             uint64_t bytes);
  LibraryLock lock_;
  std::unique_ptr<Image> image_;
  File file_;
  std::map<std::string, ColumnExtent> columns_;
};

/// An existing file. Everything throws CorruptError, about a column ColumnError.
class ColumnFileReader {
 public:
  explicit ColumnFileReader(const std::filesystem::path& path);
  std::string text_attribute(const std::string& name) const;
  int64_t integer_attribute(const std::string& name) const;
  bool has(const std::string& path) const;
  /// The whole column, its stored SHA-256 not compared.
  template <class T>
  std::vector<T> read(const std::string& path) const;
  /// The attribute "sha256" of a column.
  std::string stored_digest(const std::string& path) const;
  /// Paths of all datasets and of what is neither a dataset nor a top-level group, sorted.
  std::vector<std::string> leaves() const;
  uint64_t bytes() const { return bytes_; }
  const std::string& name() const { return name_; }

 private:
  Dataset open_column(const std::string& path) const;
  uint64_t checked_count(const std::string& path, const Dataset& dataset, hid_t type) const;
  LibraryLock lock_;
  std::string name_;
  uint64_t bytes_ = 0;
  File file_;
};

/// SHA-256 of a column's values as stored.
template <class T>
std::string column_digest(const std::vector<T>& values);

}  // namespace hone::data::hdf5
