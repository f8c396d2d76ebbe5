// What the rater sees of a question that is theirs for a time.

#include "data/error.h"
#include "data/journal/journal_impl.h"
#include "data/journal/scrub.h"

namespace hone::data {

Question load_content(sqlite::Database& database, int64_t seq) {
  auto& row = database.prepared("SELECT content FROM question_content WHERE seq = ?");
  row.bind_all(seq);
  if (!row.step()) {
    throw CorruptError(database.name(), "question_content", "row " + std::to_string(seq), "none");
  }
  const std::string content = row.text(0);
  row.reset();
  return stored_question(content, database.name());
}

std::vector<std::string> shown_texts(const Question& question, const std::vector<uint8_t>& shown,
                                     const Project& project) {
  std::vector<std::string> texts;
  for (const uint8_t index : shown) {
    texts.push_back(scrub_names(question.candidates.at(index).text, project.scrub));
  }
  return texts;
}

Assignment make_assignment(const Lease& lease, const Question& question, const Project& project) {
  Assignment assignment;
  assignment.id = lease.id;
  assignment.token = lease.token;
  assignment.project = lease.project;
  assignment.guideline_hash = lease.guideline_hash;
  assignment.kind = question.kind;
  assignment.prompt = question.prompt;
  assignment.prompt_is_messages = question.prompt_is_messages;
  assignment.texts = shown_texts(question, lease.shown, project);
  assignment.language = question.language;
  assignment.served_us = lease.served_us;
  assignment.expires_us = lease.expires_us;
  assignment.dwell_ms = lease.dwell_ms;
  assignment.ask_rationale = lease.ask_rationale;
  assignment.escalated = lease.purpose == Purpose::kEscalation;
  assignment.draft = lease.draft;
  return assignment;
}

std::vector<std::string> others_answers(sqlite::Database& database, const Asked& decision) {
  std::vector<std::string> others;
  if (decision.purpose != Purpose::kEscalation) return others;
  auto& rows = database.prepared(
      "SELECT shown, body FROM answers a WHERE question = ? AND type = 0 AND purpose = 0 AND NOT"
      " EXISTS (SELECT 1 FROM answers u WHERE u.type = 1 AND u.supersedes = a.sequence)"
      " ORDER BY sequence");
  rows.bind_all(decision.question);
  while (rows.step()) {
    const std::string bytes = rows.text(0);
    const std::vector<uint8_t> shown(bytes.begin(), bytes.end());
    others.push_back(
        by_position(by_candidate(parse_body(rows.text(1)), shown), decision.shown).dump());
  }
  rows.reset();
  return others;
}

}  // namespace hone::data
