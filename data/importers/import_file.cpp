#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/exchange.h"
#include "data/importers/importer.h"
#include "data/importers/line_reader.h"
#include "data/utf8.h"

namespace hone::data {
namespace {

const std::vector<const ImportFormat*>& formats() {
  static const std::vector<const ImportFormat*> all = {
      &texts_jsonl_format(),      &ratings_tsv_format(), &votes_tsv_format(),
      &preference_jsonl_format(), &hh_format(),          &demonstrations_jsonl_format()};
  return all;
}

const ImportFormat& find_format(const std::string& name) {
  std::string known;
  for (const ImportFormat* format : formats()) {
    if (format->info.name == name) return *format;
    known += (known.empty() ? "" : ", ") + format->info.name;
  }
  throw InputError("import", "format", known, name.empty() ? "nothing" : name);
}

void check_options(const ImportOptions& options) {
  const auto is_fraction = [](double value) { return value >= 0 && value <= 1; };
  if (!is_fraction(options.validation_fraction) || !is_fraction(options.test_fraction) ||
      options.validation_fraction + options.test_fraction > 1) {
    throw InputError("import", "validation and test fractions", "from 0 to 1 in all",
                     std::to_string(options.validation_fraction) + " and " +
                         std::to_string(options.test_fraction));
  }
  constexpr const char* kSplits[] = {"group-hash", "train", "validation", "test"};
  if (std::find(std::begin(kSplits), std::end(kSplits), options.split) == std::end(kSplits)) {
    throw InputError("import", "split", "group-hash, train, validation or test", options.split);
  }
  if (options.max_line_bytes == 0) {
    throw InputError("import", "longest line", "at least one byte", "0");
  }
}

/// The side file, kept in memory until the import is known to succeed.
class Rejects {
 public:
  void add(uint64_t line, std::string reason) {
    constexpr std::size_t kLongest = 400;
    if (reason.size() > kLongest) reason = reason.substr(0, kLongest) + "...";
    if (count_++ == 0) first_ = "line " + std::to_string(line) + ": " + reason;
    const nlohmann::ordered_json entry = {{"line", line}, {"reason", reason}};
    lines_ += entry.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }
  uint64_t count() const { return count_; }
  const std::string& first() const { return first_; }

  /// Named for the input and its content, so that importing it again overwrites it.
  std::filesystem::path write(const std::filesystem::path& store, const std::string& input,
                              const std::string& digest) const {
    if (count_ == 0) return {};
    const auto directory = store / "rejects";
    std::error_code error;
    std::filesystem::create_directories(directory, error);
    if (error) throw IoError(directory.string(), "create directory", "success", error.message());
    const auto path = directory / (input + "-" + digest.substr(0, 16) + ".jsonl");
    write_file_atomically(path, lines_);
    return path;
  }

 private:
  std::string lines_, first_;
  uint64_t count_ = 0;
};

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t") == std::string_view::npos;
}

Importer::Result import_line(Importer& importer, const LineReader& reader,
                             const ImportOptions& options) {
  if (reader.too_long()) {
    throw LineError("line", "at most " + std::to_string(options.max_line_bytes) + " bytes", "more");
  }
  if (const std::size_t at = find_invalid_utf8(reader.text()); at != std::string_view::npos) {
    throw LineError("line", "UTF-8", "another byte at column " + std::to_string(at + 1));
  }
  return importer.add_line(reader.text());
}

}  // namespace

std::vector<FormatInfo> import_formats() {
  std::vector<FormatInfo> infos;
  for (const ImportFormat* format : formats()) infos.push_back(format->info);
  return infos;
}

ImportReport import_file(Store& store, const ImportOptions& options) {
  const ImportFormat& format = find_format(options.format);
  check_options(options);
  LineReader reader(options.input, options.max_line_bytes);
  StoreWriter writer(store);
  ImportTarget target(writer, options);
  const std::unique_ptr<Importer> importer = format.make(target);
  ImportReport report;
  Rejects rejects;
  while (reader.next()) {
    constexpr uint64_t kLinesBetweenProgress = 256;
    if (options.progress && reader.number() % kLinesBetweenProgress == 0) {
      options.progress(reader.bytes_read(), reader.bytes_total());
    }
    if (is_blank(reader.text())) continue;
    try {
      const Importer::Result result = import_line(*importer, reader, options);
      if (result == Importer::Result::kHeader) continue;
      ++(result == Importer::Result::kAdded ? report.added : report.duplicates);
    } catch (const LineError& error) {
      rejects.add(reader.number(), error.what());
    } catch (const InputError& error) {
      rejects.add(reader.number(), error.what());
    }
    ++report.lines;
  }
  if (options.progress) options.progress(reader.bytes_total(), reader.bytes_total());
  report.rejected = rejects.count();
  report.rejects_file = rejects.write(
      store.directory(), options.input == "-" ? "stdin" : options.input.filename().string(),
      reader.digest());
  if (report.added + report.duplicates == 0) {
    const std::string got = report.lines == 0 ? "none" : "none; " + rejects.first();
    throw InputError(options.input.string(), "import as " + options.format,
                     "at least one good line", got);
  }
  writer.seal();
  return report;
}

}  // namespace hone::data
