#include <algorithm>
#include <map>

#include "data/importers/annotation.h"

namespace hone::data {
namespace {

using nlohmann::json;

bool is_true(const json& node, const char* name) {
  return node.contains(name) && node[name].is_boolean() && node[name].get<bool>();
}
bool is_false(const json& node, const char* name) {
  return node.contains(name) && node[name].is_boolean() && !node[name].get<bool>();
}

std::string text_of(const json& node, const char* name) {
  if (!node.is_object() || !node.contains(name) || !node[name].is_string()) {
    throw LineError(std::string("message ") + name, "a string", "nothing");
  }
  return node[name].get<std::string>();
}

Message message_of(const json& node) {
  const std::string role = text_of(node, "role");
  if (role != "prompter" && role != "assistant") {
    throw LineError("message role", "prompter or assistant", role);
  }
  return {role == "prompter" ? "user" : "assistant", text_of(node, "text")};
}

/// Not deleted, and not refused by its reviewers.
bool is_accepted(const json& node) {
  return !is_true(node, "deleted") && !is_false(node, "review_result");
}

/// What one tree holds, found before anything is added.
struct Tree {
  std::string group;
  std::vector<Item> items;
  std::map<std::string, std::size_t> by_id;  // message id -> item
  std::vector<Comparison> comparisons;       // of numbers of `items`
  std::vector<Demonstration> demonstrations;
};

class OpenAssistant : public Importer {
 public:
  explicit OpenAssistant(ImportTarget& target) : target_(target) {}

  Result add_line(std::string_view line) override {
    constexpr int kDeepest = 256;  // a reply is two levels
    const JsonLine fields(line, target_.options().fields, kDeepest);
    Tree tree;
    if (const json* thread = fields.find("thread")) {
      read_thread(*thread, tree);
    } else if (fields.find("message_tree_id") != nullptr) {
      tree.group = fields.optional_name("message_tree_id");
      const json& prompt = fields.at("prompt");
      std::vector<Message> path{message_of(prompt)};
      if (is_accepted(prompt)) read_replies(prompt, path, tree);
    } else {
      throw LineError("line", "a message tree or a thread (single messages name no replies)",
                      "another object");
    }
    return commit(tree) ? Result::kAdded : Result::kDuplicate;
  }

 private:
  void read_thread(const json& thread, Tree& tree) {
    if (!thread.is_array() || thread.size() < 2) throw LineError("thread", "messages", "too few");
    std::vector<Message> path;
    for (const json& node : thread) path.push_back(message_of(node));
    tree.group = text_of(thread.front(), "message_id");
    const Message last = path.back();
    path.pop_back();
    if (last.role != "assistant") throw LineError("thread", "a last message by assistant", "other");
    add_demonstration(thread.back(), path, last.content, tree);
  }

  void read_replies(const json& node, std::vector<Message>& path, Tree& tree) {
    if (!node.contains("replies") || !node["replies"].is_array()) return;
    std::vector<std::size_t> siblings;
    std::vector<double> ranks;
    for (const json& reply : node["replies"]) {
      const Message message = message_of(reply);
      if (!is_accepted(reply)) continue;
      const bool ranked = reply.contains("rank") && reply["rank"].is_number_integer();
      if (message.role == "assistant" && !message.content.empty()) {
        const std::size_t item = add_item(reply, path, message.content, tree);
        if (ranked) {
          siblings.push_back(item);
          ranks.push_back(reply["rank"].get<double>());
        }
        // Of ranked answers the best is an example to imitate; a machine's is none.
        if (!is_true(reply, "synthetic") && (!ranked || reply["rank"] == 0)) {
          add_demonstration(reply, path, message.content, tree);
        }
      }
      path.push_back(message);
      read_replies(reply, path, tree);
      path.pop_back();
    }
    if (read_rankings(node, tree) || siblings.size() < 2 || siblings.size() > 255) return;
    Comparison comparison;  // the raters' agreed order
    for (const std::size_t item : siblings) comparison.items.push_back(static_cast<int64_t>(item));
    comparison.ranks = dense_ranks(ranks);
    comparison.id = content_id({"oasst", text_of(node, "message_id")});
    comparison.provenance.kind = "across-people";
    tree.comparisons.push_back(std::move(comparison));
  }

  /// Each person's own ranking of the replies, where the export has the events.
  bool read_rankings(const json& node, Tree& tree) {
    if (!node.contains("events") || !node["events"].is_object()) return false;
    const auto events = node["events"].find("ranking");
    if (events == node["events"].end() || !events->is_array()) return false;
    bool any = false;
    for (const json& event : *events) {
      if (!event.is_object() || !event.contains("ranked_message_ids")) continue;
      const json& ids = event["ranked_message_ids"];
      if (!ids.is_array() || ids.size() < 2 || ids.size() > 255) continue;
      Comparison comparison;
      std::string content;
      for (const json& id : ids) {
        const auto found = tree.by_id.find(name_of(id));
        if (found == tree.by_id.end()) break;  // a reply that was refused later
        comparison.items.push_back(static_cast<int64_t>(found->second));
        comparison.ranks.push_back(static_cast<uint8_t>(comparison.ranks.size()));
        content += found->first + " ";
      }
      if (comparison.items.size() != ids.size()) continue;
      if (is_true(event, "not_rankable")) {
        comparison.outcome = Outcome::kBothBad;
        comparison.ranks.clear();
        content += "not rankable";
      }
      comparison.rater = event.contains("user_id") ? name_of(event["user_id"]) : "";
      comparison.provenance.kind = "same-person";
      comparison.id = content_id({"oasst", content, comparison.rater});
      tree.comparisons.push_back(std::move(comparison));
      any = true;
    }
    return any;
  }

  static std::size_t add_item(const json& node, const std::vector<Message>& path,
                              const std::string& text, Tree& tree) {
    Item item;
    item.prompt = messages_text(path);
    item.prompt_is_messages = true;
    item.text = text;
    item.group = tree.group;
    if (node.contains("model_name")) item.policy_hash = name_of(node["model_name"]);
    tree.items.push_back(std::move(item));
    tree.by_id[text_of(node, "message_id")] = tree.items.size() - 1;
    return tree.items.size() - 1;
  }

  static void add_demonstration(const json& node, const std::vector<Message>& path,
                                const std::string& text, Tree& tree) {
    Demonstration demonstration;
    demonstration.id = text_of(node, "message_id");
    demonstration.prompt = messages_text(path);
    demonstration.prompt_is_messages = true;
    demonstration.completion = text;
    demonstration.group = tree.group;
    if (node.contains("user_id")) demonstration.rater = name_of(node["user_id"]);
    tree.demonstrations.push_back(std::move(demonstration));
  }

  bool commit(Tree& tree) {
    if (tree.group.empty()) throw LineError("message_tree_id", "an id", "nothing");
    const int64_t before = target_.writer().item_count();
    std::vector<int64_t> numbers;
    for (Item& item : tree.items) numbers.push_back(target_.add_item(std::move(item), "", ""));
    bool added = target_.writer().item_count() > before;
    for (Comparison& comparison : tree.comparisons) {
      for (int64_t& item : comparison.items) item = numbers[static_cast<std::size_t>(item)];
      std::vector<int64_t> sorted = comparison.items;
      std::sort(sorted.begin(), sorted.end());
      if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
        target_.leave_out("ranking: expected different replies, got one of them twice");
        continue;
      }
      comparison.provenance.source = target_.provenance();
      added |= target_.writer().add_comparison(comparison);
    }
    for (Demonstration& one : tree.demonstrations) {
      one.split = target_.split_of("", one.group);
      one.provenance.source = target_.provenance();
      added |= target_.writer().add_demonstration(one);
    }
    return added;
  }

  ImportTarget& target_;
};

}  // namespace

const ImportFormat& open_assistant_format() {
  static const ImportFormat format{
      {"open-assistant",
       "message trees or threads of Open-Assistant (.trees.jsonl.gz): assistant replies become "
       "items, their ranks among siblings comparisons (each person's where the file has the "
       "events), replies that people wrote and none was ranked above demonstrations; deleted and "
       "refused messages are left out with all below them",
       R"({"message_tree_id":"t","prompt":{"message_id":"t","role":"prompter","text":"Hi","replies":[{"message_id":"a","role":"assistant","text":"Hello","rank":0},{"message_id":"b","role":"assistant","text":"No","rank":1}]}})"},
      [](ImportTarget& target) -> std::unique_ptr<Importer> {
        return std::make_unique<OpenAssistant>(target);
      }};
  return format;
}

}  // namespace hone::data
