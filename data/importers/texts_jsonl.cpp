#include "data/importers/importer.h"
#include "data/importers/prompt.h"

namespace hone::data {
namespace {

class TextsJsonl : public Importer {
 public:
  explicit TextsJsonl(ImportTarget& target) : target_(target) {}

  Result add_line(std::string_view line) override {
    const JsonLine fields(line, target_.options().fields);
    Item item;
    item.id = fields.optional_name("id");
    item.text = required_text(fields, "text");
    read_prompt(fields, item);
    item.group = fields.optional_name("group");
    item.source = fields.optional_name("source");
    item.policy_hash = fields.optional_name("policy_hash");
    const int64_t index = target_.add_item(std::move(item), fields.optional_name("split"), "");
    return std::exchange(next_, std::max(next_, index + 1)) <= index ? Result::kAdded
                                                                     : Result::kDuplicate;
  }

 private:
  ImportTarget& target_;
  int64_t next_ = target_.writer().item_count();  // a new item has an index from here on
};

}  // namespace

const ImportFormat& texts_jsonl_format() {
  static const ImportFormat format{
      {"texts-jsonl",
       "texts that people judge, as JSON lines; keys text, and optionally id, prompt (text or "
       "messages), group, split, source, policy_hash; ratings-tsv and votes-tsv refer to the ids",
       R"({"id":"a1","prompt":"Ban bottled water?","text":"Yes, because ...","group":"debate 1"})"},
      [](ImportTarget& target) -> std::unique_ptr<Importer> {
        return std::make_unique<TextsJsonl>(target);
      },
      false,
      {"text", "id", "prompt", "group", "split", "source", "policy_hash"}};
  return format;
}

}  // namespace hone::data
