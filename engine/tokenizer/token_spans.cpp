// Which bytes of a text each token stands for.

#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_impl.h"
#include "engine/tokenizer/utf8.h"

namespace hone::engine {
namespace {

// Where each token's bytes end in the decoded text: `ends`, one a token. False when that is not
// `text`.
bool token_ends(const Tokenizer& tokenizer, bool is_byte_level, const std::vector<int32_t>& ids,
                size_t begin, std::string_view text, std::vector<size_t>& ends) {
  ends.clear();
  std::string decoded;
  if (is_byte_level) {
    for (size_t i = begin; i < ids.size(); ++i) {
      append_token_bytes(decoded, tokenizer.token_of(ids[i]));
      ends.push_back(decoded.size());
    }
    return decoded == text;
  }
  StreamDecoder stream(tokenizer, /*skip_special=*/false);
  size_t held = 0;  // tokens of one byte whose text is still to come
  const auto give_out = [&](const std::string& part) {
    for (size_t i = held; i > 0; --i) ends[ends.size() - i] = decoded.size() + held - i + 1;
    held = 0;
    decoded += part;
  };
  for (size_t i = begin; i < ids.size(); ++i) {
    const std::string part = stream.push(ids[i]);
    if (fallback_byte(tokenizer.token_of(ids[i])) >= 0) {
      ends.push_back(0);
      ++held;
      continue;
    }
    give_out(part);
    ends.push_back(decoded.size());
  }
  give_out(stream.finish());
  return decoded == text;
}

}  // namespace

std::vector<int32_t> Tokenizer::encode_spans(std::string_view text,
                                             std::vector<Span>& spans) const {
  std::string repaired;
  if (utf8_valid_prefix(text) != text.size()) {
    repaired = utf8_repaired(text);
    text = repaired;
  }
  spans.clear();
  std::vector<int32_t> ids;
  std::vector<size_t> ends;
  std::unique_ptr<Impl::Scratch> scratch = impl_->take_scratch();
  impl_->raw_finder.split(text, scratch->parts);
  for (const AddedTokenFinder::Part& part : scratch->parts) {
    const auto text_begin = static_cast<size_t>(part.text.data() - text.data());
    const size_t token_begin = ids.size();
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else {
      impl_->encode_part(part.text, text_begin == 0, *scratch, ids);
      if (token_ends(*this, impl_->decoder.is_byte_level(), ids, token_begin, part.text, ends)) {
        size_t begin = 0;
        for (size_t i = 0; i < ends.size(); ++i) {
          spans.push_back(
              {text_begin + begin, text_begin + ends[i], token_begin + i, token_begin + i + 1});
          begin = ends[i];
        }
        continue;
      }
    }
    spans.push_back({text_begin, text_begin + part.text.size(), token_begin, ids.size()});
  }
  impl_->give_back(std::move(scratch));
  return ids;
}

}  // namespace hone::engine
