#pragma once

// tokenizer.json in and out: byte-level BPE, sentencepiece-like BPE with byte fallback, Unigram.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace hone::engine {

class Tokenizer {
 public:
  /// Reads `directory`/tokenizer.json (or the file itself). Throws data::InputError naming file
  /// and field for anything unknown that would change token ids.
  static Tokenizer load(const std::filesystem::path& path);
  /// From the text of a tokenizer.json.
  static Tokenizer parse(const std::string& json, const std::string& where);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Token ids of valid UTF-8 text (invalid bytes are replaced by U+FFFD first, as `tokenizers`
  /// bindings do). add_special: what the post-processor adds (bos, eos). Thread-safe.
  std::vector<int32_t> encode(std::string_view text, bool add_special) const;
  /// What encode(add_special) puts before and behind a text.
  const std::vector<int32_t>& prefix() const;
  const std::vector<int32_t>& suffix() const;

  /// A run of tokens and the bytes of the text that they stand for.
  struct Span {
    size_t text_begin, text_end;  // bytes
    size_t token_begin, token_end;
  };
  /// encode() without special tokens around, and its spans in order: one a token where the decoded
  /// tokens are the text, byte for byte; else (normalized text) one for all between added tokens.
  std::vector<int32_t> encode_spans(std::string_view text, std::vector<Span>& spans) const;

  /// Valid UTF-8. Ids without a token are left out; skip_special drops special added tokens.
  std::string decode(const std::vector<int32_t>& ids, bool skip_special) const;

  int64_t vocab_size() const;                   // ids are below this
  int64_t id_of(std::string_view token) const;  // -1 when unknown
  std::string token_of(int32_t id) const;
  const std::string& json() const;  // the file's text, to be written back as it was

 private:
  friend class StreamDecoder;
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Text as it arrives, holding back bytes of an incomplete character: the parts together are
/// decode() of all ids. The tokenizer must outlive it.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true);
  std::string push(int32_t id);
  std::string finish();

 private:
  std::string pending_text();

  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::string bytes_;         // byte-level: what may still become a character
  std::vector<int32_t> ids_;  // otherwise: the last tokens, of which the text
  size_t emitted_ = 0;        // up to here has been given out
};

struct BpeTrainerOptions {
  int64_t vocab_size = 2048;
  std::vector<std::string> special_tokens = {"<pad>", "<bos>", "<eos>"};  // ids 0, 1, 2
  bool add_prefix_space = true;
  int64_t min_frequency = 2;
};
/// Trains byte-level BPE; returns the tokenizer.json text, which the `tokenizers` package loads.
/// Ties between pairs are broken as that package's trainer does (lower token ids first), so that
/// both give the same merges.
std::string train_byte_level_bpe(const std::vector<std::string>& texts,
                                 const BpeTrainerOptions& options);

}  // namespace hone::engine
