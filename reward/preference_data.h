#pragma once

// From stored records to pairs of texts with soft targets. Each text is forwarded once in a batch
// and all its judgements are used (InstructGPT's K-wise batching): on real ratings that is worth
// more than any other setting (shared/QUICKSTART.md).

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/store.h"

namespace hone::reward {

struct PreferenceGroups;

/// A preference between items[first] and items[second] of its batch or set.
struct Pair {
  int32_t first = 0, second = 0;
  float target = 0.5f;  // share of judgements that prefer `first`; a tie counts half
  float weight = 1.0f;
};

/// One person's answer about a pair of a batch.
struct PairAnswer {
  int32_t pair = 0;        // index into PairBatch::pairs
  int32_t rater = -1;      // index into PreferenceData::rater_names(); -1: without a pseudonym
  float target = 0.5f;     // 1, 0.5 (tie) or 0 for the pair's first
  float evidence = 1.0f;   // as RaterAnswer's
  int8_t first_shown = 0;  // as RaterAnswer's
};

struct PairBatch {
  std::vector<int64_t> items;       // indices into Records::items, each once
  std::vector<Pair> pairs;          // indices into `items`
  std::vector<PairAnswer> answers;  // by pair, when asked for; pairs across two people have none
  /// Comparisons that the pairs say as much as: an order of k items is worth k - 1, although it
  /// makes k (k - 1) / 2 pairs.
  double comparisons = 0;
  bool rated = false;  // made of ratings, not of explicit comparisons
};

/// One person's answer about two items, wherever it is used.
struct RaterAnswer {
  int64_t first = 0, second = 0;  // indices into Records::items
  int32_t rater = -1;             // index into PreferenceData::rater_names()
  float target = 0.5f;            // 1, 0.5 (tie) or 0 for `first`
  /// How many independent answers it is worth as evidence of its rater: the k(k-1)/2 pairs of an
  /// ordering of k are worth k - 1; an answer that is known to be right or wrong (gold) counts as
  /// that, and 0 here.
  float evidence = 1.0f;
  int8_t first_shown = 0;  // 1: `first` stood earlier on the screen, -1: later, 0: unknown
};

/// A held-out single judgement: target 1, 0 or 0.5 (tie); indices into Records::items.
struct Vote {
  int64_t first = 0, second = 0;
  float target = 0.5f;
  bool same_person = false;  // both judged by one person ("within"), or by two ("across")
};

/// Which raters are used: all, or every second one of a group in order of pseudonym, so that the
/// other half can judge independently.
enum class RaterFold { kAll, kEven, kOdd };

/// Which records count. Comparisons may have been drawn from the same people's ratings; both would
/// then count twice. Answers to questions that Hone asked (`hone collect`) never are.
enum class Judgements { kAll, kRatings, kComparisons, kRatingsAndCollected };

/// Whether a person gave it to a question that Hone asked.
bool is_collected(const data::Comparison& comparison);

struct PreferenceDataOptions {
  data::Split split = data::Split::kTrain;
  RaterFold fold = RaterFold::kAll;
  Judgements judgements = Judgements::kAll;
  /// Groups (rater blocks, prompts) in one batch; ratings of two people are compared across them.
  int64_t groups_per_batch = 4;
  /// Weight of one across-group mean against one within-group mean.
  double across_weight = 1.0;
  /// Upper limit of items in a batch made from explicit comparisons.
  int64_t items_per_batch = 128;
  /// Fill PairBatch::answers.
  bool answers = false;
};

/// Both kinds of judgement: ratings (sessions of one person over a group of items) and explicit
/// comparisons (any k, with ties; skipped and both-bad answers leave no pair). Copies what it needs
/// of the records. reward/README.md says how targets and weights come about.
class PreferenceData {
 public:
  /// Throws data::InputError for options out of range, indices outside Records::items, ranks that
  /// do not fit their items, and ratings that are not finite.
  PreferenceData(const data::Records& records, PreferenceDataOptions options);
  /// Batches of the first epoch. Later ones have as many, but for a few more or fewer when explicit
  /// comparisons fill batches differently.
  int64_t batches_per_epoch() const;
  /// The batches of one epoch, in an order that depends on (seed, epoch) only. Every group and
  /// every compared pair is in one of them; the weights of a batch add up to 1.
  std::vector<PairBatch> epoch(uint64_t seed, int64_t epoch) const;
  int64_t raters() const;  // distinct pseudonyms
  const std::vector<std::string>& rater_names() const;
  int64_t judgements() const;                 // ratings, and pairs in comparisons
  const std::vector<int64_t>& items() const;  // every item used, rising

  /// What named people said about pairs that they saw both of, by rater: explicit comparisons, and
  /// each two ratings of a group (in groups of more than 64 items, each item with the 32 after it).
  std::vector<RaterAnswer> answers() const;
  /// Questions whose answers were known, and how many of them a rater got right.
  struct Known {
    int64_t right = 0, wrong = 0;
  };
  const std::vector<Known>& known() const;  // by rater

  /// `count` votes of single people drawn from this data (with replacement from ratings);
  /// same_person: one person's two ratings of one group, else two people's ratings of two groups.
  /// Explicit comparisons give each of their judgements once: "across-people" ones when
  /// same_person is false, all others (one person saw both) when it is true; they are at most half
  /// when there are ratings too. Fewer than `count` when the data has no more.
  std::vector<Vote> votes(bool same_person, int64_t count, uint64_t seed) const;

  /// Pairs that share no item, each with what most people said of it (ties of a person and even
  /// splits left out), in an order that depends on `seed` only: judgements that hardly depend on
  /// one another. Rated items are paired within their group, as people compare them.
  std::vector<Vote> consensus(uint64_t seed) const;

  struct Ceiling {
    double person_vs_majority = 0;  // one person against the majority of the others
    double person_vs_person = 0;    // two people, neither of whom tied
    double tie_rate = 0;            // ties among single judgements
    int64_t count = 0;              // pairs drawn; 0: no pair was judged by several people
  };
  /// Agreement among people over `count` drawn pairs; ties of the person are left out, an even
  /// split of the others counts half.
  Ceiling human_ceiling(bool same_person, int64_t count, uint64_t seed) const;

 private:
  PreferenceDataOptions options_;
  std::shared_ptr<const PreferenceGroups> groups_;
};

}  // namespace hone::reward
