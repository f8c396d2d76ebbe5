#include "data/importers/importer.h"

#include "data/sha256.h"
#include "data/split.h"

namespace hone::data {
namespace {

std::string stem_of(const std::filesystem::path& input) {
  if (input == "-") return "stdin";
  std::string name = input.filename().string();
  for (const char* ending : {".gz", ".jsonl", ".json", ".tsv", ".txt"}) {
    if (name.ends_with(ending) && name.size() > std::string_view(ending).size()) {
      name.resize(name.size() - std::string_view(ending).size());
    }
  }
  return name;
}

}  // namespace

std::string content_id(std::initializer_list<std::string_view> parts) {
  Sha256 digest;
  for (const std::string_view part : parts) {
    digest.update(std::to_string(part.size()) + ":");
    digest.update(part);
  }
  return digest.hex().substr(0, 32);
}

std::string content_id(const Item& item) {
  return content_id(
      {"item", item.prompt_is_messages ? "messages" : "text", item.prompt, item.text});
}

ImportTarget::ImportTarget(StoreWriter& writer, const ImportOptions& options)
    : writer_(writer),
      options_(options),
      source_(stem_of(options.input)),
      provenance_(options.format + ":" +
                  (options.input == "-" ? "stdin" : options.input.filename().string())) {}

Split ImportTarget::split_of(const std::string& given, const std::string& group) const {
  const std::string& name = given.empty() ? options_.split : given;
  if (name == "train") return Split::kTrain;
  if (name == "validation") return Split::kValidation;
  if (name == "test") return Split::kTest;
  if (!given.empty()) throw LineError("split", "train, validation or test", given);
  return split_of_group(group, options_.validation_fraction, options_.test_fraction);
}

void ImportTarget::require_own_id(Comparison comparison,
                                  const std::vector<const Item*>& items) const {
  comparison.items.clear();
  for (const Item* item : items) {
    comparison.items.push_back(writer_.find_item(item->id.empty() ? content_id(*item) : item->id));
  }
  if (writer_.has_other(comparison)) {
    throw LineError("id", "one that no other judgement has", "\"" + comparison.id + "\"");
  }
}

void ImportTarget::require_own_id(const Demonstration& demonstration) const {
  if (writer_.has_other(demonstration)) {
    throw LineError("id", "one that no other demonstration has", "\"" + demonstration.id + "\"");
  }
}

int64_t ImportTarget::add_item(Item item, const std::string& given_split,
                               const std::string& fallback_group) {
  if (item.id.empty()) item.id = content_id(item);
  if (item.group.empty()) {
    item.group = item.prompt.empty() ? (fallback_group.empty() ? item.id : fallback_group)
                                     : content_id({"prompt", item.prompt});
  }
  if (item.source.empty()) item.source = source_;
  item.split = split_of(given_split, item.group);
  return writer_.add_item(std::move(item));
}

}  // namespace hone::data
