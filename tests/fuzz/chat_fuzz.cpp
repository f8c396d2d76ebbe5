// A chat template, a zero byte and messages as JSON: text and its ranges, or an InputError.

#include <cstddef>
#include <cstdint>
#include <string>

#include "data/error.h"
#include "engine/chat/chat_format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hone::engine;
  const std::string input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  try {
    const ChatFormat format = ChatFormat::recognise(input.substr(0, zero), "chat_template.jinja");
    std::string messages = R"([{"role": "user", "content": " a"}, {"role": "assistant",
                               "content": "<think>\n</think>b\n"}])";
    if (zero != std::string::npos) messages = input.substr(zero + 1);
    const nlohmann::json document = parse_json(messages, "messages");
    const ChatText text = format.render(parse_chat_messages(JsonField(document, "messages")), true);
    for (const ChatText::Range& range : text.assistant) {
      if (range.begin > range.end || range.end > text.text.size()) __builtin_trap();
    }
  } catch (const hone::data::InputError& error) {
    if (std::string(error.what()).find('\n') != std::string::npos) __builtin_trap();
  }
  return 0;
}
