#include "engine/generation/response_text.h"

#include <algorithm>
#include <string_view>

namespace hone::engine {

ResponseText::ResponseText(const Tokenizer& tokenizer, const std::vector<int32_t>& prompt,
                           const std::vector<std::string>& stops)
    : stops_(stops), decoder_(tokenizer) {
  for (const int32_t id : prompt) decoder_.push(id);
  held_ = StreamDecoder(decoder_).finish();
  for (const std::string& stop : stops) longest_ = std::max(longest_, stop.size());
}

std::string ResponseText::push(int32_t id, bool may_stop) {
  const std::string more = decoder_.push(id);
  text_ += own(more);
  if (!more.empty()) held_.clear();
  if (!may_stop) {
    searched_ = text_.size();
  } else if (longest_ > 0) {
    // Bytes that may still become another character count as they would stand now: a response must
    // end with the token that completes the stop string, not one later.
    const std::string so_far = text_ + own(StreamDecoder(decoder_).finish());
    size_t first = std::string::npos;
    for (const std::string& stop : stops_) {
      const size_t at = so_far.find(stop, searched_);
      if (at < first) {
        first = at;
        stop_ = &stop;
      }
    }
    if (stop_ != nullptr) {
      text_ = so_far.substr(0, first);
      return settle(text_.size());
    }
    const size_t overlap = std::min(text_.size(), longest_ - 1);
    searched_ = std::max(searched_, text_.size() - overlap);
  }
  return settle(open_end());
}

std::string ResponseText::finish() {
  if (stop_ == nullptr) text_ += own(decoder_.finish());
  return settle(text_.size());
}

/// Decoded text without what the prompt's last tokens still had to say.
std::string ResponseText::own(std::string text) const {
  if (text.starts_with(held_)) text.erase(0, held_.size());
  return text;
}

/// Where the longest end of the text that begins a stop string begins.
size_t ResponseText::open_end() const {
  const std::string_view text = text_;
  for (size_t at = std::max(searched_, settled_); at < text.size(); ++at) {
    const std::string_view end = text.substr(at);
    const bool begins = std::any_of(stops_.begin(), stops_.end(), [&](const std::string& stop) {
      return stop.size() > end.size() && stop.starts_with(end);
    });
    if (begins) return at;
  }
  return text.size();
}

std::string ResponseText::settle(size_t end) {
  std::string settled = end > settled_ ? text_.substr(settled_, end - settled_) : std::string();
  settled_ = std::max(settled_, end);
  return settled;
}

std::string continuation(const Tokenizer& tokenizer, const std::vector<int32_t>& prompt,
                         const std::vector<int32_t>& response) {
  const std::vector<std::string> no_stops;
  ResponseText text(tokenizer, prompt, no_stops);
  for (const int32_t id : response) text.push(id, false);
  text.finish();
  return text.text();
}

}  // namespace hone::engine
