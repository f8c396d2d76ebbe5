#include "engine/tokenizer/regex_syntax.h"

#include <utility>

#include "data/error.h"
#include "engine/tokenizer/unicode_additions.h"
#include "engine/tokenizer/unicode_tables.h"

namespace hone::engine {
namespace {

using data::InputError;

// For the inside of a class: the property, and what its table lacks; unassigned codes are those
// that no table of PCRE2 has yet.
std::string property(std::string_view category) {
  if (category == "C" || category == "Cn") return class_of_category(category, false);
  return "\\p{" + std::string(category) + "}" + unicode_additions(category);
}

// Oniguruma's word characters: letters, marks, decimal digits, letter numbers, connectors, circled
// and squared letters, and (by its Latin-1 table) six more numbers.
std::string word() {
  return property("L") + property("M") + property("Nd") + property("Nl") + property("Pc") +
         "\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}"
         "\\x{1F170}-\\x{1F189}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}";
}

// For the inside of a class: characters of a script that Unicode 15 and 16 added.
std::string script_additions(std::string_view script) {
  constexpr std::pair<std::string_view, std::string_view> kAdditions[] = {
      {"Arabic", "\\x{897}\\x{10EC2}-\\x{10EC4}\\x{10EFC}-\\x{10EFF}"},
      {"Cyrillic", "\\x{1C89}\\x{1C8A}\\x{1E030}-\\x{1E06D}\\x{1E08F}"},
      {"Han", "\\x{2EBF0}-\\x{2EE5D}\\x{31350}-\\x{323AF}"},
      {"Kannada", "\\x{CF3}"},
      {"Lao", "\\x{ECE}"},
      {"Latin", "\\x{A7CB}-\\x{A7CD}\\x{A7DA}-\\x{A7DC}\\x{1DF25}-\\x{1DF2A}"}};
  for (const auto& [name, additions] : kAdditions) {
    if (name == script) return std::string(additions);
  }
  return "";
}

constexpr char kSpace[] = "\\t-\\r \\x{85}\\p{Z}";

class Rewriter {
 public:
  Rewriter(std::string_view pattern, const std::string& where) : in_(pattern), where_(where) {}

  std::string run() {
    while (at_ < in_.size()) {
      if (in_[at_] == '\\' && at_ + 1 < in_.size()) {
        escape();
      } else if (in_[at_] == '[') {
        open_class();
      } else {
        if (in_[at_] == ']') in_class_ = false;
        if (in_class_ && in_.substr(at_, 2) == "&&") refuse("&&");
        out_ += in_[at_++];
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw InputError(where_, "pattern", "syntax that PCRE2 can follow", std::string(what));
  }

  void open_class() {
    if (in_class_) {
      const size_t end = in_.find(":]", at_);
      if (in_.substr(at_, 2) != "[:" || end == std::string_view::npos) refuse("class in a class");
      put_named_class(in_.substr(at_ + 2, end - at_ - 2));
      at_ = end + 2;
      return;
    }
    in_class_ = true;
    out_ += in_[at_++];
    if (at_ < in_.size() && in_[at_] == '^') out_ += in_[at_++];
    if (at_ < in_.size() && in_[at_] == ']') {
      out_ += "\\]";
      ++at_;
    }
  }

  // [:name:] inside a class, those that can be spelled out.
  void put_named_class(std::string_view name) {
    if (name == "space") {
      out_ += kSpace;
    } else if (name == "digit") {
      out_ += property("Nd");
    } else {
      refuse("[:" + std::string(name) + ":]");
    }
  }

  void put_set(const std::string& inside, bool complement) {
    if (!in_class_) {
      out_ += (complement ? "[^" : "[") + inside + "]";
    } else if (complement) {
      refuse("complement in a class");
    } else {
      out_ += inside;
    }
  }

  void escape() {
    const char letter = in_[at_ + 1];
    at_ += 2;
    switch (letter) {
      case 's':
      case 'S':
        return put_set(kSpace, letter == 'S');
      case 'w':
      case 'W':
        return put_set(word(), letter == 'W');
      case 'd':
      case 'D':
        return put_set(property("Nd"), letter == 'D');
      case 'p':
      case 'P':
        return escape_property(letter == 'P');
      case 'h':  // a hexadecimal digit there, a blank here
      case 'H':
      case 'R':
      case 'X':
      case 'K':
      case 'Q':
        refuse(std::string("\\") + letter);
      default:
        out_ += '\\';
        out_ += letter;
    }
  }

  void escape_property(bool complement) {
    const size_t end = in_.find('}', at_);
    if (at_ == in_.size() || in_[at_] != '{' || end == std::string_view::npos) {
      refuse("\\p without {}");
    }
    std::string_view name = in_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    if (name.starts_with('^')) {
      name.remove_prefix(1);
      complement = !complement;
    }
    // Beside the categories there are scripts: those of the character itself.
    if (name.size() > 2) {
      if (name == "Common" || (complement && in_class_)) refuse("\\p{" + std::string(name) + "}");
      put_set("\\p{sc:" + std::string(name) + "}" + script_additions(name), complement);
    } else if (complement && in_class_) {
      out_ += class_of_category(name, true);
    } else {
      put_set(property(name), complement);
    }
  }

  std::string_view in_;
  const std::string& where_;
  size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

std::string to_pcre2_syntax(std::string_view pattern, const std::string& where) {
  return Rewriter(pattern, where).run();
}

std::string escaped_pattern(std::string_view text) {
  constexpr std::string_view kMeaning = "\\^$.[]|()?*+{}-#&~ ";
  std::string pattern;
  for (const char c : text) {
    if (kMeaning.find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

}  // namespace hone::engine
