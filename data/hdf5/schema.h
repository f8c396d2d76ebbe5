#pragma once

// Which field of which record is which column: the one list that writing, reading and verifying
// walk. A visitor is called with (column name, accessor); the accessor takes a record, const or
// not, and returns a reference to the field. Changing this list changes data/FORMAT.md.

#include <cstdint>
#include <string>

#include "data/records.h"

namespace hone::data::hdf5 {

constexpr const char* kSegmentFormat = "hone-feedback-segment";
/// Newest version of segments that this program writes and reads.
constexpr int64_t kSegmentVersion = 2;
/// Version of a segment that has only the kinds of version 1: older programs read it as well.
constexpr int64_t kFirstSegmentVersion = 1;

template <class Record>
struct Schema;

#define HONE_COLUMN(field) \
  [](auto& record) -> auto& { return record.field; }

template <class Visitor>
void visit_provenance(Visitor& column) {
  column("source", HONE_COLUMN(provenance.source));
  column("kind", HONE_COLUMN(provenance.kind));
  column("reward_hash", HONE_COLUMN(provenance.reward_hash));
  column("guideline_hash", HONE_COLUMN(provenance.guideline_hash));
  column("propensity", HONE_COLUMN(provenance.propensity));
  column("served_us", HONE_COLUMN(provenance.served_us));
  column("answered_us", HONE_COLUMN(provenance.answered_us));
  column("supersedes", HONE_COLUMN(provenance.supersedes));
}

template <>
struct Schema<Item> {
  static constexpr const char* kGroup = "items";
  template <class Visitor>
  static void visit(Visitor&& column) {
    column("id", HONE_COLUMN(id));
    column("prompt", HONE_COLUMN(prompt));
    column("text", HONE_COLUMN(text));
    column("prompt_is_messages", HONE_COLUMN(prompt_is_messages));
    column("group", HONE_COLUMN(group));
    column("split", HONE_COLUMN(split));
    column("source", HONE_COLUMN(source));
    column("policy_hash", HONE_COLUMN(policy_hash));
  }
};

template <>
struct Schema<Rating> {
  static constexpr const char* kGroup = "ratings";
  template <class Visitor>
  static void visit(Visitor&& column) {
    column("item", HONE_COLUMN(item));
    column("rater", HONE_COLUMN(rater));
    column("dimension", HONE_COLUMN(dimension));
    column("value", HONE_COLUMN(value));
    visit_provenance(column);
  }
};

template <>
struct Schema<Comparison> {
  static constexpr const char* kGroup = "comparisons";
  template <class Visitor>
  static void visit(Visitor&& column) {
    column("id", HONE_COLUMN(id));
    column("items", HONE_COLUMN(items));
    column("ranks", HONE_COLUMN(ranks));
    column("shown", HONE_COLUMN(shown));
    column("outcome", HONE_COLUMN(outcome));
    column("strength", HONE_COLUMN(strength));
    column("skip_reason", HONE_COLUMN(skip_reason));
    column("rationale", HONE_COLUMN(rationale));
    column("rater", HONE_COLUMN(rater));
    visit_provenance(column);
  }
};

template <>
struct Schema<Demonstration> {
  static constexpr const char* kGroup = "demonstrations";
  template <class Visitor>
  static void visit(Visitor&& column) {
    column("id", HONE_COLUMN(id));
    column("prompt", HONE_COLUMN(prompt));
    column("completion", HONE_COLUMN(completion));
    column("prompt_is_messages", HONE_COLUMN(prompt_is_messages));
    column("group", HONE_COLUMN(group));
    column("split", HONE_COLUMN(split));
    column("rater", HONE_COLUMN(rater));
    column("weight", HONE_COLUMN(weight));
    visit_provenance(column);
  }
};

template <>
struct Schema<Answer> {
  static constexpr const char* kGroup = "answers";
  template <class Visitor>
  static void visit(Visitor&& column) {
    column("id", HONE_COLUMN(id));
    column("sequence", HONE_COLUMN(sequence));
    column("receipt", HONE_COLUMN(receipt));
    column("question", HONE_COLUMN(question));
    column("project", HONE_COLUMN(project));
    column("question_kind", HONE_COLUMN(kind));
    column("purpose", HONE_COLUMN(purpose));
    column("same", HONE_COLUMN(same));
    column("body", HONE_COLUMN(body));
    column("items", HONE_COLUMN(items));
    column("shown", HONE_COLUMN(shown));
    column("candidates", HONE_COLUMN(candidates));
    column("rater", HONE_COLUMN(rater));
    column("session", HONE_COLUMN(session));
    column("acquisition", HONE_COLUMN(acquisition));
    column("visible_ms", HONE_COLUMN(visible_ms));
    column("first_input_ms", HONE_COLUMN(first_input_ms));
    column("submit_ms", HONE_COLUMN(submit_ms));
    column("seen_ms", HONE_COLUMN(seen_ms));
    column("focus_losses", HONE_COLUMN(focus_losses));
    column("pasted_chars", HONE_COLUMN(pasted_chars));
    column("typed_chars", HONE_COLUMN(typed_chars));
    column("device", HONE_COLUMN(device));
    column("ui", HONE_COLUMN(ui));
    column("offline", HONE_COLUMN(offline));
    visit_provenance(column);
  }
};

template <>
struct Schema<Correction> {
  static constexpr const char* kGroup = "corrections";
  template <class Visitor>
  static void visit(Visitor&& column) {
    column("answer", HONE_COLUMN(answer));
    column("item", HONE_COLUMN(item));
    column("text", HONE_COLUMN(text));
  }
};

template <>
struct Schema<Span> {
  static constexpr const char* kGroup = "spans";
  template <class Visitor>
  static void visit(Visitor&& column) {
    column("answer", HONE_COLUMN(answer));
    column("item", HONE_COLUMN(item));
    column("begin", HONE_COLUMN(begin));
    column("end", HONE_COLUMN(end));
    column("label", HONE_COLUMN(label));
  }
};

template <>
struct Schema<Step> {
  static constexpr const char* kGroup = "steps";
  template <class Visitor>
  static void visit(Visitor&& column) {
    column("answer", HONE_COLUMN(answer));
    column("item", HONE_COLUMN(item));
    column("step", HONE_COLUMN(step));
    column("value", HONE_COLUMN(value));
  }
};

template <>
struct Schema<Review> {
  static constexpr const char* kGroup = "reviews";
  template <class Visitor>
  static void visit(Visitor&& column) {
    column("answer", HONE_COLUMN(answer));
    column("item", HONE_COLUMN(item));
    column("approved", HONE_COLUMN(approved));
  }
};

template <>
struct Schema<Flag> {
  static constexpr const char* kGroup = "flags";
  template <class Visitor>
  static void visit(Visitor&& column) {
    column("answer", HONE_COLUMN(answer));
    column("flag", HONE_COLUMN(flag));
  }
};

#undef HONE_COLUMN

}  // namespace hone::data::hdf5
