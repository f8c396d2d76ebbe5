#include "data/hdf5/io.h"
#include "data/hdf5/preamble.h"
#include "data/hdf5/schema.h"
#include "data/hdf5/segment.h"

namespace hone::data::hdf5 {

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

std::string encode_segment(const RecordColumns& records, int64_t items_before,
                           const std::string& created) {
  ColumnFileWriter file(kPreambleBytes);
  SegmentHeader header;
  visit_kinds(records, [&](const auto& rows, int64_t SegmentHeader::*count) {
    rows.write(file);
    header.*count = rows.size();
  });
  header.items_before = items_before;
  header.created = created;
  return finish_segment(file, header);
}

std::string encode_segment(const Records& records, int64_t items_before,
                           const std::string& created) {
  RecordColumns columns;
  for (const Item& item : records.items) columns.items.append(item);
  for (const Rating& rating : records.ratings) columns.ratings.append(rating);
  for (const Comparison& comparison : records.comparisons) columns.comparisons.append(comparison);
  for (const Demonstration& one : records.demonstrations) columns.demonstrations.append(one);
  return encode_segment(columns, items_before, created);
}

}  // namespace hone::data::hdf5
