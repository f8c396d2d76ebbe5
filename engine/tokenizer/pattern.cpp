#include "engine/tokenizer/pattern.h"

#include "engine/tokenizer/regex_syntax.h"

namespace hone::engine {

Regex parse_pattern(const JsonField& field) {
  const std::string place = field.where() + ": " + field.path();
  if (field.has("String")) {
    const std::string& text = field.at("String").text();
    if (text.empty()) field.fail("a pattern that is not empty");
    return Regex(escaped_pattern(text), place);
  }
  if (field.has("Regex")) return Regex(field.at("Regex").text(), place);
  field.fail("{\"String\": ..} or {\"Regex\": ..}");
}

std::string replaced(const std::string& text, const Regex& pattern, const std::string& content) {
  std::string result;
  size_t done = 0;
  pattern.for_each(text, [&](size_t begin, size_t end) {
    result.append(text, done, begin - done);
    result += content;
    done = end;
  });
  if (done == 0 && result.empty()) return text;
  result.append(text, done, std::string::npos);
  return result;
}

}  // namespace hone::engine
