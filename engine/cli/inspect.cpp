#include <algorithm>
#include <cstdio>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>

#include "data/journal/journal.h"
#include "data/quality/selection_note.h"
#include "data/summary.h"
#include "engine/cli/command.h"
#include "engine/cli/inspect_model.h"
#include "engine/cli/inspect_text.h"
#include "engine/cli/line_output.h"
#include "engine/runtime/terminal_line.h"

namespace hone::engine {
namespace {

using data::StoreSummary;

std::string time_text(int64_t microseconds) {
  if (microseconds == 0) return "unknown";
  const std::time_t seconds = static_cast<std::time_t>(microseconds / 1000000);
  std::tm utc{};
  char text[32] = "";
  if (gmtime_r(&seconds, &utc) != nullptr) {
    std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &utc);
  }
  return text;
}

std::string share_text(uint64_t part, uint64_t whole) {
  char text[64];
  std::snprintf(text, sizeof text, "%llu (%.1f %%)", static_cast<unsigned long long>(part),
                whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole));
  return text;
}

/// "train 80, test 20"; the largest eight.
template <class Key>
std::string counts_text(const std::map<Key, uint64_t>& counts) {
  constexpr std::size_t kShown = 8;
  std::vector<std::pair<uint64_t, std::string>> sorted;
  for (const auto& [key, count] : counts) {
    std::string name;
    if constexpr (std::is_same_v<Key, std::string>) {
      name = key.empty() ? "(none)" : printable(key);
    } else {
      name = std::to_string(key);
    }
    sorted.emplace_back(count, std::move(name));
  }
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::string text;
  for (std::size_t i = 0; i < std::min(sorted.size(), kShown); ++i) {
    text += (i ? ", " : "") + sorted[i].second + " " + std::to_string(sorted[i].first);
  }
  if (sorted.size() > kShown) text += ", " + std::to_string(sorted.size() - kShown) + " more";
  return text.empty() ? "none" : text;
}

std::string table_text(const std::string& directory, const StoreSummary& summary) {
  std::string text;
  text += labelled("store", directory);
  text += labelled("hash", summary.hash);
  text += labelled("segments",
                   std::to_string(summary.segments.size()) + ", " + bytes_text(summary.bytes));
  text += labelled("items", std::to_string(summary.items));
  text += labelled("  by split", counts_text(summary.items_by_split));
  text += labelled("  by source", counts_text(summary.items_by_source));
  text += labelled("groups", std::to_string(summary.groups));
  text += labelled("comparisons", std::to_string(summary.comparisons));
  if (summary.comparisons > 0) {
    text += labelled("  with ties", share_text(summary.with_ties, summary.comparisons));
    text += labelled("  both bad", share_text(summary.both_bad, summary.comparisons));
    text += labelled("  skipped", share_text(summary.skipped, summary.comparisons));
    text += labelled("  no rater", share_text(summary.without_rater, summary.comparisons));
    text += labelled("  by kind", counts_text(summary.comparisons_by_kind));
    text += labelled("  by size", counts_text(summary.comparisons_by_size));
  }
  text += labelled("ratings", std::to_string(summary.ratings));
  text += labelled("demonstrations", std::to_string(summary.demonstrations));
  if (summary.demonstrations > 0) {
    text += labelled("  by split", counts_text(summary.demonstrations_by_split));
  }
  text += labelled("raters", std::to_string(summary.raters));
  text += labelled("answers from", counts_text(summary.answers_by_source));
  text += labelled("first answer", time_text(summary.first_answer_us));
  text += labelled("last answer", time_text(summary.last_answer_us));
  if (summary.segments.empty()) return text;
  const auto segment_row = [&text](const char* format, const auto&... cells) {
    char line[256];
    std::snprintf(line, sizeof line, format, cells...);
    text += line;
  };
  segment_row("\n%-18s %10s %9s %9s %11s %14s  %s\n", "segment", "size", "items", "ratings",
              "comparisons", "demonstrations", "sealed");
  for (const data::SegmentInfo& segment : summary.segments) {
    using Count = unsigned long long;
    segment_row("%-18s %10s %9llu %9llu %11llu %14llu  %s\n", segment.name.c_str(),
                bytes_text(segment.bytes).c_str(), Count{segment.items}, Count{segment.ratings},
                Count{segment.comparisons}, Count{segment.demonstrations},
                printable(segment.created).c_str());
  }
  return text;
}

std::string journal_table(const data::JournalSummary& journal) {
  std::string text = labelled("journal", std::to_string(journal.audit_rows) + " rows");
  text += labelled("  audit hash", journal.audit_hash);
  text += labelled("  raters", std::to_string(journal.raters));
  text += labelled("  erasures", std::to_string(journal.erasures));
  char line[256];
  std::snprintf(line, sizeof line, "\n%-20s %9s %10s %7s %9s %9s %9s %8s\n", "project", "questions",
                "open slots", "leased", "complete", "escalated", "answers", "unsealed");
  text += line;
  for (std::size_t i = 0; i < journal.projects.size(); ++i) {
    const data::QueueCounts& counts = journal.counts[i];
    using Count = long long;
    std::snprintf(line, sizeof line, "%-20s %9lld %10lld %7lld %9lld %9lld %9lld %8lld\n",
                  journal.projects[i].id.c_str(), Count{counts.questions}, Count{counts.open_slots},
                  Count{counts.leased}, Count{counts.complete}, Count{counts.escalated},
                  Count{counts.answers}, Count{counts.unsealed});
    text += line;
  }
  return text;
}

nlohmann::ordered_json journal_json(const data::JournalSummary& journal) {
  nlohmann::ordered_json json = {{"rows", journal.audit_rows},
                                 {"audit_hash", journal.audit_hash},
                                 {"raters", journal.raters},
                                 {"erasures", journal.erasures}};
  auto& projects = json["projects"] = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < journal.projects.size(); ++i) {
    const data::QueueCounts& counts = journal.counts[i];
    projects.push_back({{"id", journal.projects[i].id},
                        {"title", journal.projects[i].title},
                        {"guideline_hash", journal.projects[i].guideline_hash},
                        {"questions", counts.questions},
                        {"open_slots", counts.open_slots},
                        {"leased", counts.leased},
                        {"complete", counts.complete},
                        {"escalated", counts.escalated},
                        {"leases_expired", counts.leases_expired},
                        {"answers", counts.answers},
                        {"unsealed", counts.unsealed}});
  }
  return json;
}

nlohmann::ordered_json to_json(const StoreSummary& summary) {
  nlohmann::ordered_json json = {{"hash", summary.hash},
                                 {"bytes", summary.bytes},
                                 {"items", summary.items},
                                 {"ratings", summary.ratings},
                                 {"comparisons", summary.comparisons},
                                 {"demonstrations", summary.demonstrations},
                                 {"answers", summary.answers},
                                 {"groups", summary.groups},
                                 {"raters", summary.raters},
                                 {"comparisons_without_rater", summary.without_rater},
                                 {"strict", summary.strict},
                                 {"with_ties", summary.with_ties},
                                 {"both_bad", summary.both_bad},
                                 {"skipped", summary.skipped},
                                 {"items_by_split", summary.items_by_split},
                                 {"items_by_source", summary.items_by_source},
                                 {"demonstrations_by_split", summary.demonstrations_by_split},
                                 {"comparisons_by_kind", summary.comparisons_by_kind},
                                 {"answers_by_source", summary.answers_by_source},
                                 {"first_answer_us", summary.first_answer_us},
                                 {"last_answer_us", summary.last_answer_us}};
  auto& sizes = json["comparisons_by_size"] = nlohmann::ordered_json::object();
  for (const auto& [size, count] : summary.comparisons_by_size) {
    sizes[std::to_string(size)] = count;
  }
  auto& segments = json["segments"] = nlohmann::ordered_json::array();
  for (const data::SegmentInfo& segment : summary.segments) {
    segments.push_back({{"name", segment.name},
                        {"bytes", segment.bytes},
                        {"items", segment.items},
                        {"ratings", segment.ratings},
                        {"comparisons", segment.comparisons},
                        {"demonstrations", segment.demonstrations},
                        {"sha256", segment.sha256},
                        {"created", segment.created}});
  }
  return json;
}

/// Answers to pairs that a reward model selected, sealed or not; nothing where nobody has answered.
std::vector<data::PoolAccuracy> selected_pools(const std::string& store,
                                               const StoreSummary& summary,
                                               const std::optional<data::JournalSummary>& journal) {
  const bool answered =
      summary.answers > 0 ||
      (journal && std::any_of(journal->counts.begin(), journal->counts.end(),
                              [](const auto& counts) { return counts.answers > 0; }));
  return answered ? data::pool_accuracy(data::read_feedback(store))
                  : std::vector<data::PoolAccuracy>{};
}

std::string pools_table(const std::vector<data::PoolAccuracy>& pools) {
  std::string text;
  for (const auto& pool : pools) {
    text += labelled("reward model", printable(pool.reward_hash));
    text += labelled("  selected", std::to_string(pool.questions) + " answered of a pool of " +
                                       std::to_string(pool.pool) + " pairs");
    char line[160];
    std::snprintf(line, sizeof line, "%.1f %%", 100 * pool.asked);
    text += labelled("  right, asked", line);
    if (pool.accuracy) {
      std::snprintf(line, sizeof line, "%.1f %% (s.e. %.1f), weighted by 1 / propensity",
                    100 * *pool.accuracy, 100 * *pool.error);
    } else {
      std::snprintf(line, sizeof line,
                    "unknown: no pair drawn by chance has an answer that decides");
    }
    text += labelled("  right, pool", line);
  }
  return text;
}

nlohmann::ordered_json pools_json(const std::vector<data::PoolAccuracy>& pools) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const auto& pool : pools) {
    json.push_back({{"reward_model", pool.reward_hash},
                    {"answers", pool.answers},
                    {"questions", pool.questions},
                    {"pool", pool.pool},
                    {"accuracy_asked", pool.asked},
                    {"accuracy", nullptr},
                    {"standard_error", nullptr}});
    if (!pool.accuracy) continue;
    json.back()["accuracy"] = *pool.accuracy;
    json.back()["standard_error"] = *pool.error;
  }
  return json;
}

struct InspectArguments {
  std::string path;
  bool json = false;
};

void run_inspect(const InspectArguments& arguments) {
  if (is_model_directory(arguments.path)) {
    LineOutput("-").write(describe_model(arguments.path, arguments.json));
    return;
  }
  const StoreSummary summary = data::summarize(data::Store::open(arguments.path));
  const auto journal = data::summarize_journal(arguments.path);
  std::string text = table_text(arguments.path, summary);
  if (journal) text += "\n" + journal_table(*journal);
  const auto pools = selected_pools(arguments.path, summary, journal);
  if (!pools.empty()) text += "\n" + pools_table(pools);
  if (arguments.json) {
    nlohmann::ordered_json json = to_json(summary);
    if (journal) json["journal"] = journal_json(*journal);
    if (!pools.empty()) json["selected"] = pools_json(pools);
    text = json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }
  text.pop_back();  // write() ends the line
  LineOutput("-").write(text);
}

}  // namespace

void add_inspect_command(CLI::App& app) {
  auto arguments = std::make_shared<InspectArguments>();
  auto* command =
      app.add_subcommand("inspect", "Say what is in a store and its journal, or a model");
  command
      ->add_option("path", arguments->path,
                   "Directory of a store, or of a model (one with a config.json)")
      ->required();
  command->add_flag("--json", arguments->json, "As one JSON object");
  command->footer(
      "Examples:\n"
      "  hone inspect feedback\n"
      "  hone inspect runs/quickstart/policy\n"
      "  hone inspect feedback --json | jq .raters");
  command->callback([arguments] { run_inspect(*arguments); });
}

}  // namespace hone::engine
