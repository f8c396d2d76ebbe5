#pragma once

// The body of an answer (data/service/API.md): is it one for this question, what does it say of the
// candidates whatever the order on screen, and do two of them say the same.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "data/journal/project.h"

namespace hone::data {

using BodyJson = nlohmann::json;

constexpr std::size_t kMostBodyBytes = 1 << 20;

/// A JSON object of at most kMostBodyBytes. InputError says what else it is.
BodyJson parse_body(std::string_view text);

/// Throws InputError, in words for a person, when the body does not fit the question. `texts`: the
/// candidates in the order shown.
void check_body(const BodyJson& body, QuestionKind kind, const std::vector<std::string>& texts,
                const Project& project);

/// Positions on screen become candidates' indices (shown[p] = index) ...
BodyJson by_candidate(BodyJson body, const std::vector<uint8_t>& shown);
/// ... and the reverse.
BodyJson by_position(BodyJson body, const std::vector<uint8_t>& shown);

/// Both by candidate. Strength, reasons and flags do not count; a rating may differ by a tenth of
/// its range (by 1 at the least) when `lenient`.
bool same_answer(const BodyJson& a, const BodyJson& b, QuestionKind kind, bool lenient,
                 const Project& project);

std::string outcome_of(const BodyJson& body);
bool is_tie(const BodyJson& body);  // an ordering that prefers nobody
std::vector<std::string> flags_of(const BodyJson& body);
/// Fills a slot: not skipped, not merely flagged.
bool is_answer(const BodyJson& body);

/// Steps of a text: paragraphs parted by blank lines, or lines where there is only one paragraph.
std::vector<std::string> split_steps(std::string_view text);

/// Number of Unicode code points of well-formed UTF-8.
int64_t code_points(std::string_view text);

}  // namespace hone::data
