#include "engine/tokenizer/decoder.h"

#include <memory>
#include <utility>

#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/pattern.h"
#include "engine/tokenizer/regex_syntax.h"
#include "engine/tokenizer/utf8.h"

namespace hone::engine {
namespace {

using Tokens = std::vector<std::string>;

void fuse(Tokens& tokens) {
  std::string text;
  for (const std::string& token : tokens) text += token;
  tokens.assign(1, std::move(text));
}

void decode_byte_level(Tokens& tokens) {
  std::string bytes;
  for (const std::string& token : tokens) append_token_bytes(bytes, token);
  tokens.assign(1, utf8_repaired(bytes));
}

// A run of byte tokens is valid UTF-8 as a whole, or each byte is a U+FFFD.
void decode_byte_fallback(Tokens& tokens) {
  Tokens result;
  std::string run;
  const auto flush = [&] {
    if (run.empty()) return;
    if (utf8_valid_prefix(run) == run.size()) {
      result.push_back(run);
    } else {
      result.insert(result.end(), run.size(), std::string(kReplacementCharacter));
    }
    run.clear();
  };
  for (std::string& token : tokens) {
    if (const int byte = fallback_byte(token); byte >= 0) {
      run.push_back(static_cast<char>(byte));
    } else {
      flush();
      result.push_back(std::move(token));
    }
  }
  flush();
  tokens = std::move(result);
}

// Up to `start` times the character at the left, up to `stop` times at the right.
void strip(std::string& token, const std::string& character, int64_t start, int64_t stop) {
  size_t begin = 0, end = token.size();
  const auto holds = [&](size_t at) { return token.compare(at, character.size(), character) == 0; };
  while (start-- > 0 && begin + character.size() <= end && holds(begin)) begin += character.size();
  while (stop-- > 0 && begin + character.size() <= end && holds(end - character.size())) {
    end -= character.size();
  }
  token = token.substr(begin, end - begin);
}

void decode_metaspace(Tokens& tokens, const std::string& replacement, bool prepended) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::string text;
    for (size_t at = 0; at < tokens[i].size();) {
      if (tokens[i].compare(at, replacement.size(), replacement) != 0) {
        text += tokens[i][at++];
        continue;
      }
      at += replacement.size();
      if (i > 0 || !prepended) text += ' ';
    }
    tokens[i] = std::move(text);
  }
}

// The suffix that ends a word becomes the space behind it, but for the last token's.
void decode_word_suffix(Tokens& tokens, const Regex& suffix) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = replaced(tokens[i], suffix, i + 1 < tokens.size() ? " " : "");
  }
}

// What English writes without a space, as tokenizers of words leave it.
void join_english(std::string& text) {
  constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) {
    for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size()) {
      text.replace(at, from.size(), to);
    }
  }
}

void decode_word_piece(Tokens& tokens, const std::string& prefix, bool cleanup) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0 && tokens[i].starts_with(prefix)) {
      tokens[i].erase(0, prefix.size());
    } else if (i > 0) {
      tokens[i].insert(0, 1, ' ');
    }
    if (cleanup) join_english(tokens[i]);
  }
}

}  // namespace

int fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int byte = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    byte = byte << 4 | digit;
  }
  return byte;
}

void Decoder::add(const JsonField& field, int depth) {
  const std::string& type = field.at("type").text();
  if (type == "Sequence") {
    const JsonField list = field.at("decoders");
    if (depth > 8) list.fail("at most 8 levels of Sequence", "more");
    for (size_t i = 0; i < list.list_size(); ++i) add(list.at(i), depth + 1);
  } else if (type == "ByteLevel") {
    byte_level_ = steps_.empty();
    steps_.push_back(decode_byte_level);
    return;
  } else if (type == "ByteFallback") {
    steps_.push_back(decode_byte_fallback);
  } else if (type == "Fuse") {
    steps_.push_back(fuse);
  } else if (type == "Strip") {
    const std::string& character = field.at("content").text();
    if (character.empty()) field.at("content").fail("a character");
    const int64_t start = field.at("start").integer(0, INT32_MAX);
    const int64_t stop = field.at("stop").integer(0, INT32_MAX);
    steps_.push_back([character, start, stop](Tokens& tokens) {
      for (std::string& token : tokens) strip(token, character, start, stop);
    });
  } else if (type == "Replace") {
    auto pattern = std::make_shared<const Regex>(parse_pattern(field.at("pattern")));
    steps_.push_back([pattern, content = field.at("content").text()](Tokens& tokens) {
      for (std::string& token : tokens) {
        token = replaced(token, *pattern, content);
      }
    });
  } else if (type == "Metaspace") {
    const std::string replacement = field.text_or("replacement", "\xE2\x96\x81");
    if (replacement.empty()) field.at("replacement").fail("a character");
    const std::string scheme = field.text_or(
        "prepend_scheme", field.boolean_or("add_prefix_space", true) ? "always" : "never");
    const bool prepended = scheme != "never";
    steps_.push_back([replacement, prepended](Tokens& tokens) {
      decode_metaspace(tokens, replacement, prepended);
    });
  } else if (type == "BPEDecoder") {
    const std::string suffix = field.text_or("suffix", "</w>");
    if (suffix.empty()) field.at("suffix").fail("a suffix");
    auto pattern = std::make_shared<const Regex>(escaped_pattern(suffix), field.where());
    steps_.push_back([pattern](Tokens& tokens) { decode_word_suffix(tokens, *pattern); });
  } else if (type == "WordPiece") {
    steps_.push_back([prefix = field.text_or("prefix", "##"),
                      cleanup = field.boolean_or("cleanup", true)](Tokens& tokens) {
      decode_word_piece(tokens, prefix, cleanup);
    });
  } else {
    field.at("type").fail(
        "ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace, BPEDecoder, WordPiece or "
        "Sequence");
  }
  if (type != "Sequence") byte_level_ = false;
}

Decoder Decoder::parse(const JsonField& field) {
  Decoder decoder;
  if (field.value().is_null()) return decoder;
  decoder.joined_by_spaces_ = false;
  decoder.add(field, 0);
  return decoder;
}

std::string Decoder::apply(Tokens tokens) const {
  for (const auto& step : steps_) step(tokens);
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (joined_by_spaces_ && i > 0) text += ' ';
    text += tokens[i];
  }
  return text;
}

}  // namespace hone::engine
