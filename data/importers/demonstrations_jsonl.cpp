#include <cmath>

#include "data/importers/importer.h"
#include "data/importers/prompt.h"

namespace hone::data {
namespace {

class DemonstrationsJsonl : public Importer {
 public:
  explicit DemonstrationsJsonl(ImportTarget& target) : target_(target) {}

  Result add_line(std::string_view line) override {
    const JsonLine fields(line, target_.options().fields);
    std::vector<Demonstration> demonstrations = read_contents(fields);
    for (Demonstration& one : demonstrations) complete(fields, demonstrations.size(), one);
    for (const Demonstration& one : demonstrations) target_.require_own_id(one);
    bool added = false;
    for (Demonstration& one : demonstrations) {
      added |= target_.writer().add_demonstration(std::move(one));
    }
    return added ? Result::kAdded : Result::kDuplicate;
  }

 private:
  std::vector<Demonstration> read_contents(const JsonLine& fields) {
    if (fields.find("messages") != nullptr) {
      Demonstration one;
      one.completion =
          take_last_message(parse_messages(fields.at("messages"), "messages"), "messages", one);
      return {one};
    }
    if (fields.find("instruction") != nullptr) return read_instruction(fields);
    Demonstration one;
    read_prompt(fields, one);
    const nlohmann::json& completion = fields.at("completion");
    if (one.prompt_is_messages && completion.is_array()) {
      std::vector<Message> dialogue = parse_messages(*fields.find("prompt"), "prompt");
      for (Message& message : parse_messages(completion, "completion")) {
        dialogue.push_back(std::move(message));
      }
      one.completion = take_last_message(std::move(dialogue), "completion", one);
    } else {
      one.completion = fields.text("completion");
    }
    return {one};
  }

  /// Self-instruct: one instruction with several inputs and outputs; Alpaca: with one.
  std::vector<Demonstration> read_instruction(const JsonLine& fields) {
    const std::string instruction = required_text(fields, "instruction");
    const auto make = [&](const std::string& input, const std::string& output) {
      Demonstration one;
      one.prompt = input.empty() ? instruction : instruction + "\n\n" + input;
      one.completion = output;
      return one;
    };
    if (fields.find("instances") == nullptr) {
      return {make(fields.find("input") ? fields.text("input") : "", fields.text("output"))};
    }
    const nlohmann::json& instances = fields.at("instances");
    if (!instances.is_array() || instances.empty()) {
      throw LineError("instances", "a list with an input and an output", instances.dump());
    }
    std::vector<Demonstration> all;
    for (const auto& instance : instances) {
      const auto text = [&](const char* name) {
        const bool has = instance.is_object() && instance.contains(name);
        if (!has || !instance[name].is_string()) {
          throw LineError(std::string("instances[") + std::to_string(all.size()) + "]." + name,
                          "a string", has ? instance[name].type_name() : "nothing");
        }
        return instance[name].get<std::string>();
      };
      all.push_back(make(text("input"), text("output")));
    }
    return all;
  }

  void complete(const JsonLine& fields, std::size_t siblings, Demonstration& one) {
    if (one.completion.empty()) throw LineError("completion", "some text", "an empty string");
    one.rater = fields.optional_name("rater");
    one.weight = fields.optional_number("weight").value_or(1.0);
    if (one.weight < 0) throw LineError("weight", "0 or more", fields.at("weight").dump());
    one.group = fields.optional_name("group");
    if (one.group.empty() && fields.find("instruction") != nullptr) {
      one.group = content_id({"prompt", fields.text("instruction")});
    }
    const std::string content =
        content_id({"demonstration", one.prompt, one.completion, one.rater});
    if (one.group.empty())
      one.group = one.prompt.empty() ? content : content_id({"prompt", one.prompt});
    one.split = target_.split_of(fields.optional_name("split"), one.group);
    // Several demonstrations of one line share its id, so their contents tell them apart.
    const std::string id = fields.optional_name("id");
    one.id = id.empty() ? content : siblings == 1 ? id : id + "/" + content.substr(0, 8);
    one.provenance.source = fields.find("source") ? fields.text("source") : target_.provenance();
  }

  ImportTarget& target_;
};

}  // namespace

const ImportFormat& demonstrations_jsonl_format() {
  static const ImportFormat format{
      {"demonstrations-jsonl",
       "answers to imitate: prompt (text or messages) and completion; or messages that end with "
       "the assistant's; or instruction with input and output (Alpaca) or instances "
       "(self-instruct); optionally id, rater, weight, group, split, source",
       R"({"prompt":"Name a colour.","completion":"Blue."})"},
      [](ImportTarget& target) -> std::unique_ptr<Importer> {
        return std::make_unique<DemonstrationsJsonl>(target);
      },
      false,
      {"prompt", "completion", "messages", "instruction", "input", "output", "instances", "id",
       "rater", "weight", "group", "split", "source"}};
  return format;
}

}  // namespace hone::data
