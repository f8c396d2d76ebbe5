#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/exporters/exporter.h"
#include "data/hdf5/segment.h"
#include "data/journal/compose.h"
#include "data/journal/journal_impl.h"

namespace hone::data {
namespace {

const std::vector<const ExportFormat*>& formats() {
  static const std::vector<const ExportFormat*> all = {
      &trl_preference_format(),   &trl_sft_format(),           &trl_kto_format(),
      &hh_export_format(),        &rewardbench_format(),       &csv_format(),
      &votes_tsv_export_format(), &ratings_tsv_export_format()};
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

bool has_unsealed_answers(const std::filesystem::path& store) {
  auto journal = open_journal_to_read(store);
  return journal && !load_unsealed(*journal, 0, 1, false).empty();
}

/// The segments where they lie, or, behind them, the journal's unsealed answers as well.
std::unique_ptr<StoreView> open_view(const Store& store) {
  if (!has_unsealed_answers(store.directory())) return std::make_unique<StoreView>(store);
  return std::make_unique<StoreView>(
      hdf5::encode_segment(read_feedback(store.directory()), 0, "unsealed"),
      store.directory().string());
}

uint64_t write_lines(const ExportFormat& format, const Answers& answers, const FileDescriptor& file,
                     const std::filesystem::path& path) {
  Output out(file, path);
  format.write(answers, out);
  out.flush();
  return out.lines();
}

}  // namespace

int64_t parse_time(const std::string& text, const std::string& option) {
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, end = 0;
  const auto matches = [&](const char* pattern, int fields) {
    end = 0;
    return std::sscanf(text.c_str(), pattern, &year, &month, &day, &hour, &minute, &second, &end) >=
               fields &&
           static_cast<std::size_t>(end) == text.size();
  };
  bool ok = false;
  {
    int at = 0;
    ok = std::sscanf(text.c_str(), "%4d-%2d-%2d%n", &year, &month, &day, &at) == 3 &&
         static_cast<std::size_t>(at) == text.size();
  }
  if (!ok) {
    int at = 0;
    ok = std::sscanf(text.c_str(), "%4d-%2d-%2dT%2d:%2d%n", &year, &month, &day, &hour, &minute,
                     &at) == 5 &&
         static_cast<std::size_t>(at) == text.size();
  }
  ok = ok || matches("%4d-%2d-%2dT%2d:%2d:%2dZ%n", 6) || matches("%4d-%2d-%2dT%2d:%2d:%2d%n", 6);
  const std::chrono::year_month_day date{std::chrono::year(year),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!ok || !date.ok() || year < 1970 || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
      second < 0 || second > 60) {
    throw InputError("export", option, "a time as 2026-11-25 or 2026-11-25T19:50:00Z (UTC)", text);
  }
  const auto days = std::chrono::sys_days(date).time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(days) +
                       std::chrono::seconds(3600 * hour + 60 * minute + second);
  return std::chrono::duration_cast<std::chrono::microseconds>(seconds).count();
}

std::vector<FormatInfo> export_formats() {
  std::vector<FormatInfo> infos;
  for (const ExportFormat* format : formats()) infos.push_back(format->info);
  return infos;
}

uint64_t export_file(const Store& store, const std::string& format_name,
                     const std::filesystem::path& output, const ExportFilter& filter) {
  const ExportFormat& format = find_format(format_name);
  const std::unique_ptr<StoreView> view = open_view(store);
  const Answers answers(*view, filter);
  if (output == "-") {
    return write_lines(format, answers, FileDescriptor(::dup(STDOUT_FILENO)), output);
  }
  if (is_stream(output)) {  // /dev/null, /dev/stdout, a named pipe
    FileDescriptor file = open_file(output, O_WRONLY);
    const uint64_t count = write_lines(format, answers, file, output);
    file.close(output);
    return count;
  }
  std::filesystem::path temporary = output;
  temporary += ".tmp-" + std::to_string(::getpid());
  FileDescriptor file = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
  try {
    const uint64_t count = write_lines(format, answers, file, temporary);
    file.close(temporary);
    publish_file(temporary, output);
    return count;
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

}  // namespace hone::data
