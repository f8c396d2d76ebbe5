#include "engine/tokenizer/byte_level.h"

#include <array>

#include "engine/tokenizer/utf8.h"

namespace hone::engine {
namespace {

constexpr char32_t kFirstMoved = 0x100, kLastMoved = 0x143;

constexpr bool stays(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Table {
  std::array<char32_t, 256> character{};
  std::array<int, kLastMoved + 1> byte{};
};

constexpr Table make_table() {
  Table table;
  for (int& byte : table.byte) byte = -1;
  char32_t next = kFirstMoved;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char32_t code = stays(byte) ? byte : next++;
    table.character[byte] = code;
    table.byte[code] = static_cast<int>(byte);
  }
  return table;
}

constexpr Table kTable = make_table();
static_assert(kTable.byte[kLastMoved] == 0xAD);

}  // namespace

char32_t byte_level_character(unsigned char byte) { return kTable.character[byte]; }

int byte_level_byte(char32_t code) { return code <= kLastMoved ? kTable.byte[code] : -1; }

void append_byte_level(std::string& text, std::string_view bytes) {
  for (const char byte : bytes) {
    utf8_append(text, kTable.character[static_cast<unsigned char>(byte)]);
  }
}

void append_token_bytes(std::string& bytes, std::string_view token) {
  const size_t before = bytes.size();
  for (size_t at = 0; at < token.size();) {
    const int byte = byte_level_byte(utf8_next(token, at));
    if (byte < 0) {
      bytes.resize(before);
      bytes += token;
      return;
    }
    bytes.push_back(static_cast<char>(byte));
  }
}

std::array<int32_t, 256> byte_fallback_ids(const Vocabulary& vocabulary) {
  std::array<int32_t, 256> ids{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    constexpr char kHex[] = "0123456789ABCDEF";
    ids[byte] = vocabulary.id_of(std::string{'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'});
  }
  return ids;
}

}  // namespace hone::engine
