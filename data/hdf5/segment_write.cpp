#include <type_traits>

#include "data/hdf5/io.h"
#include "data/hdf5/preamble.h"
#include "data/hdf5/schema.h"
#include "data/hdf5/segment.h"

namespace hone::data::hdf5 {
namespace {

/// Schema visitor: gathers one field of all rows and writes it as one column, or as blob + offsets.
template <class Record>
class RowWriter {
 public:
  RowWriter(ColumnFileWriter& file, const std::vector<Record>& rows) : file_(file), rows_(rows) {}

  template <class Access>
  void operator()(const std::string& name, Access access) {
    const std::string path = std::string("/") + Schema<Record>::kGroup + "/" + name;
    using Field = std::decay_t<decltype(access(rows_.front()))>;
    if constexpr (std::is_same_v<Field, std::string>) {
      write_lists<uint8_t>(path, access);
    } else if constexpr (std::is_class_v<Field>) {
      write_lists<typename Field::value_type>(path, access);
    } else if constexpr (std::is_enum_v<Field> || std::is_same_v<Field, bool>) {
      write_scalars<uint8_t>(path, access);
    } else {
      write_scalars<Field>(path, access);
    }
  }

 private:
  template <class Stored, class Access>
  void write_scalars(const std::string& path, Access access) {
    std::vector<Stored> values;
    values.reserve(rows_.size());
    for (const Record& row : rows_) values.push_back(static_cast<Stored>(access(row)));
    file_.add_column(path, values);
  }

  template <class Stored, class Access>
  void write_lists(const std::string& path, Access access) {
    std::vector<int64_t> offsets{0};
    offsets.reserve(rows_.size() + 1);
    for (const Record& row : rows_) {
      offsets.push_back(offsets.back() + static_cast<int64_t>(access(row).size()));
    }
    std::vector<Stored> blob;
    blob.reserve(static_cast<std::size_t>(offsets.back()));
    for (const Record& row : rows_) {
      blob.insert(blob.end(), access(row).begin(), access(row).end());
    }
    file_.add_column(path, blob);
    file_.add_column(path + "_offsets", offsets);
  }

  ColumnFileWriter& file_;
  const std::vector<Record>& rows_;
};

template <class Record>
void write_rows(ColumnFileWriter& file, const std::vector<Record>& rows) {
  if (rows.empty()) return;
  file.add_group(std::string("/") + Schema<Record>::kGroup);
  Schema<Record>::visit(RowWriter<Record>(file, rows));
}

}  // namespace

std::string finish_segment(ColumnFileWriter& file, const SegmentHeader& header) {
  file.add_attribute("format", kSegmentFormat);
  file.add_attribute("version", kSegmentVersion);
  file.add_attribute("created", header.created);
  for (const auto& [name, count] : header_counts()) file.add_attribute(name, header.*count);
  const std::map<std::string, ColumnExtent> columns = file.columns();
  file.add_attribute("sha256", digest_of_columns(columns));
  std::string image = file.finish();
  wrap_segment(image, header, columns);
  return image;
}

std::string encode_segment(const Records& records, int64_t items_before,
                           const std::string& created) {
  ColumnFileWriter file(kPreambleBytes);
  write_rows(file, records.items);
  write_rows(file, records.ratings);
  write_rows(file, records.comparisons);
  write_rows(file, records.demonstrations);
  SegmentHeader header;
  header.items = static_cast<int64_t>(records.items.size());
  header.ratings = static_cast<int64_t>(records.ratings.size());
  header.comparisons = static_cast<int64_t>(records.comparisons.size());
  header.demonstrations = static_cast<int64_t>(records.demonstrations.size());
  header.items_before = items_before;
  header.created = created;
  return finish_segment(file, header);
}

}  // namespace hone::data::hdf5
