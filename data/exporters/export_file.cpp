#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/exporters/exporter.h"
#include "data/file_descriptor.h"

namespace hone::data {
namespace {

const std::vector<const ExportFormat*>& formats() {
  static const std::vector<const ExportFormat*> all = {&trl_preference_format(), &trl_sft_format()};
  return all;
}

const ExportFormat& find_format(const std::string& name) {
  std::string known;
  for (const ExportFormat* format : formats()) {
    if (format->info.name == name) return *format;
    known += (known.empty() ? "" : ", ") + format->info.name;
  }
  throw InputError("export", "format", known, name.empty() ? "nothing" : name);
}

void keep_split(Records& records, const std::string& name) {
  if (name.empty()) return;
  const std::string names[] = {"train", "validation", "test"};
  const auto found = std::find(std::begin(names), std::end(names), name);
  if (found == std::end(names)) {
    throw InputError("export", "split", "train, validation or test", name);
  }
  const auto split = static_cast<Split>(found - std::begin(names));
  std::erase_if(records.demonstrations, [&](const auto& one) { return one.split != split; });
  std::erase_if(records.comparisons, [&](const Comparison& comparison) {
    return std::any_of(comparison.items.begin(), comparison.items.end(), [&](int64_t item) {
      return records.items[static_cast<std::size_t>(item)].split != split;
    });
  });
}

/// Lines to a descriptor through a buffer.
class LineWriter {
 public:
  LineWriter(const FileDescriptor& file, std::filesystem::path path)
      : file_(file), path_(std::move(path)) {}
  void write(const nlohmann::ordered_json& line) {
    constexpr std::size_t kBuffered = 1 << 18;
    buffer_ += line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    buffer_ += '\n';
    ++count_;
    if (buffer_.size() > kBuffered) flush();
  }
  void flush() {
    write_all(file_, buffer_, path_);
    buffer_.clear();
  }
  uint64_t count() const { return count_; }

 private:
  const FileDescriptor& file_;
  std::filesystem::path path_;
  std::string buffer_;
  uint64_t count_ = 0;
};

uint64_t write_lines(const ExportFormat& format, const Records& records, const FileDescriptor& file,
                     const std::filesystem::path& path) {
  LineWriter lines(file, path);
  format.write(records, [&](const nlohmann::ordered_json& line) { lines.write(line); });
  lines.flush();
  return lines.count();
}

}  // namespace

nlohmann::ordered_json assistant_messages(const std::string& text) {
  return nlohmann::ordered_json::array({{{"role", "assistant"}, {"content", text}}});
}

nlohmann::ordered_json stored_messages(const std::string& prompt, const std::string& record) {
  auto messages = nlohmann::ordered_json::parse(prompt, nullptr, false);
  if (!messages.is_array()) {
    throw CorruptError("record " + record, "prompt", "a JSON array of messages", "other text");
  }
  return messages;
}

std::vector<FormatInfo> export_formats() {
  std::vector<FormatInfo> infos;
  for (const ExportFormat* format : formats()) infos.push_back(format->info);
  return infos;
}

uint64_t export_file(const Store& store, const std::string& format_name,
                     const std::filesystem::path& output, const std::string& split) {
  const ExportFormat& format = find_format(format_name);
  Records records = store.read();
  keep_split(records, split);
  if (output == "-") {
    return write_lines(format, records, FileDescriptor(::dup(STDOUT_FILENO)), output);
  }
  std::filesystem::path temporary = output;
  temporary += ".tmp-" + std::to_string(::getpid());
  FileDescriptor file = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
  try {
    const uint64_t count = write_lines(format, records, file, temporary);
    file.close(temporary);
    publish_file(temporary, output);
    return count;
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

}  // namespace hone::data
