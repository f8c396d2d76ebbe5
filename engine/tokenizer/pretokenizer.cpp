#include "engine/tokenizer/pretokenizer.h"

#include <algorithm>

#include "engine/tokenizer/byte_level.h"

namespace hone::engine {
namespace {

struct Part {
  size_t begin, end;
  bool match;
};

// The whole piece as an alternation of gaps and matches (of the text between, when inverted).
void alternate(const Regex& pattern, bool invert, std::string_view text, std::vector<Part>& parts) {
  parts.clear();
  size_t done = 0;
  pattern.for_each(text, [&](size_t begin, size_t end) {
    if (done != begin) parts.push_back({done, begin, invert});
    parts.push_back({begin, end, !invert});
    done = end;
  });
  if (done != text.size()) parts.push_back({done, text.size(), invert});
}

// Replaces each piece by what `rewrite` appends to the new text for it.
template <class Rewrite>
void rewrite_pieces(std::string& text, std::vector<Piece>& pieces, Rewrite&& rewrite) {
  std::string result;
  result.reserve(text.size() + pieces.size());
  for (Piece& piece : pieces) {
    const size_t begin = result.size();
    rewrite(std::string_view(text).substr(piece.begin, piece.end - piece.begin), piece.first,
            result);
    piece.begin = begin;
    piece.end = result.size();
  }
  text = std::move(result);
}

}  // namespace

void PreTokenizer::run(const SplitStep& step, std::string& text, std::vector<Piece>& pieces) {
  thread_local std::vector<Part> parts;
  std::vector<Piece> result;
  result.reserve(text.size() / 4 + pieces.size());
  for (const Piece& piece : pieces) {
    const std::string_view piece_text(text.data() + piece.begin, piece.end - piece.begin);
    alternate(step.pattern, step.invert, piece_text, parts);
    const size_t before = result.size();
    bool previous = false;
    const auto append = [&](const Part& part) {
      const bool joins =
          result.size() > before &&
          ((step.behavior == Behavior::kContiguous && part.match == previous) ||
           (step.behavior == Behavior::kMergedWithPrevious && part.match && !previous) ||
           (step.behavior == Behavior::kMergedWithNext && part.match && !previous));
      previous = part.match;
      const size_t begin = piece.begin + part.begin, end = piece.begin + part.end;
      if (joins) {
        result.back().begin = std::min(result.back().begin, begin);
        result.back().end = std::max(result.back().end, end);
      } else if (!(step.behavior == Behavior::kRemoved && part.match)) {
        result.push_back({begin, end, false});
      }
    };
    if (step.behavior == Behavior::kMergedWithNext) {
      std::for_each(parts.rbegin(), parts.rend(), append);
      std::reverse(result.begin() + static_cast<std::ptrdiff_t>(before), result.end());
    } else {
      std::for_each(parts.begin(), parts.end(), append);
    }
    for (size_t i = before; i < result.size(); ++i) {
      result[i].first = piece.first && result[i].begin == piece.begin;
    }
  }
  std::erase_if(result, [](const Piece& piece) { return piece.begin == piece.end; });
  pieces = std::move(result);
}

void PreTokenizer::run(const PrefixSpaceStep&, std::string& text, std::vector<Piece>& pieces) {
  rewrite_pieces(text, pieces, [](std::string_view piece, bool, std::string& result) {
    if (piece.front() != ' ') result += ' ';
    result += piece;
  });
}

void PreTokenizer::run(const ByteLevelStep&, std::string& text, std::vector<Piece>& pieces) {
  rewrite_pieces(text, pieces, [](std::string_view piece, bool, std::string& result) {
    append_byte_level(result, piece);
  });
}

void PreTokenizer::run(const MetaspaceStep& step, std::string& text, std::vector<Piece>& pieces) {
  using Prepend = MetaspaceStep::Prepend;
  rewrite_pieces(text, pieces, [&](std::string_view piece, bool first, std::string& result) {
    const bool has_one = piece.front() == ' ' || piece.starts_with(step.replacement);
    if (!has_one &&
        (step.prepend == Prepend::kAlways || (step.prepend == Prepend::kFirst && first))) {
      result += step.replacement;
    }
    for (const char c : piece) {
      if (c == ' ') {
        result += step.replacement;
      } else {
        result += c;
      }
    }
  });
}

void PreTokenizer::split(std::string& text, bool first, std::vector<Piece>& pieces) const {
  pieces.clear();
  if (text.empty()) return;
  pieces.push_back({0, text.size(), first});
  for (const Step& step : steps_) {
    std::visit([&](const auto& chosen) { run(chosen, text, pieces); }, step);
  }
}

}  // namespace hone::engine
