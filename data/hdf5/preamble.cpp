#include "data/hdf5/preamble.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/file_descriptor.h"
#include "data/hdf5/schema.h"
#include "data/sha256.h"

namespace hone::data::hdf5 {
namespace {

constexpr const char* kSealWord = "preamble ";   // before the SHA-256 of the lines before it
constexpr int64_t kMostRows = int64_t{1} << 48;  // sums of counts never overflow

std::string describe(const SegmentHeader& header) {
  std::ostringstream text;
  text << kSegmentFormat << " " << header.version << "\n";
  text << "bytes " << header.bytes << "\n";
  text << "created " << header.created << "\n";
  for (const auto& [name, count] : header_counts(header.version))
    text << name << " " << header.*count << "\n";
  text << "digest " << header.digest << "\n";
  text << "columns_at " << header.list_offset << "\n";
  text << "sha256 " << header.sha256 << "\n";
  return text.str();
}

std::string describe(const std::map<std::string, ColumnExtent>& columns) {
  std::string list;
  for (const auto& [path, column] : columns) {
    list += path + " " + std::to_string(column.offset) + " " + std::to_string(column.bytes) + " " +
            column.sha256 + "\n";
  }
  return list;
}

/// Reads "<name> <value>" or marks the stream bad.
template <class Value>
void expect_line(std::istringstream& lines, const char* name, Value& value) {
  std::string word;
  lines >> word >> value;
  if (word != name) lines.setstate(std::ios::failbit);
}

void check_version(const std::filesystem::path& path, const std::string& text) {
  std::istringstream words(text);
  std::string format;
  int64_t version = 0;
  words >> format >> version;
  if (!words || format != kSegmentFormat) {
    throw CorruptError(path.string(), "preamble", std::string("that of a ") + kSegmentFormat,
                       "other bytes");
  }
  if (version < kFirstSegmentVersion || version > kSegmentVersion) {
    throw CorruptError(path.string(), "format version",
                       "at most " + std::to_string(kSegmentVersion), std::to_string(version));
  }
}

/// The lines before the seal, which must be right; nothing but zeros may follow it.
std::string unseal(const std::filesystem::path& path, const std::string& text) {
  const std::size_t seal = text.find(std::string("\n") + kSealWord);
  if (seal != std::string::npos) {
    std::string lines = text.substr(0, seal + 1);
    std::string whole = lines + kSealWord + sha256_hex(lines) + "\n";
    whole.resize(kPreambleBytes, '\0');
    if (whole == text) return lines;
  }
  throw CorruptError(path.string(), "preamble", "the SHA-256 at its end", "damage");
}

SegmentHeader parse(const std::filesystem::path& path, const std::string& text) {
  std::istringstream lines(text);
  std::string format;
  SegmentHeader header;
  lines >> format >> header.version;
  expect_line(lines, "bytes", header.bytes);
  expect_line(lines, "created", header.created);
  for (const auto& [name, count] : header_counts(header.version))
    expect_line(lines, name, header.*count);
  expect_line(lines, "digest", header.digest);
  expect_line(lines, "columns_at", header.list_offset);
  expect_line(lines, "sha256", header.sha256);
  // Words may have been parted otherwise, numbers written otherwise: one form only is taken.
  if (lines.fail() || describe(header) != text || header.list_offset < kPreambleBytes ||
      header.list_offset > header.bytes) {
    throw CorruptError(path.string(), "preamble", "the lines of a segment", "others");
  }
  for (const auto& [name, count] : header_counts(header.version)) {
    if (header.*count < 0 || header.*count > kMostRows) {
      throw CorruptError(path.string(), std::string("preamble, ") + name, "a number of rows",
                         std::to_string(header.*count));
    }
  }
  return header;
}

}  // namespace

std::vector<std::pair<const char*, int64_t SegmentHeader::*>> header_counts(int64_t version) {
  std::vector<std::pair<const char*, int64_t SegmentHeader::*>> counts = {
      {"items_before", &SegmentHeader::items_before},
      {"items", &SegmentHeader::items},
      {"ratings", &SegmentHeader::ratings},
      {"comparisons", &SegmentHeader::comparisons},
      {"demonstrations", &SegmentHeader::demonstrations}};
  if (version >= 2) {
    counts.insert(counts.end(), {{"answers", &SegmentHeader::answers},
                                 {"corrections", &SegmentHeader::corrections},
                                 {"spans", &SegmentHeader::spans},
                                 {"steps", &SegmentHeader::steps},
                                 {"reviews", &SegmentHeader::reviews},
                                 {"flags", &SegmentHeader::flags}});
  }
  return counts;
}

std::string digest_of_columns(const std::map<std::string, ColumnExtent>& columns) {
  Sha256 digest;
  for (const auto& [path, column] : columns) digest.update(path + " " + column.sha256 + "\n");
  return digest.hex();
}

void wrap_segment(std::string& image, SegmentHeader header,
                  const std::map<std::string, ColumnExtent>& columns) {
  header.list_offset = image.size();
  image += describe(columns);
  header.bytes = image.size();
  header.digest = digest_of_columns(columns);
  header.sha256 = sha256_hex(std::string_view(image).substr(kPreambleBytes));
  const std::string lines = describe(header);
  const std::string text = lines + kSealWord + sha256_hex(lines) + "\n";
  if (text.size() > kPreambleBytes) {
    throw Error("segment", "preamble", std::to_string(kPreambleBytes) + " bytes",
                std::to_string(text.size()));
  }
  image.replace(0, text.size(), text);
}

SegmentHeader parse_preamble(const std::filesystem::path& path, const std::string& text,
                             uint64_t file_bytes) {
  check_version(path, text);
  const SegmentHeader header = parse(path, unseal(path, text));
  if (file_bytes != header.bytes) {
    throw CorruptError(path.string(), "length", std::to_string(header.bytes) + " bytes",
                       std::to_string(file_bytes));
  }
  return header;
}

SegmentHeader read_preamble(const std::filesystem::path& path) {
  const FileDescriptor file = open_file(path, O_RDONLY);
  std::string text(kPreambleBytes, '\0');
  text.resize(read_some(file, text.data(), text.size(), path));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw_errno(path, "fstat");
  return parse_preamble(path, text, static_cast<uint64_t>(status.st_size));
}

std::string digest_after_preamble(const std::filesystem::path& path) {
  const FileDescriptor file = open_file(path, O_RDONLY);
  if (::lseek(file.get(), kPreambleBytes, SEEK_SET) < 0) throw_errno(path, "lseek");
  Sha256 digest;
  std::string buffer(1 << 18, '\0');
  while (const std::size_t got = read_some(file, buffer.data(), buffer.size(), path)) {
    digest.update(buffer.data(), got);
  }
  return digest.hex();
}

std::map<std::string, ColumnExtent> parse_column_list(const std::string& name,
                                                      std::string_view file,
                                                      const SegmentHeader& header) {
  std::map<std::string, ColumnExtent> columns;
  const std::string text(file.substr(std::min<uint64_t>(header.list_offset, file.size())));
  std::istringstream list(text);
  for (std::string line; std::getline(list, line);) {
    std::istringstream words(line);
    std::string column;
    ColumnExtent extent;
    words >> column >> extent.offset >> extent.bytes >> extent.sha256;
    if (words.fail() || extent.offset > file.size() || extent.bytes > file.size() - extent.offset) {
      throw CorruptError(name, "list of columns", "a column within the file", "\"" + line + "\"");
    }
    columns[column] = extent;
  }
  if (describe(columns) != text) {
    throw CorruptError(name, "list of columns", "a line for each in order of path", "another list");
  }
  return columns;
}

std::vector<std::pair<std::string, std::string>> damaged_columns(std::string_view file,
                                                                 const SegmentHeader& header) {
  std::vector<std::pair<std::string, std::string>> damaged;
  std::istringstream list(
      std::string(file.substr(std::min<uint64_t>(header.list_offset, file.size()))));
  std::string column;
  ColumnExtent extent;
  while (list >> column >> extent.offset >> extent.bytes >> extent.sha256) {
    if (extent.offset > file.size() || extent.bytes > file.size() - extent.offset) continue;
    const std::string digest = sha256_hex(file.substr(extent.offset, extent.bytes));
    if (digest != extent.sha256) {
      damaged.emplace_back(column, "expected SHA-256 " + extent.sha256 + ", got " + digest);
    }
  }
  return damaged;
}

std::vector<std::pair<std::string, std::string>> damaged_columns(const std::filesystem::path& path,
                                                                 const SegmentHeader& header) {
  return damaged_columns(std::string_view(read_file(path)), header);
}

}  // namespace hone::data::hdf5
