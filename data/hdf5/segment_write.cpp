#include "data/hdf5/io.h"
#include "data/hdf5/preamble.h"
#include "data/hdf5/schema.h"
#include "data/hdf5/segment.h"

namespace hone::data::hdf5 {

std::string finish_segment(ColumnFileWriter& file, const SegmentHeader& header) {
  file.add_attribute("format", kSegmentFormat);
  file.add_attribute("version", header.version);
  file.add_attribute("created", header.created);
  for (const auto& [name, count] : header_counts(header.version))
    file.add_attribute(name, header.*count);
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
  const int64_t newer = header.answers + header.corrections + header.spans + header.steps +
                        header.reviews + header.flags;
  header.version = newer > 0 ? kSegmentVersion : kFirstSegmentVersion;
  header.items_before = items_before;
  header.created = created;
  return finish_segment(file, header);
}

std::string encode_segment(const Records& records, int64_t items_before,
                           const std::string& created) {
  RecordColumns columns;
  const auto append = [](const auto& rows, auto& kind) {
    for (const auto& row : rows) kind.append(row);
  };
  append(records.items, columns.items);
  append(records.ratings, columns.ratings);
  append(records.comparisons, columns.comparisons);
  append(records.demonstrations, columns.demonstrations);
  append(records.answers, columns.answers);
  append(records.corrections, columns.corrections);
  append(records.spans, columns.spans);
  append(records.steps, columns.steps);
  append(records.reviews, columns.reviews);
  append(records.flags, columns.flags);
  return encode_segment(columns, items_before, created);
}

}  // namespace hone::data::hdf5
