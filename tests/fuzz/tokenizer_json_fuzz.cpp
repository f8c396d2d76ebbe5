// Bytes as a tokenizer.json: reading gives an InputError or a tokenizer that encodes and decodes.

#include <cstddef>
#include <cstdint>
#include <string>

#include "data/error.h"
#include "engine/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using hone::engine::Tokenizer;
  static const std::string kTexts[] = {"", " the film's  end 123 [TAG] <s>x\n",
                                       "\xC3\xA9\xE2\x96\x81\xF0\x9F\x98\x80 e\xCC\x81",
                                       std::string("\0\xFF\x80", 3)};
  try {
    const Tokenizer tokenizer =
        Tokenizer::parse(std::string(reinterpret_cast<const char*>(data), size), "tokenizer.json");
    for (const std::string& text : kTexts) {
      const std::vector<int32_t> ids = tokenizer.encode(text, true);
      hone::engine::StreamDecoder stream(tokenizer);
      for (const int32_t id : ids) {
        if (id < 0 || id >= tokenizer.vocab_size()) __builtin_trap();
        stream.push(id);
      }
      stream.finish();
      tokenizer.decode(ids, true);
    }
  } catch (const hone::data::InputError& error) {
    if (std::string(error.what()).find('\n') != std::string::npos) __builtin_trap();
  }
  return 0;
}
