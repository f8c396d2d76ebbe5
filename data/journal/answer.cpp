// Answers and their taking back: one transaction each.

#include <algorithm>

#include "data/error.h"
#include "data/journal/journal_impl.h"
#include "data/journal/keyed_order.h"
#include "data/journal/scrub.h"

namespace hone::data {
namespace {

constexpr std::size_t kMostKeyBytes = 200, kMostClientBytes = 16 << 10;

bool has_repeats(QuestionKind kind) {
  return kind == QuestionKind::kPairwise || kind == QuestionKind::kRanking ||
         kind == QuestionKind::kRating || kind == QuestionKind::kReview;
}

/// What an answer changes besides the question, with `sign` +1 when given and -1 when taken back.
void count_answer(sqlite::Database& database, const AnswerRow& answer, const BodyJson& body,
                  int64_t sign) {
  const bool repeat = answer.purpose == Purpose::kRepeat && answer.same >= 0;
  const bool gold = answer.purpose == Purpose::kGold && answer.same >= 0;
  const bool qualification = answer.purpose == Purpose::kQualification;
  const int64_t same = answer.same == 1 ? sign : 0;
  database.run(
      "UPDATE standing SET answers = answers + ?, skips = skips + ?, ties = ties + ?, repeats ="
      " repeats + ?, repeats_same = repeats_same + ?, gold = gold + ?, gold_right = gold_right + ?,"
      " qualification = qualification + ?, qualification_right = qualification_right + ?"
      " WHERE rater = ? AND project = ?",
      sign, outcome_of(body) == "skipped" ? sign : 0, is_tie(body) ? sign : 0, repeat ? sign : 0,
      repeat ? same : 0, gold ? sign : 0, gold ? same : 0, qualification ? sign : 0,
      qualification ? same : 0, answer.rater, answer.project);
  if (sign > 0) {
    note_sitting(database, answer.rater, answer.project, answer.answered_us, 1);
  } else {
    database.run(
        "UPDATE sittings SET answers = answers - 1 WHERE rater = ? AND project = ? AND answers > 0"
        " AND first_us <= ?",
        answer.rater, answer.project, answer.answered_us);
  }
  database.run(
      "INSERT INTO days VALUES(?, ?, ?, ?)"
      " ON CONFLICT DO UPDATE SET answers = answers + excluded.answers",
      answer.rater, answer.project, answer.answered_us / kDay, sign);
  if (answer.shown.size() >= 2) {
    database.run(
        "INSERT INTO shifts VALUES(?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET answers = answers + excluded.answers",
        answer.rater, answer.project, answer.shown.size(), answer.row / 2, sign);
  }
  add_to_count(database, answer.project, "answers", sign);
}

/// The rater's answer that a repeat is compared with.
std::optional<AnswerRow> first_answer(sqlite::Database& database, const std::string& rater,
                                      int64_t question) {
  auto& row =
      database.prepared(std::string("SELECT ") + kAnswerColumns +
                        " FROM answers a WHERE question = ? AND rater = ? AND type = 0 AND purpose "
                        "<> 3 AND NOT EXISTS"
                        " (SELECT 1 FROM answers u WHERE u.type = 1 AND u.supersedes = a.sequence)"
                        " ORDER BY sequence DESC LIMIT 1");
  row.bind_all(question, rater);
  std::optional<AnswerRow> answer;
  if (row.step()) answer = read_answer_row(row);
  row.reset();
  return answer;
}

int64_t compare_with_known(sqlite::Database& database, const Lease& lease, const Question& question,
                           const Project& project, const BodyJson& body) {
  const BodyJson said = by_candidate(body, lease.shown);
  if (lease.purpose == Purpose::kGold || lease.purpose == Purpose::kQualification) {
    const bool right = same_answer(said, parse_body(question.gold), question.kind, true, project);
    // Whoever passes over a gold question has not got it wrong; a qualification question, they
    // have.
    if (!right && !is_answer(body) && lease.purpose == Purpose::kGold) return -1;
    return right ? 1 : 0;
  }
  if (lease.purpose != Purpose::kRepeat || !is_answer(body)) return -1;
  const auto first = first_answer(database, lease.rater, lease.question);
  if (!first) return -1;
  const BodyJson before = by_candidate(parse_body(first->body), first->shown);
  return same_answer(said, before, question.kind, false, project) ? 1 : 0;
}

void move_question(sqlite::Database& database, const Lease& lease, const BodyJson& body,
                   int64_t& stamp) {
  const QuestionRow before = load_question(database, lease.question);
  QuestionRow row = before;
  if (lease.purpose == Purpose::kOrdinary) {
    --row.leased;
    if (is_answer(body)) ++row.accepted;
    if (!flags_of(body).empty() && row.state != QuestionState::kDecided) {
      row.state = QuestionState::kEscalated;
    }
  } else if (lease.purpose == Purpose::kEscalation) {
    row.expert_leased = false;
    if (outcome_of(body) != "skipped") row.state = QuestionState::kDecided;
  } else {
    return;
  }
  row.stamp = ++stamp;
  save_question(database, before, row);
}

std::optional<Receipt> earlier_receipt(sqlite::Database& database, const std::string& rater,
                                       const std::string& key) {
  auto& found = database.prepared(std::string("SELECT ") + kAnswerColumns +
                                  ", (SELECT hash FROM audit WHERE sequence = a.sequence) FROM"
                                  " answers a WHERE rater = ? AND key = ? AND key <> ''");
  found.bind_all(rater, key);
  if (!found.step()) {
    found.reset();
    return std::nullopt;
  }
  constexpr int kHash = 19;
  const AnswerRow row = read_answer_row(found);
  Receipt receipt{row.sequence, found.text(kHash), row.answered_us, true, {}};
  found.reset();
  receipt.others = others_answers(database, row);
  return receipt;
}

Lease require_lease(sqlite::Database& database, const RaterRef& rater, const std::string& id,
                    int64_t token) {
  const auto lease = lease_by_id(database, id);
  if (!lease || lease->rater != rater.pseudonym) {
    throw LeaseError("answer", "assignment", "one that is yours", "one that is over");
  }
  if (lease->token != token) {
    throw LeaseError("answer", "token", "that of the assignment", "another");
  }
  return *lease;
}

void check_request(const AnswerRequest& request) {
  const auto& key = request.idempotency_key;
  if (key.empty() || key.size() > kMostKeyBytes) {
    throw InputError("answer", "idempotency key", "1 to 200 bytes", std::to_string(key.size()));
  }
  if (request.client.size() > kMostClientBytes) {
    throw InputError("answer", "client", "at most 16384 bytes",
                     std::to_string(request.client.size()));
  }
  if (!request.client.empty()) {
    const auto client = BodyJson::parse(request.client, nullptr, false);
    if (!client.is_object()) throw InputError("answer", "client", "a JSON object", "another");
  }
}

void accept(Journal::Impl& journal, sqlite::Database& database, const RaterRef& rater,
            const AnswerRequest& request, const BodyJson& parsed, int64_t now_us,
            Receipt& receipt) {
  if (const auto earlier = earlier_receipt(database, rater.pseudonym, request.idempotency_key)) {
    receipt = *earlier;
    return;
  }
  const Lease lease = require_lease(database, rater, request.assignment, request.token);
  if (!lease.live || lease.expires_us <= now_us) {
    if (!lease.live && !slot_is_free(database, lease)) {
      throw LeaseError("answer", "assignment", "one that is still yours",
                       "one that expired and is another rater's now");
    }
    if (!lease.live) take_slot(database, lease);  // so that what follows gives it back
  }
  const ProjectPointer project = journal.project(lease.project);
  const Question question = load_content(database, lease.question);
  BodyJson body = parsed;
  check_body(body, question.kind, shown_texts(question, lease.shown, *project), *project);
  // A clock that was set back says nothing of how long somebody read.
  const int64_t read_us = now_us - lease.served_us;
  if (is_answer(body) && read_us >= 0 && read_us < lease.dwell_ms * 1000) {
    throw InputError("answer", "time", std::to_string(lease.dwell_ms) + " ms of reading first",
                     std::to_string(read_us / 1000) + " ms");
  }
  if (question.kind == QuestionKind::kCorrection && is_answer(body)) {
    const auto position = body["position"].get<std::size_t>();
    const std::string& original = question.candidates[lease.shown[position]].text;
    body["text"] = unscrub_names(body["text"].get<std::string>(), original, project->scrub);
  }
  AnswerRow answer(lease);
  answer.question_id = question.id;
  answer.key = request.idempotency_key;
  answer.body = body.dump();
  answer.client = request.client;
  answer.answered_us = now_us;
  answer.same = compare_with_known(database, lease, question, *project, body);
  const std::string hash = append_row(database, answer);
  receipt = {answer.sequence, hash, now_us, false, others_answers(database, answer)};
  move_question(database, lease, body, journal.stamp);
  database.run("DELETE FROM leases WHERE id = ?", lease.id);
  database.run("INSERT INTO taken VALUES(?, ?) ON CONFLICT DO NOTHING", lease.rater,
               lease.question);
  database.run("INSERT INTO unsealed VALUES(?, ?, 0)", answer.sequence, lease.rater);
  if (lease.purpose == Purpose::kRepeat) {
    database.run("DELETE FROM repeatable WHERE rater = ? AND project = ? AND question = ?",
                 lease.rater, lease.project, lease.question);
  } else if (lease.purpose == Purpose::kOrdinary && is_answer(body) && has_repeats(question.kind)) {
    database.run(
        "INSERT INTO repeatable(rater, project, number, question, answer) SELECT rater, project,"
        " answers, ?, ? FROM standing WHERE rater = ? AND project = ?",
        lease.question, answer.sequence, lease.rater, lease.project);
  }
  count_answer(database, answer, body, 1);
}

/// The rater's last answer that has not been taken back.
AnswerRow last_answer(sqlite::Database& database, const std::string& rater) {
  // A rater has few projects, each of which is one look into an index.
  auto& row = database.prepared(
      std::string("SELECT ") + kAnswerColumns +
      " FROM answers a WHERE sequence = (SELECT max(last) FROM (SELECT (SELECT sequence FROM "
      "answers"
      " b WHERE b.rater = s.rater AND b.project = s.project AND b.type = 0 AND NOT EXISTS (SELECT 1"
      " FROM answers u WHERE u.type = 1 AND u.supersedes = b.sequence) ORDER BY sequence DESC"
      " LIMIT 1) AS last FROM standing s WHERE s.rater = ?))");
  row.bind_all(rater);
  if (!row.step()) {
    row.reset();
    throw InputError("undo", "answer", "one to take back", "none");
  }
  AnswerRow answer = read_answer_row(row);
  row.reset();
  return answer;
}

bool is_unsealed(sqlite::Database& database, int64_t sequence) {
  auto& row = database.prepared("SELECT 1 FROM unsealed WHERE sequence = ? AND sealing = 0");
  row.bind_all(sequence);
  const bool found = row.step();
  row.reset();
  return found;
}

bool is_flagged_by_others(sqlite::Database& database, int64_t question, int64_t except) {
  bool flagged = false;
  auto& rows = database.prepared(
      "SELECT body FROM answers a WHERE question = ? AND type = 0 AND purpose = 0 AND sequence <> ?"
      " AND NOT EXISTS (SELECT 1 FROM answers u WHERE u.type = 1 AND u.supersedes = a.sequence)");
  rows.bind_all(question, except);
  while (rows.step()) flagged = flagged || !flags_of(parse_body(rows.text(0))).empty();
  rows.reset();
  return flagged;
}

/// The question as it was before the answer, its slot free.
void give_back(sqlite::Database& database, const AnswerRow& answer, const BodyJson& body,
               int64_t stamp) {
  const QuestionRow before = load_question(database, answer.question);
  QuestionRow row = before;
  if (answer.purpose == Purpose::kOrdinary) {
    if (row.state == QuestionState::kDecided) {
      throw InputError("undo", "answer", "one whose question is open", "one decided by an expert");
    }
    if (is_answer(body)) --row.accepted;
    if (!flags_of(body).empty() && row.state == QuestionState::kEscalated &&
        !is_flagged_by_others(database, answer.question, answer.sequence)) {
      if (row.expert_leased) {
        throw InputError("undo", "answer", "one whose question is open",
                         "one that an expert is deciding");
      }
      row.state = QuestionState::kOpen;
    }
    if (row.accepted + row.leased >= row.overlap) {
      throw InputError("undo", "answer", "one whose place is still free",
                       "one whose question another rater has now");
    }
  } else if (answer.purpose == Purpose::kEscalation) {
    if (row.state == QuestionState::kDecided) row.state = QuestionState::kEscalated;
    if (row.expert_leased) {
      throw InputError("undo", "answer", "one whose question is open",
                       "one that another expert is deciding");
    }
  } else {
    return;
  }
  row.stamp = stamp;
  save_question(database, before, row);
}

Lease take_back(Journal::Impl& journal, sqlite::Database& database, const RaterRef& rater,
                int64_t now_us) {
  expire_leases(database, now_us, kExpiredAtOnce, journal.stamp);
  const AnswerRow answer = last_answer(database, rater.pseudonym);
  if (!is_unsealed(database, answer.sequence)) {
    throw InputError("undo", "answer", "one that is not sealed yet", "a sealed one");
  }
  const ProjectPointer project = journal.project(answer.project);
  const BodyJson body = parse_body(answer.body);
  const auto kind = load_question(database, answer.question).kind;
  give_back(database, answer, body, ++journal.stamp);
  AnswerRow undo = answer;
  undo.type = RowType::kUndo;
  undo.key.clear();
  undo.body = R"({"outcome":"undone"})";
  undo.client.clear();
  undo.session = rater.session;
  undo.answered_us = now_us;
  undo.supersedes = answer.sequence;
  undo.same = -1;
  append_row(database, undo);
  count_answer(database, answer, body, -1);
  database.run("DELETE FROM unsealed WHERE sequence = ?", answer.sequence);
  if (answer.purpose == Purpose::kRepeat) {
    if (const auto first = first_answer(database, answer.rater, answer.question);
        first && has_repeats(kind)) {
      database.run(
          "INSERT INTO repeatable(rater, project, number, question, answer)"
          " SELECT ?1, ?2, 1 + coalesce(max(number), 0), ?3, ?4 FROM repeatable"
          " WHERE rater = ?1 AND project = ?2",
          answer.rater, answer.project, answer.question, first->sequence);
    }
  } else {
    database.run("DELETE FROM taken WHERE rater = ? AND question = ?", answer.rater,
                 answer.question);
    database.run("DELETE FROM repeatable WHERE answer = ?", answer.sequence);
  }
  Lease lease(answer);
  lease.id = random_hex(16);
  lease.token = ++journal.token;
  lease.session = rater.session;
  lease.served_us = now_us;
  lease.expires_us = now_us + project->lease_s * kMicroseconds;
  lease.guideline_hash = project->guideline_hash;
  lease.supersedes = answer.sequence;
  lease.draft = answer.body;
  insert_lease(database, lease);
  return lease;
}

}  // namespace

void forget_answer(sqlite::Database& database, const AnswerRow& answer, int64_t stamp) {
  const BodyJson body = parse_body(answer.body);
  count_answer(database, answer, body, -1);
  const QuestionRow before = load_question(database, answer.question);
  QuestionRow row = before;
  if (answer.purpose == Purpose::kOrdinary) {
    if (is_answer(body)) --row.accepted;
    if (!flags_of(body).empty() && row.state == QuestionState::kEscalated && !row.expert_leased &&
        !is_flagged_by_others(database, answer.question, answer.sequence)) {
      row.state = QuestionState::kOpen;
    }
  } else if (answer.purpose == Purpose::kEscalation && row.state == QuestionState::kDecided) {
    row.state = QuestionState::kEscalated;
  } else {
    return;
  }
  row.stamp = stamp;
  save_question(database, before, row);
}

NextResult Journal::next(const RaterRef& rater, const std::string& project, int64_t now_us) {
  const ProjectPointer rules = impl_->project(project);
  NextResult result;
  std::optional<Lease> lease;
  std::optional<Question> question;
  impl_->writer->run(
      [&](sqlite::Database& database) {
        lease.reset();
        result = assign(*impl_, database, rater, *rules, now_us, lease);
        if (!lease) return;
        question = load_content(database, lease->question);
      },
      GroupCommit::Durability::kProcess);
  if (lease) result.assignment = make_assignment(*lease, *question, *rules);
  return result;
}

bool Journal::renew(const RaterRef& rater, const std::string& assignment, int64_t token,
                    int64_t now_us) {
  bool alive = false;
  impl_->writer->run(
      [&](sqlite::Database& database) {
        alive = false;
        expire_leases(database, now_us, kExpiredAtOnce, impl_->stamp);
        const auto lease = lease_by_id(database, assignment);
        if (!lease || lease->rater != rater.pseudonym || lease->token != token) return;
        if (!lease->live && !slot_is_free(database, *lease)) return;
        const auto project = impl_->project(lease->project);
        database.run("UPDATE leases SET live = 1, expires_us = ? WHERE id = ?",
                     now_us + project->lease_s * kMicroseconds, lease->id);
        if (!lease->live) take_slot(database, *lease);
        alive = true;
      },
      GroupCommit::Durability::kProcess);
  return alive;
}

void Journal::save_draft(const RaterRef& rater, const std::string& assignment, int64_t token,
                         const std::string& body) {
  if (body.size() > kMostBodyBytes) {
    throw InputError("draft", "body", "at most " + std::to_string(kMostBodyBytes) + " bytes",
                     std::to_string(body.size()));
  }
  impl_->writer->run(
      [&](sqlite::Database& database) {
        const Lease lease = require_lease(database, rater, assignment, token);
        database.run("UPDATE leases SET draft = ? WHERE id = ?", body, lease.id);
      },
      GroupCommit::Durability::kProcess);
}

Receipt Journal::submit(const RaterRef& rater, const AnswerRequest& request, int64_t now_us) {
  check_request(request);
  const BodyJson body = parse_body(request.body);
  Receipt receipt;
  impl_->writer->run([&](sqlite::Database& database) {
    accept(*impl_, database, rater, request, body, now_us, receipt);
  });
  return receipt;
}

Assignment Journal::undo(const RaterRef& rater, int64_t now_us) {
  std::optional<Lease> lease;
  std::optional<Question> question;
  impl_->writer->run([&](sqlite::Database& database) {
    lease = take_back(*impl_, database, rater, now_us);
    question = load_content(database, lease->question);
  });
  return make_assignment(*lease, *question, *impl_->project(lease->project));
}

}  // namespace hone::data
