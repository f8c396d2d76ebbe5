#pragma once

// What every record must be, whoever made it: checked before a record is stored, when a store is
// read, and by verify.

#include <cstdint>
#include <string>

#include "data/records.h"

namespace hone::data {

/// "<field>: expected ..., got ...", or empty when the record is sound. `items`: number of items
/// that indices may name.
std::string problem_of(const Item& item, int64_t items);
std::string problem_of(const Rating& rating, int64_t items);
std::string problem_of(const Comparison& comparison, int64_t items);
std::string problem_of(const Demonstration& demonstration, int64_t items);
std::string problem_of(const Answer& answer, int64_t items);
std::string problem_of(const Correction& correction, int64_t items);
std::string problem_of(const Span& span, int64_t items);
std::string problem_of(const Step& step, int64_t items);
std::string problem_of(const Review& review, int64_t items);
std::string problem_of(const Flag& flag, int64_t items);

/// The field that problem_of names, for a message about a column.
std::string field_of(const std::string& problem);

}  // namespace hone::data
