#include <map>

#include "engine/tokenizer/pattern.h"
#include "engine/tokenizer/pretokenizer.h"
#include "engine/tokenizer/regex_syntax.h"
#include "engine/tokenizer/unicode_tables.h"

namespace hone::engine {
namespace {

std::string punctuation() { return "[" + class_of(kPunctuation, kPunctuationSize) + "]"; }

// For the inside of a class: is_word_character() of utf8.h. "Whitespace" is of Rust's regular
// expressions, the other patterns of Oniguruma's.
std::string rust_word() {
  return "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}"
         "\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}\\x{200C}\\x{200D}";
}

}  // namespace

const char kGpt2Pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

PreTokenizer::Behavior PreTokenizer::parse_behavior(const JsonField& field) {
  static const std::map<std::string, Behavior> kNames = {
      {"Isolated", Behavior::kIsolated},
      {"Removed", Behavior::kRemoved},
      {"Contiguous", Behavior::kContiguous},
      {"MergedWithPrevious", Behavior::kMergedWithPrevious},
      {"MergedWithNext", Behavior::kMergedWithNext}};
  const auto found = kNames.find(field.text());
  if (found == kNames.end()) {
    field.fail("Isolated, Removed, Contiguous, MergedWithPrevious or MergedWithNext");
  }
  return found->second;
}

void PreTokenizer::add_split(std::string_view pattern, Behavior behavior, const JsonField& field) {
  steps_.emplace_back(
      SplitStep{Regex(pattern, field.where() + ": " + field.path()), behavior, false});
}

void PreTokenizer::add_metaspace(const JsonField& field) {
  using Prepend = MetaspaceStep::Prepend;
  static const std::map<std::string, Prepend> kSchemes = {
      {"always", Prepend::kAlways}, {"first", Prepend::kFirst}, {"never", Prepend::kNever}};
  // Files of before prepend_scheme have add_prefix_space.
  const std::string scheme = field.text_or(
      "prepend_scheme", field.boolean_or("add_prefix_space", true) ? "always" : "never");
  const auto found = kSchemes.find(scheme);
  if (found == kSchemes.end()) field.at("prepend_scheme").fail("always, first or never");
  const std::string replacement = field.text_or("replacement", "\xE2\x96\x81");
  if (replacement.empty()) field.at("replacement").fail("a character");
  steps_.emplace_back(MetaspaceStep{found->second, replacement});
  if (field.boolean_or("split", true)) {
    add_split(escaped_pattern(replacement), Behavior::kMergedWithNext, field);
  }
}

void PreTokenizer::add(const JsonField& field, int depth) {
  const std::string& type = field.at("type").text();
  if (type == "Sequence") {
    const JsonField list = field.at("pretokenizers");
    if (depth > 8) list.fail("at most 8 levels of Sequence", "more");
    for (size_t i = 0; i < list.list_size(); ++i) add(list.at(i), depth + 1);
  } else if (type == "ByteLevel") {
    if (field.boolean_or("add_prefix_space", true)) steps_.emplace_back(PrefixSpaceStep{});
    if (field.boolean_or("use_regex", true)) add_split(kGpt2Pattern, Behavior::kIsolated, field);
    steps_.emplace_back(ByteLevelStep{});
  } else if (type == "Split") {
    steps_.emplace_back(SplitStep{parse_pattern(field.at("pattern")),
                                  parse_behavior(field.at("behavior")),
                                  field.boolean_or("invert", false)});
  } else if (type == "Metaspace") {
    add_metaspace(field);
  } else if (type == "Digits") {
    const bool individual = field.boolean_or("individual_digits", false);
    add_split("[" + class_of(kNumbers, kNumbersSize) + "]",
              individual ? Behavior::kIsolated : Behavior::kContiguous, field);
  } else if (type == "Punctuation") {
    const bool named = field.has("behavior");
    add_split(punctuation(), named ? parse_behavior(field.at("behavior")) : Behavior::kIsolated,
              field);
  } else if (type == "Whitespace") {
    add_split("[" + rust_word() + "]+|[^" + rust_word() + "\\s]+", Behavior::kRemoved, field);
    std::get<SplitStep>(steps_.back()).invert = true;
  } else if (type == "WhitespaceSplit") {
    add_split("\\s", Behavior::kRemoved, field);
  } else if (type == "CharDelimiterSplit") {
    const std::string& delimiter = field.at("delimiter").text();
    if (delimiter.empty()) field.at("delimiter").fail("a character");
    add_split(escaped_pattern(delimiter), Behavior::kRemoved, field);
  } else if (type == "BertPreTokenizer") {
    add_split("\\s", Behavior::kRemoved, field);
    add_split(punctuation(), Behavior::kIsolated, field);
  } else if (type == "FixedLength") {
    const int64_t length = field.has("length") ? field.at("length").integer(1, 1000) : 5;
    add_split("(?s:.{1," + std::to_string(length) + "})", Behavior::kIsolated, field);
  } else {
    field.at("type").fail(
        "ByteLevel, Split, Metaspace, Digits, Punctuation, Whitespace, WhitespaceSplit, "
        "CharDelimiterSplit, BertPreTokenizer, FixedLength or Sequence");
  }
}

PreTokenizer PreTokenizer::parse(const JsonField& field) {
  PreTokenizer result;
  if (field.value().is_null()) return result;
  result.add(field, 0);
  // The usual last step needs no rewriting: its characters stand one for one for bytes.
  if (!result.steps_.empty() && std::holds_alternative<ByteLevelStep>(result.steps_.back())) {
    result.steps_.pop_back();
    result.bytes_ = true;
  }
  return result;
}

}  // namespace hone::engine
