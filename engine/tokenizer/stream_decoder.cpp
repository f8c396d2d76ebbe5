#include <algorithm>
#include <utility>

#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_impl.h"
#include "engine/tokenizer/utf8.h"

namespace hone::engine {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special) {}

std::string StreamDecoder::push(int32_t id) {
  const Tokenizer::Impl& impl = *tokenizer_.impl_;
  const std::string_view token = impl.token_of(id);
  if (token.empty() || (skip_special_ && impl.is_special(id))) return "";
  if (impl.decoder.is_byte_level()) {
    append_token_bytes(bytes_, token);
    const size_t whole = bytes_.size() - utf8_incomplete_tail(bytes_);
    std::string text = utf8_repaired(std::string_view(bytes_).substr(0, whole));
    bytes_.erase(0, whole);
    return text;
  }
  ids_.push_back(id);
  // Whether a run of byte tokens is text or so many U+FFFD shows only at its end.
  if (fallback_byte(token) >= 0) return "";
  std::string text = pending_text();
  // Decoders treat the beginning of a text specially, so one token stays as a beginning that has
  // been given out, unless nothing of it would be seen.
  const size_t alone = tokenizer_.decode({id}, false).size();
  if (alone > 0) {
    ids_.assign(1, id);
    emitted_ = alone;
  }
  return text;
}

std::string StreamDecoder::pending_text() {
  const std::string text = tokenizer_.decode(ids_, false);
  const size_t before = std::exchange(emitted_, text.size());
  return text.substr(std::min(before, text.size()));
}

std::string StreamDecoder::finish() {
  std::string text = tokenizer_.impl_->decoder.is_byte_level() ? utf8_repaired(bytes_)
                     : ids_.empty()                            ? ""
                                                               : pending_text();
  bytes_.clear();
  ids_.clear();
  emitted_ = 0;
  return text;
}

}  // namespace hone::engine
