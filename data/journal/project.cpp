#include "data/journal/project.h"

#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <sstream>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/plain_text.h"
#include "data/sha256.h"

namespace hone::data {
namespace {

constexpr std::array<std::string_view, 8> kKindNames = {
    "pairwise", "ranking", "rating", "demonstration", "correction", "spans", "steps", "review"};

/// Every key of project.toml once, in the order in which it is printed.
template <class Subject, class Visitor>
void visit_fields(Subject& project, Visitor&& field) {
  field("id", project.id);
  field("title", project.title);
  field("guideline", project.guideline);
  field("span_labels", project.span_labels);
  field("flags", project.flags);
  field("languages", project.languages);
  field("scrub", project.scrub);
  field("overlap", project.overlap);
  field("gold_share", project.gold_share);
  field("repeat_share", project.repeat_share);
  field("dwell_ms", project.dwell_ms);
  field("dwell_ms_per_100_chars", project.dwell_ms_per_100_chars);
  field("dwell_max_ms", project.dwell_max_ms);
  field("lease_s", project.lease_s);
  field("session_answers", project.session_answers);
  field("session_minutes", project.session_minutes);
  field("daily_answers", project.daily_answers);
  field("qualification_questions", project.qualification_questions);
  field("qualification_share", project.qualification_share);
  field("rationale_share", project.rationale_share);
  field("join", project.join);
  field("seed", project.seed);
}

template <class Subject, class Visitor>
void visit_dimension(Subject& dimension, Visitor&& field) {
  field("name", dimension.name);
  field("label", dimension.label);
  field("low", dimension.low);
  field("high", dimension.high);
  field("low_label", dimension.low_label);
  field("high_label", dimension.high_label);
}

/// Takes keys out of a table as they are asked for; what is left is unknown.
class TableReader {
 public:
  TableReader(std::string where, toml::table& table) : where_(std::move(where)), table_(table) {}

  void operator()(const char* name, std::string& value) { take(name, value, "a string"); }
  void operator()(const char* name, int64_t& value) { take(name, value, "a whole number"); }
  void operator()(const char* name, double& value) {
    if (const auto* node = table_.get(name); node != nullptr && node->is_integer()) {
      value = static_cast<double>(*node->value<int64_t>());
      table_.erase(name);
      return;
    }
    take(name, value, "a number");
  }
  void operator()(const char* name, std::vector<std::string>& values) {
    const auto* node = table_.get(name);
    if (node == nullptr) return;
    const auto* array = node->as_array();
    if (array == nullptr) fail(name, *node, "a list of strings");
    values.clear();
    for (const auto& entry : *array) {
      const auto text = entry.value_exact<std::string>();
      if (!text) fail(name, entry, "strings");
      values.push_back(*text);
    }
    table_.erase(name);
  }
  void expect_nothing_left() const {
    if (table_.empty()) return;
    const auto first = table_.cbegin();
    fail(std::string(first->first.str()), first->second, "a key of a project");
  }
  [[noreturn]] void fail(const std::string& key, const toml::node& node,
                         const std::string& expected) const {
    std::ostringstream got;
    got << node.type();
    throw InputError(where_ + ":" + std::to_string(node.source().begin.line), key, expected,
                     got.str());
  }

 private:
  template <class Value>
  void take(const char* name, Value& value, const char* expected) {
    const auto* node = table_.get(name);
    if (node == nullptr) return;
    const auto found = node->value_exact<Value>();
    if (!found) fail(name, *node, expected);
    value = *found;
    table_.erase(name);
  }

  std::string where_;
  toml::table& table_;
};

struct TablePrinter {
  toml::table& table;
  template <class Value>
  void operator()(const char* name, const Value& value) {
    if constexpr (std::is_same_v<Value, std::vector<std::string>>) {
      toml::array array;
      for (const std::string& entry : value) array.push_back(entry);
      table.insert(name, std::move(array));
    } else {
      table.insert(name, value);
    }
  }
};

bool is_project_id(const std::string& id) {
  return !id.empty() && id.size() <= 40 && std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

}  // namespace

std::string_view kind_name(QuestionKind kind) {
  return kKindNames.at(static_cast<std::size_t>(kind));
}

QuestionKind parse_kind(std::string_view name, const std::string& where) {
  const auto* found = std::find(kKindNames.begin(), kKindNames.end(), name);
  if (found == kKindNames.end()) {
    std::string expected;
    for (const auto known : kKindNames) {
      expected.append(expected.empty() ? "" : ", ").append(known);
    }
    throw InputError(where, "kind", "one of " + expected, std::string(name));
  }
  return static_cast<QuestionKind>(found - kKindNames.begin());
}

void check_project(const Project& project, const std::string& where) {
  const auto require = [&](bool sound, const char* key, const char* expected,
                           const std::string& got) {
    if (!sound) throw InputError(where, key, expected, got);
  };
  const auto share = [&](const char* key, double value) {
    require(value >= 0 && value <= 1, key, "a share from 0 to 1", std::to_string(value));
  };
  const auto count = [&](const char* key, int64_t value, int64_t least = 0) {
    require(value >= least && value <= 1'000'000'000, key,
            least == 0 ? "a number, 0 or more" : "a number, 1 or more", std::to_string(value));
  };
  require(is_project_id(project.id), "id", "1 to 40 of a-z, 0-9 and -", project.id);
  count("overlap", project.overlap, 1);
  share("gold_share", project.gold_share);
  share("repeat_share", project.repeat_share);
  require(project.gold_share + project.repeat_share < 1, "gold_share",
          "less than 1 together with repeat_share",
          std::to_string(project.gold_share + project.repeat_share));
  share("qualification_share", project.qualification_share);
  share("rationale_share", project.rationale_share);
  count("dwell_ms", project.dwell_ms);
  count("dwell_ms_per_100_chars", project.dwell_ms_per_100_chars);
  count("dwell_max_ms", project.dwell_max_ms);
  count("lease_s", project.lease_s, 1);
  count("session_answers", project.session_answers);
  count("session_minutes", project.session_minutes);
  count("daily_answers", project.daily_answers);
  count("qualification_questions", project.qualification_questions);
  require(project.join == "invitation" || project.join == "open", "join", "invitation or open",
          project.join);
  for (const RatingDimension& dimension : project.dimensions) {
    require(!dimension.name.empty(), "dimensions.name", "a name", "nothing");
    require(dimension.low < dimension.high, "dimensions.high", "more than low",
            std::to_string(dimension.high));
  }
}

void check_project_text(const Project& project, const std::string& where) {
  const auto line = [&](const std::string& text, const std::string& key) {
    check_plain_text(text, LineBreaks::kRefused, where, key);
  };
  const auto lines = [&](const std::vector<std::string>& texts, const std::string& key) {
    for (const std::string& text : texts) line(text, key);
  };
  line(project.title, "title");
  check_plain_text(project.guideline, LineBreaks::kAllowed, where, "guideline");
  lines(project.span_labels, "span_labels");
  lines(project.flags, "flags");
  lines(project.languages, "languages");
  lines(project.scrub, "scrub");
  for (const RatingDimension& dimension : project.dimensions) {
    lines({dimension.name}, "dimensions.name");
    lines({dimension.label}, "dimensions.label");
    lines({dimension.low_label, dimension.high_label}, "dimensions.low_label, high_label");
  }
}

Project parse_project(std::string_view text, const std::string& where,
                      const std::filesystem::path& folder) {
  toml::table table;
  try {
    table = toml::parse(text, where);
  } catch (const toml::parse_error& error) {
    throw InputError(where + ":" + std::to_string(error.source().begin.line) + ": " +
                     std::string(error.description()));
  }
  Project project;
  TableReader reader(where, table);
  std::string guideline_file;
  reader("guideline_file", guideline_file);
  visit_fields(project, reader);
  if (!guideline_file.empty()) project.guideline = read_file(folder / guideline_file);
  if (const auto* node = table.get("dimensions")) {
    const auto* array = node->as_array();
    if (array == nullptr) reader.fail("dimensions", *node, "a list of tables");
    for (const auto& entry : *array) {
      if (!entry.is_table()) reader.fail("dimensions", entry, "tables");
      toml::table copy = *entry.as_table();
      TableReader one(where, copy);
      visit_dimension(project.dimensions.emplace_back(), one);
      one.expect_nothing_left();
    }
    table.erase("dimensions");
  }
  reader.expect_nothing_left();
  check_project(project, where);
  project.guideline_hash = sha256_hex(project.guideline);
  return project;
}

Project Project::load(const std::filesystem::path& file) {
  Project project = parse_project(read_file(file), file.string(), file.parent_path());
  check_project_text(project, file.string());
  return project;
}

std::string Project::to_toml() const {
  toml::table table;
  visit_fields(*this, TablePrinter{table});
  toml::array array;
  for (const RatingDimension& dimension : dimensions) {
    toml::table one;
    visit_dimension(dimension, TablePrinter{one});
    array.push_back(std::move(one));
  }
  if (!array.empty()) table.insert("dimensions", std::move(array));
  std::ostringstream text;
  text << table << "\n";
  return text.str();
}

}  // namespace hone::data
