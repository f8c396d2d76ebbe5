// Which question a rater gets next.

#include <algorithm>
#include <array>

#include "data/journal/journal_impl.h"
#include "data/journal/keyed_order.h"

namespace hone::data {
namespace {

constexpr std::size_t kMostHeld = 20;
constexpr int64_t kRepeatGap = 10;  // answers between a question and its repeat

struct Standing {
  int64_t served = 0, answers = 0, qualification = 0, qualification_right = 0;
};

/// One call of assign.
class Search {
 public:
  Search(Journal::Impl& journal, sqlite::Database& database, const RaterRef& rater,
         const Project& project, int64_t now_us, const std::vector<Lease>& leases)
      : journal_(journal),
        database_(database),
        rater_(rater),
        project_(project),
        now_us_(now_us),
        leases_(leases),
        standing_(load_standing()) {}

  /// Caps that end a sitting or a day, of the person, whatever session they come with.
  std::optional<NextResult> cap() {
    const auto sitting =
        current_sitting(database_, rater_.pseudonym, project_.id, now_us_).value_or(Sitting{});
    const int64_t held = live(std::nullopt);
    const int64_t longest = project_.session_minutes * 60 * kMicroseconds;
    if ((project_.session_answers > 0 && held + sitting.answers >= project_.session_answers) ||
        (longest > 0 && sitting.last_us > 0 && now_us_ - sitting.first_us >= longest)) {
      return reached(NoQuestion::kSessionCap, sitting.last_us + kBreakUs + 1);
    }
    if (project_.daily_answers == 0) return std::nullopt;
    const int64_t today =
        held + one_number("SELECT answers FROM days WHERE rater = ? AND project = ? AND day = ?",
                          now_us_ / kDay);
    if (today < project_.daily_answers) return std::nullopt;
    return reached(NoQuestion::kDailyCap, (now_us_ / kDay + 1) * kDay);
  }

  /// Is the rater still to be asked a qualification question?
  bool qualifying() const {
    return standing_.qualification + live(Purpose::kQualification) <
           project_.qualification_questions;
  }

  /// Live leases of the rater, of one purpose or of all.
  int64_t live(std::optional<Purpose> purpose) const {
    return std::count_if(leases_.begin(), leases_.end(), [&](const Lease& lease) {
      return lease.live && (!purpose || lease.purpose == *purpose);
    });
  }

  bool qualified() const {
    return project_.qualification_questions == 0 || standing_.qualification == 0 ||
           static_cast<double>(standing_.qualification_right) >=
               project_.qualification_share * static_cast<double>(standing_.qualification);
  }

  bool find_known(Purpose purpose) {
    const int64_t seq = one_number(
        "SELECT seq FROM questions q WHERE project = ?2 AND purpose = ?3 AND purpose > 0 AND NOT"
        " EXISTS (SELECT 1 FROM taken WHERE rater = ?1 AND question = q.seq) AND NOT EXISTS "
        "(SELECT 1 FROM leases"
        " WHERE rater = ?1 AND question = q.seq) ORDER BY seq LIMIT 1",
        static_cast<int64_t>(purpose));
    return seq != 0 && found(seq, purpose);
  }

  bool find_escalated() {
    auto& rows = database_.prepared(
        "SELECT seq FROM questions q WHERE project = ?2 AND state = 2 AND expert_leased = 0 AND"
        " NOT EXISTS (SELECT 1 FROM taken WHERE rater = ?1 AND question = q.seq) AND NOT EXISTS"
        " (SELECT 1 FROM leases WHERE rater = ?1 AND question = q.seq) AND (language = '' OR"
        " ?3 OR instr(?4, ',' || language || ',') > 0) ORDER BY stamp LIMIT 1");
    rows.bind_all(rater_.pseudonym, project_.id, rater_.languages.empty(), language_list());
    const int64_t seq = rows.step() ? rows.integer(0) : 0;
    rows.reset();
    return seq != 0 && found(seq, Purpose::kEscalation);
  }

  /// Gold questions and repeats among the ordinary ones, as the store's secret has it.
  bool find_mixed_in() {
    const double draw = uniform("mix");
    if (draw < project_.gold_share) return find_known(Purpose::kGold);
    return draw < project_.gold_share + project_.repeat_share && find_repeat();
  }

  bool find_ordinary() {
    struct Best {
      int64_t rank, remaining, stamp, seq;
    };
    std::optional<Best> best;
    for (const std::string& language : languages()) {
      int64_t rank = INT64_MIN, remaining = INT64_MIN;
      while (next_bucket(language, rank, remaining)) {
        if (best && std::tie(rank, remaining) > std::tie(best->rank, best->remaining)) break;
        const auto [seq, stamp] = first_in_bucket(language, rank, remaining);
        if (seq == 0) continue;
        const Best one{rank, remaining, stamp, seq};
        if (!best || std::tie(one.rank, one.remaining, one.stamp) <
                         std::tie(best->rank, best->remaining, best->stamp)) {
          best = one;
        }
        break;
      }
    }
    return best && found(best->seq, Purpose::kOrdinary);
  }

  Lease make_lease() {
    Lease lease;
    lease.id = random_hex(16);
    lease.token = ++journal_.token;
    lease.rater = rater_.pseudonym;
    lease.project = project_.id;
    lease.question = question_;
    lease.purpose = purpose_;
    const Question question = load_content(database_, question_);
    choose_order(question, lease);
    lease.session = rater_.session;
    lease.served_us = now_us_;
    lease.expires_us = now_us_ + project_.lease_s * kMicroseconds;
    lease.dwell_ms = dwell_ms(question);
    lease.ask_rationale = uniform("rationale") < project_.rationale_share;
    lease.guideline_hash = project_.guideline_hash;
    return lease;
  }

  void note_served() {
    database_.run(
        "INSERT INTO standing VALUES(?, ?, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)"
        " ON CONFLICT DO UPDATE SET served = served + 1",
        rater_.pseudonym, project_.id);
    note_sitting(database_, rater_.pseudonym, project_.id, now_us_, 0);
  }

  /// Why there is nothing: others are at work on what this rater could have, or it is not theirs.
  NextResult why_nothing() {
    NextResult result;
    auto& leases = database_.prepared(
        "SELECT l.expires_us FROM leases l JOIN questions q ON q.seq = l.question WHERE l.live = 1"
        " AND l.rater <> ?1 AND l.purpose = 0 AND q.project = ?2 AND q.state = 0 AND (q.language = "
        "'' OR ?3 OR"
        " instr(?4, ',' || q.language || ',') > 0) AND NOT EXISTS (SELECT 1 FROM taken WHERE"
        " rater = ?1 AND question = q.seq) ORDER BY l.expires_us LIMIT 1");
    leases.bind_all(rater_.pseudonym, project_.id, rater_.languages.empty(), language_list());
    const int64_t expires_us = leases.step() ? leases.integer(0) : 0;
    leases.reset();
    if (expires_us > 0) {
      return reached(NoQuestion::kAllLeased, expires_us);
    }
    const auto mine = languages();
    for (const std::string& language : ready_languages()) {
      if (std::find(mine.begin(), mine.end(), language) == mine.end()) {
        result.why = NoQuestion::kLanguage;
      }
    }
    return result;
  }

 private:
  /// Nothing now, perhaps from `until_us` on.
  NextResult reached(NoQuestion why, int64_t until_us) const {
    const int64_t seconds = (until_us - now_us_ + kMicroseconds - 1) / kMicroseconds;
    return {std::nullopt, why, std::max<int64_t>(1, seconds)};
  }

  Standing load_standing() {
    auto& row = database_.prepared(
        "SELECT served, answers, qualification, qualification_right FROM standing WHERE rater = ?"
        " AND project = ?");
    row.bind_all(rater_.pseudonym, project_.id);
    Standing standing;
    if (row.step()) {
      standing = {row.integer(0), row.integer(1), row.integer(2), row.integer(3)};
    }
    row.reset();
    return standing;
  }

  /// A query of (rater, project, value); 0 without a row.
  int64_t one_number(const char* query, int64_t value) {
    auto& row = database_.prepared(query);
    row.bind_all(rater_.pseudonym, project_.id, value);
    const int64_t number = row.step() ? row.integer(0) : 0;
    row.reset();
    return number;
  }

  bool found(int64_t seq, Purpose purpose) {
    question_ = seq;
    purpose_ = purpose;
    return true;
  }

  uint64_t hash(std::string_view use, std::string_view more) const {
    const std::string seed = std::to_string(project_.seed);
    return keyed_hash(journal_.secret, {use, seed, project_.id, rater_.pseudonym, more});
  }

  double uniform(std::string_view use) const {
    return static_cast<double>(hash(use, std::to_string(standing_.served)) >> 11) * 0x1.0p-53;
  }

  std::vector<int64_t> shift_counts(int64_t k) {
    std::vector<int64_t> counts(static_cast<std::size_t>(k), 0);
    auto& rows = database_.prepared(
        "SELECT shift, answers FROM shifts WHERE rater = ? AND project = ? AND k = ?");
    rows.bind_all(rater_.pseudonym, project_.id, k);
    while (rows.step()) counts[static_cast<std::size_t>(rows.integer(0))] = rows.integer(1);
    rows.reset();
    for (const Lease& lease : leases_) {
      if (lease.live && static_cast<int64_t>(lease.shown.size()) == k) {
        ++counts[static_cast<std::size_t>(lease.row / 2)];
      }
    }
    return counts;
  }

  /// An own answer whose turned-round order keeps the balance.
  bool find_repeat() {
    const int64_t newest = standing_.answers - kRepeatGap;
    if (newest < 0) return false;
    const int64_t from = static_cast<int64_t>(uniform("repeat") * static_cast<double>(newest + 1));
    for (const bool wrapped : {false, true}) {
      auto& rows = database_.prepared(
          "SELECT r.question, a.row, length(a.shown) FROM repeatable r JOIN answers a ON a.sequence"
          " = r.answer WHERE r.rater = ?1 AND r.project = ?2 AND r.number >= ?3 AND r.number <= ?4"
          " AND NOT EXISTS (SELECT 1 FROM leases WHERE rater = ?1 AND question = r.question)"
          " ORDER BY r.number LIMIT 16");
      rows.bind_all(rater_.pseudonym, project_.id, wrapped ? 0 : from, wrapped ? from - 1 : newest);
      std::vector<std::array<int64_t, 3>> candidates;
      while (rows.step()) {
        candidates.push_back({rows.integer(0), rows.integer(1), rows.integer(2)});
      }
      rows.reset();
      for (const auto& [question, row, k] : candidates) {
        LatinRow order{row / 2, row % 2 != 0};
        if (k >= 2) {
          order = turned_round(k, order);
          const auto counts = shift_counts(k);
          const int64_t least = *std::min_element(counts.begin(), counts.end());
          if (counts[static_cast<std::size_t>(order.shift)] != least) continue;
        }
        repeat_row_ = 2 * order.shift + (order.mirrored ? 1 : 0);
        return found(question, Purpose::kRepeat);
      }
    }
    return false;
  }

  void choose_order(const Question& question, Lease& lease) {
    const auto k = static_cast<int64_t>(question.candidates.size());
    if (k == 0) return;
    if (purpose_ == Purpose::kRepeat) {
      lease.row = repeat_row_;
    } else if (k >= 2) {
      const uint64_t draw = hash("order", question.id);
      const int64_t shift = balanced_shift(shift_counts(k), draw >> 1);
      lease.row = 2 * shift + (k > 2 ? static_cast<int64_t>(draw & 1) : 0);
    }
    lease.shown = latin_order(k, lease.row / 2, lease.row % 2 != 0);
  }

  int64_t dwell_ms(const Question& question) const {
    int64_t characters = 0;
    for (const Candidate& candidate : question.candidates) {
      characters += code_points(candidate.text);
    }
    const int64_t dwell = project_.dwell_ms + project_.dwell_ms_per_100_chars * characters / 100;
    return std::min(dwell, std::max(project_.dwell_max_ms, project_.dwell_ms));
  }

  std::string language_list() const {
    std::string list = ",";
    for (const std::string& language : rater_.languages) list += language + ",";
    return list;
  }

  std::vector<std::string> ready_languages() {
    std::vector<std::string> all;
    const auto first = [&](const char* query, const std::string& after) {
      auto& row = database_.prepared(query);
      row.bind_all(project_.id, after);
      const bool is = row.step();
      if (is) all.push_back(row.text(0));
      row.reset();
      return is;
    };
    bool more = first(
        "SELECT language FROM questions WHERE ready = 1 AND project = ? AND language >= ?"
        " ORDER BY language LIMIT 1",
        "");
    while (more) {
      more = first(
          "SELECT language FROM questions WHERE ready = 1 AND project = ? AND language > ?"
          " ORDER BY language LIMIT 1",
          std::string(all.back()));
    }
    return all;
  }

  std::vector<std::string> languages() {
    if (rater_.languages.empty()) return ready_languages();
    std::vector<std::string> mine = rater_.languages;
    mine.push_back("");
    return mine;
  }

  /// The queue after (rank, remaining), best first: questions as urgent and as near to complete.
  bool next_bucket(const std::string& language, int64_t& rank, int64_t& remaining) {
    auto& row = database_.prepared(
        "SELECT rank, remaining FROM questions WHERE ready = 1 AND project = ? AND language = ? AND"
        " (rank, remaining) > (?, ?) ORDER BY rank, remaining LIMIT 1");
    row.bind_all(project_.id, language, rank, remaining);
    const bool is = row.step();
    if (is) {
      rank = row.integer(0);
      remaining = row.integer(1);
    }
    row.reset();
    return is;
  }

  /// The oldest question of a queue that the rater has not had: (seq, stamp), or (0, 0). What was
  /// passed over stays taken, so the cursor never has to look at it again.
  std::pair<int64_t, int64_t> first_in_bucket(const std::string& language, int64_t rank,
                                              int64_t remaining) {
    auto& kept = database_.prepared(
        "SELECT stamp FROM cursors WHERE rater = ? AND project = ? AND language = ? AND rank = ?"
        " AND remaining = ?");
    kept.bind_all(rater_.pseudonym, project_.id, language, rank, remaining);
    const int64_t cursor = kept.step() ? kept.integer(0) : 0;
    kept.reset();
    int64_t passed = cursor;
    std::pair<int64_t, int64_t> result{0, 0};
    auto& rows = database_.prepared(
        "SELECT seq, stamp, EXISTS (SELECT 1 FROM taken WHERE rater = ?1 AND question = q.seq),"
        " EXISTS (SELECT 1 FROM leases WHERE rater = ?1 AND question = q.seq) FROM questions q "
        "WHERE ready = 1 AND project = ?2 AND language = ?3 AND rank = ?4 AND"
        " remaining = ?5 AND stamp > ?6 ORDER BY stamp");
    rows.bind_all(rater_.pseudonym, project_.id, language, rank, remaining, cursor);
    bool held = false;  // from the first one that the rater holds on, the cursor stays
    while (rows.step()) {
      held = held || rows.integer(3) != 0;
      if (rows.integer(2) == 0 && rows.integer(3) == 0) {
        result = {rows.integer(0), rows.integer(1)};
        break;
      }
      if (!held) passed = rows.integer(1);
    }
    rows.reset();
    if (passed != cursor) {
      database_.run(
          "INSERT INTO cursors VALUES(?, ?, ?, ?, ?, ?)"
          " ON CONFLICT DO UPDATE SET stamp = excluded.stamp",
          rater_.pseudonym, project_.id, language, rank, remaining, passed);
    }
    return result;
  }

  Journal::Impl& journal_;
  sqlite::Database& database_;
  const RaterRef& rater_;
  const Project& project_;
  int64_t now_us_;
  const std::vector<Lease>& leases_;
  Standing standing_;
  int64_t question_ = 0, repeat_row_ = 0;
  Purpose purpose_ = Purpose::kOrdinary;
};

}  // namespace

NextResult assign(Journal::Impl& journal, sqlite::Database& database, const RaterRef& rater,
                  const Project& project, int64_t now_us, std::optional<Lease>& result) {
  expire_leases(database, now_us, kExpiredAtOnce, journal.stamp);
  NextResult nothing;
  std::vector<Lease> leases = leases_of(database, rater.pseudonym, project.id);
  const auto is_held = [&](const Lease& lease) {
    return std::find(rater.held.begin(), rater.held.end(), lease.id) != rater.held.end();
  };
  for (const Lease& lease : leases) {
    if (!lease.live || is_held(lease)) continue;
    result = lease;
    return nothing;
  }
  for (Lease& lease : leases) {
    if (lease.live || is_held(lease)) continue;
    if (!slot_is_free(database, lease)) {
      drop_lease(database, lease, 0);
      continue;
    }
    // Back from a break, and nobody has had it meanwhile.
    lease.live = true;
    lease.expires_us = now_us + project.lease_s * kMicroseconds;
    database.run("UPDATE leases SET live = 1, expires_us = ? WHERE id = ?", lease.expires_us,
                 lease.id);
    take_slot(database, lease);
    result = lease;
    return nothing;
  }
  if (leases.size() >= kMostHeld) {
    nothing.why = NoQuestion::kAllLeased;
    nothing.retry_after_s = 1;
    return nothing;
  }
  Search search(journal, database, rater, project, now_us, leases);
  if (const auto cap = search.cap()) return *cap;
  bool found = search.qualifying() && search.find_known(Purpose::kQualification);
  if (!found && search.live(Purpose::kQualification) > 0) {
    nothing.why = NoQuestion::kAllLeased;  // by themself: these first
    nothing.retry_after_s = 1;
    return nothing;
  }
  if (!found && !search.qualified()) {
    nothing.why = NoQuestion::kNotQualified;
    return nothing;
  }
  found = found || (rater.expert && search.find_escalated()) || search.find_mixed_in() ||
          search.find_ordinary();
  if (!found) return search.why_nothing();
  result = search.make_lease();
  insert_lease(database, *result);
  search.note_served();
  return nothing;
}

}  // namespace hone::data
