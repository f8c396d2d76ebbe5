#include <algorithm>
#include <cstdio>
#include <vector>

#include "engine/tokenizer/unicode_tables.h"

namespace hone::engine {
namespace {

struct Run {
  char32_t first;
  uint32_t category;
};

const std::vector<Run>& category_runs() {
  static const std::vector<Run> runs = [] {
    std::vector<Run> result;
    char32_t first = 0;
    for (size_t i = 0; i < kCategoryRunsSize; ++i) {
      result.push_back({first, kCategoryRuns[i] & 31});
      first += kCategoryRuns[i] >> 5;
    }
    return result;
  }();
  return runs;
}

void append_class_range(std::string& text, char32_t first, char32_t last) {
  char range[40];
  std::snprintf(range, sizeof range, first == last ? "\\x{%X}" : "\\x{%X}-\\x{%X}",
                static_cast<unsigned>(first), static_cast<unsigned>(last));
  text += range;
}

}  // namespace

std::string_view general_category(char32_t code) {
  const std::vector<Run>& runs = category_runs();
  const auto after =
      std::upper_bound(runs.begin(), runs.end(), code,
                       [](char32_t wanted, const Run& run) { return wanted < run.first; });
  return kCategoryNames[std::prev(after)->category];
}

bool in_ranges(const CodeRange* ranges, size_t count, char32_t code) {
  const CodeRange* end = ranges + count;
  const CodeRange* found =
      std::lower_bound(ranges, end, code,
                       [](const CodeRange& range, char32_t wanted) { return range.last < wanted; });
  return found != end && found->first <= code;
}

std::string class_of(const CodeRange* ranges, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) append_class_range(text, ranges[i].first, ranges[i].last);
  return text;
}

std::string class_of_category(std::string_view prefix, bool complement) {
  std::string text;
  const std::vector<Run>& runs = category_runs();
  for (size_t i = 0; i < runs.size();) {
    const auto wanted = [&](size_t run) {
      const std::string_view name = kCategoryNames[runs[run].category];
      return name != "Cs" && name.starts_with(prefix) != complement;
    };
    const size_t begin = i;
    while (i < runs.size() && wanted(i)) ++i;
    if (i > begin) {
      append_class_range(text, runs[begin].first, i < runs.size() ? runs[i].first - 1 : 0x10FFFF);
    } else {
      ++i;
    }
  }
  return text;
}

char32_t lower_case(char32_t code) {
  const LowerCase* end = kLowerCase + kLowerCaseSize;
  const LowerCase* found =
      std::lower_bound(kLowerCase, end, code,
                       [](const LowerCase& run, char32_t wanted) { return run.last < wanted; });
  if (found == end || code < found->first) return code;
  const auto steps = static_cast<int32_t>(code - found->first);
  if (steps % found->step != 0) return code;
  return static_cast<char32_t>(static_cast<int32_t>(code) + found->distance);
}

}  // namespace hone::engine
