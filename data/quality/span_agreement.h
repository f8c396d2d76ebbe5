#pragma once

// Agreement of people who mark pieces of texts: where the pieces begin and end is theirs to say, so
// there are no units that all of them judged.

#include <cstdint>
#include <vector>

#include "data/quality/alpha.h"

namespace hone::data::quality {

/// Code points [start, end) of a text.
struct Mark {
  int64_t start = 0, end = 0;
  uint32_t label = 0;
};

/// All that one person marked in one text of `length` code points; perhaps nothing.
struct Marking {
  int64_t text = 0, length = 0;
  std::vector<Mark> marks;
};

/// `value` is Krippendorff's alpha (2011; see alpha.h) with every code point of the texts as a unit
/// and the set of labels that a person put on it as the value, the empty set where they marked
/// nothing. The squared distance of two sets is Jaccard's (1912), 1 - |A n B| / |A u B|, and 0 for
/// two empty ones: so half of an overlap is half of an agreement, and a long text without marks is
/// no merit, as chance would leave it unmarked, too. `units` are texts that at least two people
/// read, which the interval resamples whole, as neighbouring code points are marked together;
/// `codings` are the readings of them.
struct SpanAgreement : Alpha {
  /// Mean over texts of the mean over pairs of people of F1 = 2 |A n B| / (|A| + |B|), A and B
  /// being the sets of (code point, label) that the two marked; 1 where neither marked anything.
  /// Hripcsak and Rothschild (2005), "Agreement, the F-measure, and reliability in information
  /// retrieval". Not corrected for chance. NaN without pairs.
  double f1 = 0.0;
};

/// NaN where nothing was marked, or the same everywhere. Marks beyond their text are cut.
SpanAgreement span_agreement(const std::vector<Marking>& markings, int resamples = 1000,
                             uint64_t seed = 0);

}  // namespace hone::data::quality
