#include "data/hdf5/segment_view.h"

#include <algorithm>

#include "data/error.h"
#include "data/sha256.h"

namespace hone::data::hdf5 {

SegmentView::SegmentView(const std::filesystem::path& path, Check check)
    : file_(path), name_(path.string()) {
  open(check);
}

SegmentView::SegmentView(std::string image, const std::string& name)
    : image_(std::move(image)), name_(name) {
  open(Check::kChecksums);
}

void SegmentView::open(Check check) {
  header_ = parse_preamble(name_, std::string(bytes().substr(0, kPreambleBytes)), bytes().size());
  if (check == Check::kChecksums) {
    const std::string digest = sha256_hex(bytes().substr(kPreambleBytes));
    if (digest != header_.sha256) {
      for (const auto& [column, finding] : damaged_columns(bytes(), header_)) {
        throw CorruptError(name_ + ": " + column + ": " + finding);
      }
      throw CorruptError(name_, "SHA-256 of the file", header_.sha256, digest);
    }
  }
  columns_ = parse_column_list(name_, bytes(), header_);
}

std::string_view SegmentView::raw(const std::string& path) const {
  const auto found = columns_.find(path);
  if (found == columns_.end()) throw ColumnError(name_, path, "a column", "none");
  return bytes().substr(found->second.offset, found->second.bytes);
}

const char* SegmentView::aligned(const std::string& path, std::string_view bytes) const {
  std::vector<uint64_t>& copy = copies_[path];
  copy.resize(bytes.size() / sizeof(uint64_t) + 1);
  std::memcpy(copy.data(), bytes.data(), bytes.size());
  return reinterpret_cast<const char*>(copy.data());
}

void check_offsets(const std::string& file, const std::string& path,
                   std::span<const int64_t> offsets, int64_t rows, int64_t end) {
  if (rows < 0 || static_cast<int64_t>(offsets.size()) != rows + 1) {
    throw ColumnError(file, path, std::to_string(rows + 1) + " values",
                      std::to_string(offsets.size()) + " values");
  }
  if (offsets.front() != 0 || offsets.back() != end) {
    throw ColumnError(file, path, "0 to " + std::to_string(end),
                      std::to_string(offsets.front()) + " to " + std::to_string(offsets.back()));
  }
  bool rising = true;  // without a branch, so that it runs at the speed of memory
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) rising &= offsets[i] <= offsets[i + 1];
  if (!rising) throw ColumnError(file, path, "rising offsets", "others");
}

void check_bytes(const std::string& file, const std::string& path, std::span<const uint8_t> values,
                 uint8_t largest) {
  uint8_t most = 0;
  for (const uint8_t value : values) most = std::max(most, value);
  if (most > largest) {
    throw ColumnError(file, path, "at most " + std::to_string(largest), std::to_string(most));
  }
}

}  // namespace hone::data::hdf5
