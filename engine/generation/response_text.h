#pragma once

// The text of a response while it is drawn, and the stop string that ends it.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"

namespace hone::engine {

class ResponseText {
 public:
  /// The text continues that of `prompt` (a first word keeps its space). All must outlive this.
  ResponseText(const Tokenizer& tokenizer, const std::vector<int32_t>& prompt,
               const std::vector<std::string>& stops);

  /// Takes the next token and returns the text that is settled by it: a stop string can no longer
  /// begin there. `may_stop` false: text up to here is not searched, now or later.
  std::string push(int32_t id, bool may_stop);
  /// The stop string that stands in the text, null while there is none.
  const std::string* stop() const { return stop_; }
  /// No token follows: the rest of the settled text.
  std::string finish();
  /// All of the text; ends before the stop string.
  const std::string& text() const { return text_; }

 private:
  std::string settle(size_t end);
  std::string own(std::string text) const;
  size_t open_end() const;

  const std::vector<std::string>& stops_;
  StreamDecoder decoder_;
  std::string held_;  // the prompt's last characters, which come out with the response's first
  std::string text_;
  size_t searched_ = 0, settled_ = 0;  // bytes
  size_t longest_ = 0;                 // of the stop strings
  const std::string* stop_ = nullptr;
};

/// The text of `response` as it continues `prompt`, special tokens left out.
std::string continuation(const Tokenizer& tokenizer, const std::vector<int32_t>& prompt,
                         const std::vector<int32_t>& response);

}  // namespace hone::engine
