#include "engine/tokenizer/post_processor.h"

#include <string>

namespace hone::engine {
namespace {

// Around what stands there already: the steps of a Sequence wrap from inside out.
void wrap(PostProcessor& result, const std::vector<int32_t>& prefix,
          const std::vector<int32_t>& suffix) {
  result.prefix.insert(result.prefix.begin(), prefix.begin(), prefix.end());
  result.suffix.insert(result.suffix.end(), suffix.begin(), suffix.end());
}

void add_template(const JsonField& field, PostProcessor& result) {
  const JsonField single = field.at("single");
  std::vector<int32_t> prefix, suffix;
  bool seen_text = false;
  for (size_t i = 0; i < single.list_size(); ++i) {
    const JsonField piece = single.at(i);
    if (piece.has("Sequence")) {
      const bool is_first = piece.at("Sequence").at("id").text() == "A" && !seen_text;
      if (!is_first) piece.fail("Sequence A, once");
      seen_text = true;
      continue;
    }
    const std::string& name = piece.at("SpecialToken").at("id").text();
    const JsonField ids = field.at("special_tokens").at(name).at("ids");
    for (size_t k = 0; k < ids.list_size(); ++k) {
      (seen_text ? suffix : prefix)
          .push_back(static_cast<int32_t>(ids.at(k).integer(0, INT32_MAX)));
    }
  }
  if (!seen_text) single.fail("Sequence A");
  wrap(result, prefix, suffix);
}

// ["</s>", 2]
int32_t named_id(const JsonField& field) {
  return static_cast<int32_t>(field.at(size_t{1}).integer(0, INT32_MAX));
}

void add(const JsonField& field, PostProcessor& result, int depth) {
  const std::string& type = field.at("type").text();
  if (type == "Sequence") {
    const JsonField list = field.at("processors");
    if (depth > 8) list.fail("at most 8 levels of Sequence", "more");
    for (size_t i = 0; i < list.list_size(); ++i) add(list.at(i), result, depth + 1);
  } else if (type == "TemplateProcessing") {
    add_template(field, result);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    wrap(result, {named_id(field.at("cls"))}, {named_id(field.at("sep"))});
  } else if (type != "ByteLevel") {  // which only moves offsets
    field.at("type").fail(
        "TemplateProcessing, ByteLevel, BertProcessing, RobertaProcessing or Sequence");
  }
}

}  // namespace

PostProcessor PostProcessor::parse(const JsonField& field) {
  PostProcessor result;
  if (!field.value().is_null()) add(field, result, 0);
  return result;
}

}  // namespace hone::engine
