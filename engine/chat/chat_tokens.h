#pragma once

#include <cstdint>
#include <vector>

#include "engine/chat/chat_format.h"
#include "engine/tokenizer/tokenizer.h"

namespace hone::engine {

struct ChatTokens {
  std::vector<int32_t> tokens;
  /// 1 for every token with a character of what the assistant says or of the token that ends it.
  std::vector<uint8_t> assistant_mask;
};

/// Tokens of a conversation: those of its text, without what the tokenizer puts around texts, as a
/// template says all itself; in the plain format, which has no template, with what it puts before.
ChatTokens encode_chat(const Tokenizer& tokenizer, const ChatFormat& format,
                       const std::vector<ChatMessage>& messages, bool generation_prompt);

}  // namespace hone::engine
