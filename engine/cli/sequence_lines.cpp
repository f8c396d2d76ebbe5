#include "engine/cli/sequence_lines.h"

#include <algorithm>
#include <limits>

#include "data/error.h"
#include "data/importers/line_reader.h"
#include "engine/generation/response_text.h"
#include "engine/io/json.h"
#include "engine/runtime/signals.h"

namespace hone::engine {
namespace {

constexpr uint64_t kMaxLineBytes = uint64_t{64} << 20;

}  // namespace

void for_each_line(const std::string& path,
                   const std::function<void(const nlohmann::json&, const std::string&)>& line) {
  data::LineReader reader(path, kMaxLineBytes);
  reader.on_interrupt(check_interrupted);
  const std::string name = path == "-" ? "standard input" : path;
  while (reader.next()) {
    check_interrupted();
    const std::string where = name + ":" + std::to_string(reader.number());
    if (reader.too_long()) {
      throw data::InputError(where, "line", "at most 64 MiB", "more");
    }
    if (reader.text().find_first_not_of(" \t") == std::string_view::npos) continue;
    const nlohmann::json object = parse_json(reader.text(), where);
    JsonField(object, where).require_object();
    line(object, where);
  }
}

TokenIds token_list(const nlohmann::json& object, const std::string& key, const std::string& where,
                    int64_t vocab_size) {
  const JsonField list = JsonField(object, where).at(key);
  TokenIds ids;
  const size_t size = list.list_size();
  ids.reserve(size);
  for (size_t i = 0; i < size; ++i) {
    ids.push_back(static_cast<int32_t>(list.at(i).integer(0, vocab_size - 1)));
  }
  return ids;
}

const TextCodec& LazyCodec::get() {
  if (!codec_) {
    codec_.emplace(TextCodec::load(directory_, config_, std::numeric_limits<int64_t>::max()));
  }
  return *codec_;
}

TokenIds LazyCodec::prompt(const std::string& text) {
  TokenIds result = get().begin(text);
  const TokenIds ids = get().tokenizer().encode(text, /*add_special=*/false);
  result.insert(result.end(), ids.begin(), ids.end());
  return result;
}

TokenIds LazyCodec::prompt_and_response(const std::string& text, const std::string& response) {
  TokenIds head = prompt(text), whole = prompt(text + response);
  if (whole.size() >= head.size() && std::equal(head.begin(), head.end(), whole.begin())) {
    return whole;
  }
  const TokenIds tail = get().tokenizer().encode(response, /*add_special=*/false);
  head.insert(head.end(), tail.begin(), tail.end());
  return head;
}

std::string LazyCodec::continuation(const TokenIds& prompt, const TokenIds& response) {
  return engine::continuation(get().tokenizer(), prompt, response);
}

}  // namespace hone::engine
