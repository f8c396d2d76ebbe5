#pragma once

// What the importers share: the interface of one format, ids made from content, and the split of a
// group.

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/exchange.h"
#include "data/importers/line_error.h"
#include "data/importers/line_reader.h"

namespace hone::data {

class JsonLine;

/// 32 hexadecimal digits of SHA-256 over the parts, each with its length, so that no two lists of
/// parts run together.
std::string content_id(std::initializer_list<std::string_view> parts);

/// The id of an item that has none of its own.
std::string content_id(const Item& item);

/// Where an import writes to and what holds for all its lines.
class ImportTarget {
 public:
  ImportTarget(StoreWriter& writer, const ImportOptions& options);
  StoreWriter& writer() { return writer_; }
  const ImportOptions& options() const { return options_; }
  /// Name of the data set: the file's name without its endings.
  const std::string& source() const { return source_; }
  /// "<format>:<file name>" for Provenance::source.
  const std::string& provenance() const { return provenance_; }
  /// By name where one is given (else LineError), else as options().split says.
  Split split_of(const std::string& given, const std::string& group) const;
  /// Index of the item; its id, group, split and source are filled in where empty. `given_split`
  /// as in split_of; `fallback_group` groups an item without prompt and group of its own.
  int64_t add_item(Item item, const std::string& given_split, const std::string& fallback_group);
  /// Throws LineError where the store has the comparison's id with other content. Its items, in the
  /// order of comparison.items, need not be there yet.
  void require_own_id(Comparison comparison, const std::vector<const Item*>& items) const;
  void require_own_id(const Demonstration& demonstration) const;
  /// A part of a line that is left out, while the rest is taken; it goes to the side file.
  void leave_out(const std::string& reason) { left_out_.push_back(reason); }
  std::vector<std::string> take_left_out() { return std::exchange(left_out_, {}); }

 private:
  StoreWriter& writer_;
  const ImportOptions& options_;
  std::string source_, provenance_;
  std::vector<std::string> left_out_;
};

/// One format. An importer checks the whole line before it adds anything.
class Importer {
 public:
  virtual ~Importer() = default;
  enum class Result { kAdded, kDuplicate, kHeader };
  /// Throws LineError, or InputError where a record is refused by the writer.
  virtual Result add_line(std::string_view line) = 0;
};

struct ImportFormat {
  FormatInfo info;
  std::unique_ptr<Importer> (*make)(ImportTarget& target);
  bool json_values = false;  // the file may be one JSON array instead of lines
  /// What ImportOptions::fields may name; empty: whatever the file has.
  std::vector<std::string> fields = {};
};

/// (line, reason, the rest of the line was taken)
using RejectSink = std::function<void(uint64_t, const std::string&, bool)>;

/// Everything of the file, added and not sealed. Throws InputError for a damaged file.
ImportReport import_into(StoreWriter& writer, LineReader& reader, const ImportOptions& options,
                         const RejectSink& reject);

// One per file of this folder.
const ImportFormat& texts_jsonl_format();
const ImportFormat& ratings_tsv_format();
const ImportFormat& votes_tsv_format();
const ImportFormat& preference_jsonl_format();
const ImportFormat& hh_format();
const ImportFormat& demonstrations_jsonl_format();
const ImportFormat& argilla_format();
const ImportFormat& label_studio_format();
const ImportFormat& open_assistant_format();
const ImportFormat& arena_format();

}  // namespace hone::data
