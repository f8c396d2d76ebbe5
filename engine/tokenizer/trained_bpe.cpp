#include "engine/tokenizer/trained_bpe.h"

#include <algorithm>
#include <cstdint>

namespace hone::engine {

using nlohmann::ordered_json;

namespace {

ordered_json added_tokens(const std::vector<std::string>& special_tokens) {
  ordered_json list = ordered_json::array();
  for (size_t id = 0; id < special_tokens.size(); ++id) {
    list.push_back({{"id", id},
                    {"content", special_tokens[id]},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", false},
                    {"special", true}});
  }
  return list;
}

ordered_json begin_of_text_template(const std::vector<std::string>& special_tokens) {
  const std::string name = "<bos>";
  const auto found = std::find(special_tokens.begin(), special_tokens.end(), name);
  if (found == special_tokens.end()) return nullptr;
  const int64_t id = found - special_tokens.begin();
  const auto special = [&](int type_id) {
    return ordered_json{{"SpecialToken", {{"id", name}, {"type_id", type_id}}}};
  };
  const auto text = [](const char* which, int type_id) {
    return ordered_json{{"Sequence", {{"id", which}, {"type_id", type_id}}}};
  };
  ordered_json result;
  result["type"] = "TemplateProcessing";
  result["single"] = {special(0), text("A", 0)};
  result["pair"] = {special(0), text("A", 0), special(1), text("B", 1)};
  result["special_tokens"][name] = {
      {"id", name}, {"ids", std::vector<int64_t>{id}}, {"tokens", std::vector<std::string>{name}}};
  return result;
}

}  // namespace

nlohmann::json byte_level_description(bool add_prefix_space) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", true}};
}

std::string tokenizer_json(const TrainedBpe& trained, const BpeTrainerOptions& options) {
  const ordered_json byte_level = byte_level_description(options.add_prefix_space);
  ordered_json head;
  head["version"] = "1.0";
  head["truncation"] = nullptr;
  head["padding"] = nullptr;
  head["added_tokens"] = added_tokens(options.special_tokens);
  head["normalizer"] = nullptr;
  head["pre_tokenizer"] = byte_level;
  head["post_processor"] = begin_of_text_template(options.special_tokens);
  head["decoder"] = byte_level;
  head["model"] = {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", nullptr},
                   {"continuing_subword_prefix", nullptr},
                   {"end_of_word_suffix", nullptr},
                   {"fuse_unk", false},
                   {"byte_fallback", false},
                   {"ignore_merges", false}};
  // The long lists are written by hand, a token a line: in order of ids, which a JSON object of the
  // library keeps only at quadratic cost.
  std::string text = head.dump(1, '\t');
  text.erase(text.rfind("\n\t}"));
  const auto quoted = [](const std::string& token) { return nlohmann::json(token).dump(); };
  text += ",\n\t\t\"vocab\": {";
  for (size_t id = 0; id < trained.tokens.size(); ++id) {
    text += (id > 0 ? ",\n\t\t\t" : "\n\t\t\t") + quoted(trained.tokens[id]) + ": " +
            std::to_string(id);
  }
  text += "\n\t\t},\n\t\t\"merges\": [";
  for (size_t rank = 0; rank < trained.merges.size(); ++rank) {
    const auto& [left, right] = trained.merges[rank];
    text += (rank > 0 ? ",\n\t\t\t[" : "\n\t\t\t[") + quoted(left) + ", " + quoted(right) + "]";
  }
  return text + "\n\t\t]\n\t}\n}\n";
}

}  // namespace hone::engine
