#pragma once

// What the `tokenizers` package takes each character for. Its parts follow different editions of
// Unicode, none of which is that of PCRE2 or utf8proc on this machine.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hone::engine {

struct CodeRange {
  char32_t first, last;
};
struct LowerCase {
  char32_t first, last;  // every step-th of these
  int32_t step, distance;
};

// unicode_tables.cpp. Runs of equal general category over all codes: length << 5 | category, by the
// order of kCategoryNames (Unicode 16, as Oniguruma has it).
extern const uint32_t kCategoryRuns[];
extern const size_t kCategoryRunsSize;
extern const CodeRange kNumbers[], kPunctuation[], kCombiningMarks[], kLaterThanForms[];
extern const size_t kNumbersSize, kPunctuationSize, kCombiningMarksSize, kLaterThanFormsSize;
extern const LowerCase kLowerCase[];
extern const size_t kLowerCaseSize;

constexpr std::string_view kCategoryNames[] = {
    "Cc", "Cf", "Cn", "Co", "Cs", "Ll", "Lm", "Lo", "Lt", "Lu", "Mc", "Me", "Mn", "Nd", "Nl",
    "No", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sc", "Sk", "Sm", "So", "Zl", "Zp", "Zs"};

/// The general category of a code point, "Lu" and so on.
std::string_view general_category(char32_t code);

/// Whether a sorted table has the code.
bool in_ranges(const CodeRange* ranges, size_t count, char32_t code);

/// For the inside of a class of a regular expression: \x{..}-\x{..} of a table.
std::string class_of(const CodeRange* ranges, size_t count);

/// The same of the codes whose category begins with `prefix` ("L", "Lu"), or does not.
/// Surrogates, which no text has, are left out.
std::string class_of_category(std::string_view prefix, bool complement);

/// Lower case of one character, except of U+0130, which has two.
char32_t lower_case(char32_t code);

}  // namespace hone::engine
