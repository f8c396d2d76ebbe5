#include <algorithm>
#include <vector>

#include "data/importers/importer.h"
#include "data/importers/json_line.h"

namespace hone::data {
namespace {

constexpr std::string_view kHuman = "\n\nHuman:", kAssistant = "\n\nAssistant:";

/// Where each turn of a transcript begins (with its tag).
struct Transcript {
  std::string text;
  std::vector<std::size_t> turns;

  std::string_view turn(std::size_t i) const {
    const std::size_t end = i + 1 < turns.size() ? turns[i + 1] : text.size();
    return std::string_view(text).substr(turns[i], end - turns[i]);
  }
  bool is_assistant(std::size_t i) const { return turn(i).starts_with(kAssistant); }
  /// The transcript up to and including the tag of turn i, and what follows it.
  std::string before(std::size_t i) const { return text.substr(0, turns[i] + kAssistant.size()); }
  std::string after(std::size_t i) const { return text.substr(turns[i] + kAssistant.size()); }
};

Transcript read_transcript(const JsonLine& line, const std::string& field) {
  Transcript transcript{line.text(field), {}};
  const std::string& text = transcript.text;
  for (std::size_t at = text.find("\n\n"); at != std::string::npos;
       at = text.find("\n\n", at + 1)) {
    if (text.compare(at, kHuman.size(), kHuman) == 0 ||
        text.compare(at, kAssistant.size(), kAssistant) == 0) {
      transcript.turns.push_back(at);
    }
  }
  if (transcript.turns.empty() || transcript.turns.front() != 0 ||
      !transcript.turn(0).starts_with(kHuman)) {
    throw LineError(field, "a transcript that begins with \\n\\nHuman:", "another beginning");
  }
  if (!transcript.is_assistant(transcript.turns.size() - 1)) {
    throw LineError(field, "a transcript that ends with an \\n\\nAssistant: turn", "another end");
  }
  return transcript;
}

/// The turn where both sides still share everything up to and including "\n\nAssistant:". Usually
/// the last one; where the dialogues part earlier, what follows the shared part is the answer.
std::size_t shared_assistant_turn(const Transcript& a, const Transcript& b) {
  const std::size_t turns = std::min(a.turns.size(), b.turns.size());
  std::size_t shared = 0;
  while (shared < turns && a.turn(shared) == b.turn(shared)) ++shared;
  for (std::size_t i = std::min(shared + 1, turns); i-- > 1;) {
    if (a.is_assistant(i) && b.is_assistant(i)) return i;
  }
  throw LineError("rejected", "a dialogue that begins as chosen does", "another first turn");
}

class Hh : public Importer {
 public:
  explicit Hh(ImportTarget& target) : target_(target) {}

  Result add_line(std::string_view line) override {
    const JsonLine fields(line, target_.options().fields);
    const Transcript chosen = read_transcript(fields, "chosen");
    const Transcript rejected = read_transcript(fields, "rejected");
    if (chosen.text == rejected.text) {
      throw LineError("rejected", "another dialogue than chosen", "the same");
    }
    const std::size_t turn = shared_assistant_turn(chosen, rejected);
    // People often ask the same first question: those dialogues stay in one split.
    const std::string group = content_id({"hh", chosen.turn(0)});

    Comparison comparison;
    for (const Transcript* side : {&chosen, &rejected}) {
      Item item;
      item.prompt = side->before(turn);
      item.text = side->after(turn);
      item.group = group;
      comparison.items.push_back(target_.add_item(std::move(item), "", ""));
    }
    comparison.id = content_id({"hh", chosen.text, rejected.text});
    comparison.ranks = {0, 1};
    comparison.provenance.source = target_.provenance();
    comparison.provenance.kind = "same-person";
    const bool added = target_.writer().add_comparison(std::move(comparison));
    return add_demonstration(chosen, group) || added ? Result::kAdded : Result::kDuplicate;
  }

 private:
  /// The chosen side's last reply, if it says anything.
  bool add_demonstration(const Transcript& chosen, const std::string& group) {
    const std::size_t last = chosen.turns.size() - 1;
    Demonstration demonstration;
    demonstration.prompt = chosen.before(last);
    demonstration.completion = chosen.after(last);
    if (demonstration.completion.find_first_not_of(" \t\r\n") == std::string::npos) return false;
    demonstration.id =
        content_id({"demonstration", demonstration.prompt, demonstration.completion, ""});
    demonstration.group = group;
    demonstration.split = target_.split_of("", group);
    demonstration.provenance.source = target_.provenance();
    return target_.writer().add_demonstration(std::move(demonstration));
  }

  ImportTarget& target_;
};

}  // namespace

const ImportFormat& hh_format() {
  static const ImportFormat format{
      {"hh",
       "pairs of transcripts as in Anthropic's HH data: chosen and rejected with \\n\\nHuman: and "
       "\\n\\nAssistant: turns; the shared beginning is the prompt, and the chosen reply also "
       "becomes a demonstration",
       R"({"chosen":"\n\nHuman: Hi\n\nAssistant: Hello!","rejected":"\n\nHuman: Hi\n\nAssistant: No."})"},
      [](ImportTarget& target) -> std::unique_ptr<Importer> {
        return std::make_unique<Hh>(target);
      },
      false,
      {"chosen", "rejected"}};
  return format;
}

}  // namespace hone::data
