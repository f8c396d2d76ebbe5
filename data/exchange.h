#pragma once

// Feedback in and out of files that people have.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "data/store.h"

namespace hone::data {

struct ImportOptions {
  std::string format;           // one of import_formats()
  std::filesystem::path input;  // "-" is standard input
  /// Split for records whose file names none: "group-hash" = by hash of the group (in the
  /// fractions below), or "train", "validation", "test".
  std::string split = "group-hash";
  double validation_fraction = 0.05, test_fraction = 0.15;
  /// Called now and then with (bytes read, bytes in all).
  std::function<void(uint64_t, uint64_t)> progress;
  /// Longest line accepted, in bytes.
  uint64_t max_line_bytes = 16u << 20;
  /// JSON lines with other keys: field name -> key in the file, e.g. {"group", "debate"}.
  std::map<std::string, std::string> fields;
};

/// lines = added + duplicates + rejected: blank lines and a header are not counted. A line is
/// added when it brought at least one new record.
struct ImportReport {
  uint64_t lines = 0, added = 0, duplicates = 0, rejected = 0;
  uint64_t partial = 0;  // of the lines taken: those of which a part was left out
  /// JSONL {"line":n,"reason":"..."}, with "part":true where the rest was taken; empty when none.
  std::filesystem::path rejects_file;
};

struct FormatInfo {
  std::string name, summary, example;
};
/// texts-jsonl, ratings-tsv, votes-tsv, preference-jsonl, hh, demonstrations-jsonl, argilla,
/// label-studio, open-assistant, arena
std::vector<FormatInfo> import_formats();
/// What can be said before there is a store: throws InputError for a format or an option that
/// cannot be, or an input that cannot be opened.
void check_import(const ImportOptions& options);
/// Streams the file; a bad line is rejected with its number and reason in
/// `<store>/rejects/<input name>-<hash>.jsonl`, never fatal; an unusable file (missing, damaged,
/// not one good line) is an InputError, and then nothing is stored. .gz inputs are read as they
/// are. What `progress` throws ends the import, with nothing stored.
ImportReport import_file(Store& store, const ImportOptions& options);

/// Which answers an export holds: those that fit every part that is set.
struct ExportFilter {
  std::string split;    // train, validation or test: answers that lie wholly in it
  std::string source;   // the answer's source ("votes-tsv:votes.tsv"), or its items' ("votes")
  std::string project;  // of collected answers
  /// pairwise, ranking (k > 2), rating, demonstration, review; same-person, across-people (of
  /// comparisons). Any of them.
  std::vector<std::string> kinds;
  std::vector<std::string> raters;  // pseudonyms, any of them
  /// Answered at or after / before, in microseconds since 1970; 0: no bound. Answers whose time is
  /// unknown are left out when there is one.
  int64_t since_us = 0, until_us = 0;
};
/// "2026-11-25", "2026-11-25T19:50" or "2026-11-25T19:50:00Z" (UTC) in microseconds since 1970.
/// Throws InputError naming `option`.
int64_t parse_time(const std::string& text, const std::string& option);

/// trl-preference, trl-sft, trl-kto, hh, rewardbench, csv, votes-tsv, ratings-tsv
std::vector<FormatInfo> export_formats();
/// Number of lines written (temporary file, then rename). `output` "-" is standard output. What a
/// journal has and no segment yet is exported too; the store is then read into memory first.
uint64_t export_file(const Store& store, const std::string& format,
                     const std::filesystem::path& output, const ExportFilter& filter = {});

}  // namespace hone::data
