#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/exchange.h"
#include "data/file_descriptor.h"
#include "data/importers/importer.h"
#include "data/importers/line_reader.h"
#include "data/utf8.h"

namespace hone::data {
namespace {

const std::vector<const ImportFormat*>& formats() {
  static const std::vector<const ImportFormat*> all = {&texts_jsonl_format(),
                                                       &ratings_tsv_format(),
                                                       &votes_tsv_format(),
                                                       &preference_jsonl_format(),
                                                       &hh_format(),
                                                       &demonstrations_jsonl_format(),
                                                       &argilla_format(),
                                                       &label_studio_format(),
                                                       &open_assistant_format(),
                                                       &arena_format()};
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

void check_options(const ImportOptions& options, const ImportFormat& format) {
  for (const auto& [field, key] : options.fields) {
    const auto& known = format.fields;
    if (known.empty() || std::find(known.begin(), known.end(), field) != known.end()) continue;
    std::string names;
    for (const std::string& name : known) names += (names.empty() ? "" : ", ") + name;
    throw InputError("import", "field of " + format.info.name, names, field);
  }
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

/// The side file: hidden until the import is known to succeed.
class Rejects {
 public:
  explicit Rejects(const std::filesystem::path& store) : directory_(store / "rejects") {}
  ~Rejects() {
    std::error_code ignored;
    if (!temporary_.empty()) std::filesystem::remove(temporary_, ignored);
    if (made_directory_) std::filesystem::remove(directory_, ignored);  // when empty
  }
  /// `part`: the rest of the line was taken.
  void add(uint64_t line, std::string reason, bool part = false) {
    constexpr std::size_t kLongest = 400, kBuffered = 1 << 20;
    if (reason.size() > kLongest) reason = reason.substr(0, kLongest) + "...";
    if (first_.empty()) first_ = "line " + std::to_string(line) + ": " + reason;
    nlohmann::ordered_json entry = {{"line", line}, {"reason", reason}};
    if (part) entry["part"] = true;
    lines_ += entry.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    if (lines_.size() >= kBuffered) flush();
  }
  const std::string& first() const { return first_; }

  /// Named for the input and its content, so that importing it again overwrites it.
  std::filesystem::path publish(const std::string& input, const std::string& digest) {
    if (first_.empty()) return {};
    flush();
    const auto path = directory_ / (input + "-" + digest.substr(0, 16) + ".jsonl");
    file_.close(temporary_);
    publish_file(temporary_, path);
    temporary_.clear();
    made_directory_ = false;
    return path;
  }

 private:
  void flush() {
    if (!file_.is_open()) {
      std::error_code error;
      made_directory_ = std::filesystem::create_directories(directory_, error);
      if (error) throw IoError(directory_.string(), "create directory", "success", error.message());
      temporary_ = directory_ / (".rejects.tmp-" + std::to_string(::getpid()));
      file_ = open_file(temporary_, O_WRONLY | O_CREAT | O_TRUNC);
    }
    write_all(file_, lines_, temporary_);
    lines_.clear();
  }

  std::filesystem::path directory_, temporary_;
  FileDescriptor file_;
  bool made_directory_ = false;
  std::string lines_, first_;
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
  try {
    return importer.add_line(reader.text());
  } catch (const nlohmann::json::exception& error) {  // a value of another type than asked for
    throw LineError(std::string("JSON: ") + error.what());
  }
}

}  // namespace

std::vector<FormatInfo> import_formats() {
  std::vector<FormatInfo> infos;
  for (const ImportFormat* format : formats()) infos.push_back(format->info);
  return infos;
}

ImportReport import_into(StoreWriter& writer, LineReader& reader, const ImportOptions& options,
                         const RejectSink& reject) {
  const ImportFormat& format = find_format(options.format);
  ImportTarget target(writer, options);
  const std::unique_ptr<Importer> importer = format.make(target);
  ImportReport report;
  while (format.json_values ? reader.next_json() : reader.next()) {
    constexpr uint64_t kLinesBetweenProgress = 256;
    if (options.progress && reader.number() % kLinesBetweenProgress == 0) {
      options.progress(reader.bytes_read(), reader.bytes_total());
    }
    if (is_blank(reader.text())) continue;
    try {
      const Importer::Result result = import_line(*importer, reader, options);
      if (result == Importer::Result::kHeader) continue;
      ++(result == Importer::Result::kAdded ? report.added : report.duplicates);
      const std::vector<std::string> parts = target.take_left_out();
      for (const std::string& reason : parts) reject(reader.number(), reason, true);
      report.partial += !parts.empty();
    } catch (const LineError& error) {
      target.take_left_out();
      reject(reader.number(), error.what(), false);
      ++report.rejected;
    } catch (const InputError& error) {
      target.take_left_out();
      reject(reader.number(), error.what(), false);
      ++report.rejected;
    }
    ++report.lines;
  }
  if (options.progress) options.progress(reader.bytes_total(), reader.bytes_total());
  return report;
}

void check_import(const ImportOptions& options) {
  check_options(options, find_format(options.format));
  if (options.input != "-" && !is_stream(options.input)) open_file(options.input, O_RDONLY);
}

ImportReport import_file(Store& store, const ImportOptions& options) {
  check_import(options);
  LineReader reader(options.input, options.max_line_bytes);
  if (options.progress) {
    reader.on_interrupt([&] { options.progress(reader.bytes_read(), reader.bytes_total()); });
  }
  StoreWriter writer(store);
  Rejects rejects(store.directory());
  ImportReport report = import_into(writer, reader, options,
                                    [&](uint64_t line, const std::string& reason, bool part) {
                                      rejects.add(line, reason, part);
                                    });
  if (report.added + report.duplicates == 0) {
    const std::string got = report.lines == 0 ? "none" : "none; " + rejects.first();
    throw InputError(options.input.string(), "import as " + options.format,
                     "at least one good line", got);
  }
  report.rejects_file = rejects.publish(
      options.input == "-" ? "stdin" : options.input.filename().string(), reader.digest());
  writer.seal();
  return report;
}

}  // namespace hone::data
