#pragma once

// The "pre_tokenizer" of a tokenizer.json: text to the words inside which merges happen.

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/io/json.h"
#include "engine/tokenizer/regex.h"

namespace hone::engine {

/// Bytes [begin, end) of the text that is being split.
struct Piece {
  size_t begin, end;
  bool first;  // begins where the whole input begins
};

class PreTokenizer {
 public:
  PreTokenizer() = default;  // one word
  /// Throws data::InputError for a kind or field that Hone does not know.
  static PreTokenizer parse(const JsonField& field);

  /// Splits `text` (valid UTF-8) into non-empty pieces; may rewrite it (a space in front, U+2581
  /// for spaces). `first`: the text is the beginning of the input.
  void split(std::string& text, bool first, std::vector<Piece>& pieces) const;

  /// The pieces are bytes of which each stands for its character of byte_level.h.
  bool bytes() const { return bytes_; }

 private:
  enum class Behavior { kIsolated, kRemoved, kContiguous, kMergedWithPrevious, kMergedWithNext };
  struct SplitStep {
    Regex pattern;
    Behavior behavior;
    bool invert;
  };
  struct PrefixSpaceStep {};
  struct ByteLevelStep {};
  struct MetaspaceStep {
    enum class Prepend { kAlways, kFirst, kNever } prepend;
    std::string replacement;
  };
  using Step = std::variant<SplitStep, PrefixSpaceStep, ByteLevelStep, MetaspaceStep>;

  void add(const JsonField& field, int depth);
  void add_metaspace(const JsonField& field);
  void add_split(std::string_view pattern, Behavior behavior, const JsonField& field);
  static Behavior parse_behavior(const JsonField& field);

  static void run(const SplitStep& step, std::string& text, std::vector<Piece>& pieces);
  static void run(const PrefixSpaceStep& step, std::string& text, std::vector<Piece>& pieces);
  static void run(const ByteLevelStep& step, std::string& text, std::vector<Piece>& pieces);
  static void run(const MetaspaceStep& step, std::string& text, std::vector<Piece>& pieces);

  std::vector<Step> steps_;
  bool bytes_ = false;
};

/// GPT-2's split pattern, which "ByteLevel" means by use_regex.
extern const char kGpt2Pattern[];

}  // namespace hone::engine
