// What can be read of the journal while it is written.

#include <algorithm>

#include "data/journal/journal_impl.h"

namespace hone::data {
namespace {

constexpr int64_t kMedianOver = 200;  // latest answers

double median_seconds(sqlite::Database& database, const std::string& rater,
                      const std::string& project) {
  std::vector<int64_t> times;
  auto& rows = database.prepared(
      "SELECT answered_us - served_us FROM answers WHERE rater = ? AND project = ? AND type = 0"
      " ORDER BY sequence DESC LIMIT ?");
  rows.bind_all(rater, project, kMedianOver);
  while (rows.step()) times.push_back(rows.integer(0));
  rows.reset();
  if (times.empty()) return 0.0;
  std::sort(times.begin(), times.end());
  const std::size_t middle = times.size() / 2;
  const double sum = times.size() % 2 == 1 ? 2.0 * static_cast<double>(times[middle])
                                           : static_cast<double>(times[middle - 1] + times[middle]);
  return sum / 2.0 / kMicroseconds;
}

int64_t one_number(sqlite::Statement& row) {
  const int64_t number = row.step() ? row.integer(0) : 0;
  row.reset();
  return number;
}

/// Rows after a sequence, of types up to `last_type`; an erasure is of every project.
std::vector<JournalAnswer> read_rows(ReaderPool& readers, int64_t after, int64_t limit,
                                     const std::string& project, RowType last_type) {
  return readers.read([&](sqlite::Database& database) {
    std::vector<JournalAnswer> answers;
    auto& rows = database.prepared(
        std::string("SELECT ") + kAnswerColumns +
        ", (SELECT kind FROM questions WHERE seq = a.question),"
        " EXISTS (SELECT 1 FROM answers u WHERE u.type = 1 AND u.supersedes = a.sequence),"
        " EXISTS (SELECT 1 FROM unsealed u WHERE u.sequence = a.sequence),"
        " (SELECT content FROM question_content WHERE seq = a.question AND (SELECT kind FROM"
        " questions WHERE seq = a.question) = 5 AND a.type = 0)"
        " FROM answers a WHERE type <= ?4 AND sequence > ?1 AND (?2 = '' OR project = ?2 OR"
        " type = 2) ORDER BY sequence LIMIT ?3");
    rows.bind_all(after, project, limit, last_type);
    while (rows.step()) {
      AnswerRow row = read_answer_row(rows);
      constexpr int kKind = 19;
      JournalAnswer answer;
      answer.type = row.type;
      answer.sequence = row.sequence;
      if (row.type == RowType::kErasure) {
        answer.erased = erased_rows(row);
        answer.answered_us = row.answered_us;
        answers.push_back(std::move(answer));
        continue;
      }
      answer.project = std::move(row.project);
      answer.question = std::move(row.question_id);
      answer.rater = std::move(row.rater);
      answer.kind = kind_name(static_cast<QuestionKind>(rows.integer(kKind)));
      answer.body = std::move(row.body);
      answer.client = std::move(row.client);
      answer.idempotency_key = std::move(row.key);
      answer.shown = std::move(row.shown);
      answer.served_us = row.served_us;
      answer.answered_us = row.answered_us;
      answer.supersedes = row.supersedes;
      answer.undone = rows.integer(kKind + 1) != 0;
      answer.gold = row.purpose == Purpose::kGold || row.purpose == Purpose::kQualification;
      answer.gold_right = answer.gold && row.same == 1;
      answer.repeat = row.purpose == Purpose::kRepeat;
      answer.escalation = row.purpose == Purpose::kEscalation;
      answer.sealed =
          row.type == RowType::kAnswer && !answer.undone && rows.integer(kKind + 2) == 0;
      answer.guideline_hash = std::move(row.guideline_hash);
      if (!rows.is_null(kKind + 3)) {
        for (const Candidate& one :
             stored_question(rows.text(kKind + 3), database.name()).candidates) {
          answer.lengths.push_back(code_points(one.text));
        }
      }
      answers.push_back(std::move(answer));
    }
    rows.reset();
    return answers;
  });
}

}  // namespace

// A clock that jumped, by more than a break, begins a new sitting too: otherwise one that once ran
// ahead would hold a rater's last one open until it is caught up with.

std::optional<Sitting> current_sitting(sqlite::Database& database, const std::string& rater,
                                       const std::string& project, int64_t now_us) {
  auto& row = database.prepared(
      "SELECT first_us, last_us, answers FROM sittings WHERE rater = ? AND project = ? AND"
      " abs(? - last_us) <= ?");
  row.bind_all(rater, project, now_us, kBreakUs);
  std::optional<Sitting> sitting;
  if (row.step()) sitting = {row.integer(0), row.integer(1), row.integer(2)};
  row.reset();
  return sitting;
}

void note_sitting(sqlite::Database& database, const std::string& rater, const std::string& project,
                  int64_t now_us, int64_t answers) {
  const auto sitting = current_sitting(database, rater, project, now_us);
  database.run("INSERT OR REPLACE INTO sittings VALUES(?, ?, ?, ?, ?)", rater, project,
               sitting ? sitting->first_us : now_us, now_us,
               answers + (sitting ? sitting->answers : 0));
}

RaterStatistics Journal::statistics(const RaterRef& rater, const std::string& project,
                                    int64_t now_us) const {
  const ProjectPointer rules = impl_->project(project);
  return impl_->readers.read([&](sqlite::Database& database) {
    RaterStatistics statistics;
    int64_t asked = 0, right = 0;
    auto& row = database.prepared(
        "SELECT answers, skips, ties, repeats, repeats_same, qualification, qualification_right"
        " FROM standing WHERE rater = ? AND project = ?");
    row.bind_all(rater.pseudonym, project);
    if (row.step()) {
      statistics.answers = row.integer(0);
      statistics.skips = row.integer(1);
      statistics.ties = row.integer(2);
      statistics.repeats = row.integer(3);
      statistics.repeats_same = row.integer(4);
      asked = row.integer(5);
      right = row.integer(6);
    }
    row.reset();
    const auto sitting = current_sitting(database, rater.pseudonym, project, now_us);
    statistics.session_answers = sitting ? sitting->answers : 0;
    statistics.today_answers = one_number(
        database.prepared("SELECT answers FROM days WHERE rater = ? AND project = ? AND day = ?")
            .bind_all(rater.pseudonym, project, now_us / kDay));
    statistics.median_seconds = median_seconds(database, rater.pseudonym, project);
    const int64_t there =
        one_number(database
                       .prepared("SELECT count(*) FROM questions WHERE project = ? AND purpose = 2"
                                 " AND purpose > 0")
                       .bind_all(project));
    const int64_t needed = std::min(rules->qualification_questions, std::max(there, asked));
    statistics.qualification_left = std::max<int64_t>(0, needed - asked);
    statistics.qualified =
        statistics.qualification_left == 0 &&
        (asked == 0 ||
         static_cast<double>(right) >= rules->qualification_share * static_cast<double>(asked));
    return statistics;
  });
}

QueueCounts Journal::counts(const std::string& project) const {
  return impl_->readers.read([&](sqlite::Database& database) {
    QueueCounts counts;
    auto& row = database.prepared(
        "SELECT sum(questions), sum(open_slots), sum(leased), sum(complete), sum(escalated),"
        " sum(leases_expired), sum(answers) FROM queue_counts WHERE ?1 = '' OR project = ?1");
    row.bind_all(project);
    if (row.step()) {
      counts.questions = row.integer(0);
      counts.open_slots = row.integer(1);
      counts.leased = row.integer(2);
      counts.complete = row.integer(3);
      counts.escalated = row.integer(4);
      counts.leases_expired = row.integer(5);
      counts.answers = row.integer(6);
    }
    row.reset();
    counts.unsealed = one_number(database.prepared("SELECT count(*) FROM unsealed"));
    return counts;
  });
}

std::vector<JournalAnswer> Journal::answers(int64_t after, int64_t limit,
                                            const std::string& project) const {
  return read_rows(impl_->readers, after, limit, project, RowType::kAnswer);
}

std::vector<JournalAnswer> Journal::rows(int64_t after, int64_t limit,
                                         const std::string& project) const {
  return read_rows(impl_->readers, after, limit, project, RowType::kErasure);
}

}  // namespace hone::data
