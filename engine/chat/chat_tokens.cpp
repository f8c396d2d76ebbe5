#include "engine/chat/chat_tokens.h"

#include <algorithm>
#include <string_view>

namespace hone::engine {
namespace {

// The first token of a span of several that is not wholly before text[at]: those before are what
// the beginning of the text alone has in common with the whole.
size_t tokens_before(const Tokenizer& tokenizer, std::string_view text, const Tokenizer::Span& span,
                     size_t at, const std::vector<int32_t>& ids) {
  if (at <= span.text_begin) return span.token_begin;
  if (at >= span.text_end) return span.token_end;
  const std::vector<int32_t> alone = tokenizer.encode(text.substr(0, at), false);
  const auto [mine, theirs] = std::mismatch(alone.begin(), alone.end(), ids.begin(), ids.end());
  return std::clamp(static_cast<size_t>(mine - alone.begin()), span.token_begin, span.token_end);
}

}  // namespace

ChatTokens encode_chat(const Tokenizer& tokenizer, const ChatFormat& format,
                       const std::vector<ChatMessage>& messages, bool generation_prompt) {
  const ChatText chat = format.render(messages, generation_prompt);
  std::vector<Tokenizer::Span> spans;
  ChatTokens result;
  result.tokens = tokenizer.encode_spans(chat.text, spans);
  result.assistant_mask.assign(result.tokens.size(), 0);
  for (const ChatText::Range& range : chat.assistant) {
    for (const Tokenizer::Span& span : spans) {
      if (span.text_end <= range.begin || span.text_begin >= range.end) continue;
      // A single token with any character of the answer is the answer's.
      const bool single = span.token_end - span.token_begin == 1;
      const size_t begin =
          single ? span.token_begin
                 : tokens_before(tokenizer, chat.text, span, range.begin, result.tokens);
      const size_t end = single
                             ? span.token_end
                             : tokens_before(tokenizer, chat.text, span, range.end, result.tokens);
      std::fill(result.assistant_mask.begin() + static_cast<std::ptrdiff_t>(begin),
                result.assistant_mask.begin() + static_cast<std::ptrdiff_t>(end), 1);
    }
  }
  if (format.is_plain()) {
    const std::vector<int32_t>& prefix = tokenizer.prefix();
    result.tokens.insert(result.tokens.begin(), prefix.begin(), prefix.end());
    result.assistant_mask.insert(result.assistant_mask.begin(), prefix.size(), 0);
  }
  return result;
}

}  // namespace hone::engine
