#include <type_traits>

#include "data/atomic_file.h"
#include "data/hdf5/io.h"
#include "data/hdf5/schema.h"
#include "data/hdf5/segment.h"

namespace hone::data::hdf5 {
namespace {

/// HDF5's own copy of the header must say what the preamble says.
void check_header(const ColumnFileReader& file, const SegmentHeader& header) {
  const auto require = [&](const char* name, const std::string& expected, const std::string& got) {
    if (expected != got) {
      throw CorruptError(file.name(), std::string("attribute ") + name, expected, got);
    }
  };
  require("format", kSegmentFormat, file.text_attribute("format"));
  require("version", std::to_string(header.version),
          std::to_string(file.integer_attribute("version")));
  require("created", header.created, file.text_attribute("created"));
  require("sha256", header.digest, file.text_attribute("sha256"));
  for (const auto& [name, count] : header_counts(header.version)) {
    require(name, std::to_string(header.*count), std::to_string(file.integer_attribute(name)));
  }
}

/// Schema visitor: the least number of bytes a row takes in the file.
struct RowWidth {
  uint64_t& bytes;
  template <class Record, class Access>
  void add(Record& record, Access access) {
    using Field = std::decay_t<decltype(access(record))>;
    bytes += std::is_class_v<Field> ? sizeof(int64_t) : sizeof(Field);
  }
};

/// Schema visitor: reads one column into the rows. With `problems`, computes its digest and keeps
/// going after damage; else throws ColumnError.
template <class Record>
class RowReader {
 public:
  RowReader(const ColumnFileReader& file, Record* rows, std::size_t count,
            std::vector<VerifyProblem>* problems, std::map<std::string, ColumnExtent>& digests)
      : file_(file), rows_(rows), count_(count), problems_(problems), digests_(digests) {}

  template <class Access>
  void operator()(const std::string& name, Access access) {
    const std::string path = std::string("/") + Schema<Record>::kGroup + "/" + name;
    using Field = std::decay_t<decltype(access(*rows_))>;
    try {
      if constexpr (std::is_same_v<Field, std::string>) {
        read_lists<uint8_t>(path, access);
      } else if constexpr (std::is_class_v<Field>) {
        read_lists<typename Field::value_type>(path, access);
      } else {
        read_scalars(path, access);
      }
    } catch (const ColumnError& error) {
      report(error);
    }
  }

 private:
  void report(const ColumnError& error) {
    if (problems_ == nullptr) throw error;
    problems_->push_back({"", error.column(), error.finding()});
  }

  template <class Stored>
  std::vector<Stored> read(const std::string& path) {
    std::vector<Stored> values = file_.read<Stored>(path);
    if (problems_ != nullptr) {
      const std::string digest = column_digest(values);
      digests_[path].sha256 = digest;
      const std::string stored = file_.stored_digest(path);
      if (digest != stored) {
        problems_->push_back({"", path, "expected SHA-256 " + stored + ", got " + digest});
      }
    }
    return values;
  }

  static std::string rows_text(std::size_t count) { return std::to_string(count) + " values"; }

  template <class Access>
  void read_scalars(const std::string& path, Access access) {
    using Field = std::decay_t<decltype(access(*rows_))>;
    constexpr bool kIsEnum = std::is_enum_v<Field>;
    constexpr bool kIsByte = kIsEnum || std::is_same_v<Field, bool>;
    using Stored = std::conditional_t<kIsByte, uint8_t, Field>;
    const std::vector<Stored> values = read<Stored>(path);
    if (values.size() != count_) {
      throw ColumnError(file_.name(), path, rows_text(count_), rows_text(values.size()));
    }
    for (std::size_t i = 0; i < count_; ++i) {
      if constexpr (kIsByte) {
        constexpr int kLargest = kIsEnum ? 2 : 1;  // Split and Outcome have three values each
        if (values[i] > kLargest) {
          throw ColumnError(file_.name(), path, "at most " + std::to_string(kLargest),
                            std::to_string(values[i]) + " in row " + std::to_string(i));
        }
      }
      access(rows_[i]) = static_cast<Field>(values[i]);
    }
  }

  template <class Stored, class Access>
  void read_lists(const std::string& path, Access access) {
    const std::string offsets_path = path + "_offsets";
    const std::vector<Stored> blob = read<Stored>(path);
    const std::vector<int64_t> offsets = read<int64_t>(offsets_path);
    if (offsets.size() != count_ + 1) {
      throw ColumnError(file_.name(), offsets_path, rows_text(count_ + 1),
                        rows_text(offsets.size()));
    }
    const auto end = static_cast<int64_t>(blob.size());
    if (offsets.front() != 0 || offsets.back() != end) {
      throw ColumnError(file_.name(), offsets_path, "0 to " + std::to_string(end),
                        std::to_string(offsets.front()) + " to " + std::to_string(offsets.back()));
    }
    for (std::size_t i = 0; i < count_; ++i) {
      if (offsets[i] > offsets[i + 1] || offsets[i + 1] > end) {
        throw ColumnError(file_.name(), offsets_path, "rising offsets",
                          std::to_string(offsets[i + 1]) + " after " + std::to_string(offsets[i]));
      }
      access(rows_[i]).assign(blob.begin() + offsets[i], blob.begin() + offsets[i + 1]);
    }
  }

  const ColumnFileReader& file_;
  Record* rows_;
  std::size_t count_;
  std::vector<VerifyProblem>* problems_;
  std::map<std::string, ColumnExtent>& digests_;
};

template <class Record>
void read_rows(const ColumnFileReader& file, int64_t count, std::vector<Record>& rows,
               std::vector<VerifyProblem>* problems, std::map<std::string, ColumnExtent>& digests) {
  if (count == 0) return;
  uint64_t width = 0;
  const Record blank{};
  Schema<Record>::visit([&](const char*, auto access) { RowWidth{width}.add(blank, access); });
  if (static_cast<uint64_t>(count) > file.bytes() / width) {
    throw CorruptError(file.name(), std::string("attribute ") + Schema<Record>::kGroup,
                       "at most " + std::to_string(file.bytes() / width) + " rows",
                       std::to_string(count));
  }
  const std::size_t before = rows.size();
  rows.resize(before + static_cast<std::size_t>(count));
  Schema<Record>::visit(RowReader<Record>(file, rows.data() + before,
                                          static_cast<std::size_t>(count), problems, digests));
}

void read_all(const std::filesystem::path& path, const SegmentHeader& header, Records& records,
              std::vector<VerifyProblem>* problems) {
  const ColumnFileReader file(path);
  check_header(file, header);
  std::map<std::string, ColumnExtent> digests;
  visit_kinds(records, [&](auto& rows, int64_t SegmentHeader::*count) {
    read_rows(file, header.*count, rows, problems, digests);
  });
  if (problems == nullptr) return;
  for (const std::string& leaf : file.leaves()) {
    if (digests.count(leaf) == 0) {
      problems->push_back({"", leaf, "expected a readable column of the schema, got another"});
    }
  }
  if (const std::string digest = digest_of_columns(digests); digest != header.digest) {
    problems->push_back(
        {"", "", "digest over the columns: expected " + header.digest + ", got " + digest});
  }
}

/// The list of columns, by which SegmentView reads, leads to the bytes that HDF5 leads to.
void verify_list(const std::filesystem::path& path, const SegmentHeader& header,
                 std::vector<VerifyProblem>& problems) {
  const std::string file = read_file(path);
  const std::string digest = digest_of_columns(parse_column_list(path.string(), file, header));
  if (digest != header.digest) {
    throw CorruptError(path.string(), "list of columns, digest", header.digest, digest);
  }
  for (const auto& [column, finding] : damaged_columns(std::string_view(file), header)) {
    problems.push_back({"", column, "list of columns: " + finding});
  }
}

void verify(const std::filesystem::path& path, Records& records,
            std::vector<VerifyProblem>& problems) {
  const SegmentHeader header = read_preamble(path);
  const std::string digest = digest_after_preamble(path);
  if (digest == header.sha256) {
    read_all(path, header, records, &problems);
    return verify_list(path, header, problems);
  }
  for (const auto& [column, finding] : damaged_columns(path, header)) {
    problems.push_back({"", column, finding});
  }
  throw CorruptError(path.string(), "SHA-256 of the file", header.sha256, digest);
}

}  // namespace

SegmentHeader read_segment(const std::filesystem::path& path, Records& records) {
  const SegmentHeader header = read_preamble(path);
  const std::string digest = digest_after_preamble(path);
  if (digest == header.sha256) {
    read_all(path, header, records, nullptr);
    return header;
  }
  for (const auto& [column, finding] : damaged_columns(path, header)) {
    throw CorruptError(path.string() + ": " + column + ": " + finding);
  }
  throw CorruptError(path.string(), "SHA-256 of the file", header.sha256, digest);
}

void verify_segment(const std::filesystem::path& path, Records& records,
                    std::vector<VerifyProblem>& problems) {
  const std::size_t first = problems.size();
  try {
    verify(path, records, problems);
  } catch (const Error& error) {
    std::string message = error.what();
    const std::string prefix = path.string() + ": ";  // the segment is named beside the message
    if (message.starts_with(prefix)) message.erase(0, prefix.size());
    problems.push_back({"", "", message});
  }
  for (std::size_t i = first; i < problems.size(); ++i) {
    problems[i].segment = path.filename().string();
  }
}

}  // namespace hone::data::hdf5
