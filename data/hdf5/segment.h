#pragma once

// One segment as a file: preamble, HDF5, list of columns (data/FORMAT.md).

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/hdf5/column_rows.h"
#include "data/hdf5/preamble.h"
#include "data/store.h"

namespace hone::data::hdf5 {

/// The kinds of records, once: calls visit(rows of the kind, its count in a header) for each.
/// `AnyRecords` is Records or RecordColumns, const or not.
template <class AnyRecords, class Visitor>
void visit_kinds(AnyRecords& records, Visitor&& visit) {
  visit(records.items, &SegmentHeader::items);
  visit(records.ratings, &SegmentHeader::ratings);
  visit(records.comparisons, &SegmentHeader::comparisons);
  visit(records.demonstrations, &SegmentHeader::demonstrations);
  visit(records.answers, &SegmentHeader::answers);
  visit(records.corrections, &SegmentHeader::corrections);
  visit(records.spans, &SegmentHeader::spans);
  visit(records.steps, &SegmentHeader::steps);
  visit(records.reviews, &SegmentHeader::reviews);
  visit(records.flags, &SegmentHeader::flags);
}

/// Records to come, as columns.
struct RecordColumns {
  ColumnRows<Item> items;
  ColumnRows<Rating> ratings;
  ColumnRows<Comparison> comparisons;
  ColumnRows<Demonstration> demonstrations;
  ColumnRows<Answer> answers;
  ColumnRows<Correction> corrections;
  ColumnRows<Span> spans;
  ColumnRows<Step> steps;
  ColumnRows<Review> reviews;
  ColumnRows<Flag> flags;
};

/// The file's bytes. Item indices in `records` are store-wide.
std::string encode_segment(const RecordColumns& records, int64_t items_before,
                           const std::string& created);
std::string encode_segment(const Records& records, int64_t items_before,
                           const std::string& created);

/// The last step of it: attributes from `header`, preamble and list of columns around `file`.
std::string finish_segment(ColumnFileWriter& file, const SegmentHeader& header);

/// Appends the segment's records, in order, to `records`, whose items must be all earlier items.
/// Throws CorruptError when the file's digest does not match (naming the column whose own digest
/// does not, if there is one) or a column cannot be what the schema says.
SegmentHeader read_segment(const std::filesystem::path& path, Records& records);

/// The same, but goes on and appends each finding; rows of columns that cannot be read keep their
/// defaults. Every column's digest is computed.
void verify_segment(const std::filesystem::path& path, Records& records,
                    std::vector<VerifyProblem>& problems);

}  // namespace hone::data::hdf5
