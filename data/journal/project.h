#pragma once

// A project: what raters are asked, by which rules. Read from project.toml; kept in the journal,
// every version of it, so that each answer names the guideline that was on screen.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace hone::data {

enum class QuestionKind : uint8_t {
  kPairwise = 0,       // which of two, how strongly; tie; both bad
  kRanking = 1,        // order k candidates, ties and unranked ones allowed
  kRating = 2,         // numbers on one or several dimensions, for each candidate
  kDemonstration = 3,  // write an answer
  kCorrection = 4,     // edit one candidate
  kSpans = 5,          // mark pieces of one candidate
  kSteps = 6,          // judge each step (paragraph) of one candidate
  kReview = 7,         // yes or no to one output, which is released only on a yes
};
std::string_view kind_name(QuestionKind kind);  // "pairwise", ...
QuestionKind parse_kind(std::string_view name, const std::string& where);

struct RatingDimension {
  std::string name, label;  // "helpfulness", "How helpful is it?"
  int64_t low = 1, high = 7;
  std::string low_label, high_label;
};

struct Project {
  std::string id = "default";  // [a-z0-9-]{1,40}
  std::string title;
  std::string guideline;       // Markdown
  std::string guideline_hash;  // SHA-256 of it; filled in by the journal
  std::vector<RatingDimension> dimensions;
  std::vector<std::string> span_labels;  // kSpans
  std::vector<std::string> flags = {"unsafe", "personal-data", "wrong-language", "cannot-judge"};
  std::vector<std::string> languages;    // codes offered; empty: any
  std::vector<std::string> scrub;        // further names never to be shown ("model names")
  int64_t overlap = 1;                   // accepted answers a question
  double gold_share = 0.0;               // of what a rater sees
  double repeat_share = 0.05;            // own questions again, sides swapped
  int64_t dwell_ms = 700;                // least time before an answer is taken ...
  int64_t dwell_ms_per_100_chars = 120;  // ... and for each 100 characters of the candidates,
  int64_t dwell_max_ms = 15000;          // but never longer than this
  int64_t lease_s = 600;                 // an assignment not answered by then goes to others
  int64_t session_answers = 0;           // answers before a break of half an hour; 0: no cap
  int64_t session_minutes = 0;           // 0: no cap
  int64_t daily_answers = 0;             // a rater a day; 0: no cap
  int64_t qualification_questions = 0;   // asked first; 0: none
  double qualification_share = 0.7;      // of them right, to go on
  double rationale_share = 0.1;          // of answers after which a reason is asked
  std::string join = "invitation";       // or "open": anyone who reaches the page may rate
  int64_t seed = 0;                      // keys the left/right order together with a store secret

  /// Reads project.toml (`guideline_file` is relative to it). InputError names file, line and key.
  static Project load(const std::filesystem::path& file);
  std::string to_toml() const;
};

/// The same from text; `folder` is what guideline_file is relative to.
Project parse_project(std::string_view toml, const std::string& where,
                      const std::filesystem::path& folder = {});

/// Throws InputError "<where>: <key>: ..." for a value out of its range.
void check_project(const Project& project, const std::string& where);

/// The same for a text that is no plain text (data/plain_text.h). Asked of what comes in, not of
/// what an older version stored.
void check_project_text(const Project& project, const std::string& where);

}  // namespace hone::data
