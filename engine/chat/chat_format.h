#pragma once

// Conversations as the text that a model was trained on. Chat templates are programs (Jinja); Hone
// does not run them, but knows the families that its models use and reads from a template in what
// its family's members differ.

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/json.h"

namespace hone::engine {

struct ChatMessage {
  std::string role;  // system, user or assistant
  std::string content;
};

/// [{"role": .., "content": ..}, ..]: not empty, no other roles. Throws data::InputError.
std::vector<ChatMessage> parse_chat_messages(const JsonField& field);

/// A conversation as text.
struct ChatText {
  struct Range {
    size_t begin, end;  // bytes
  };
  std::string text;
  std::vector<Range> assistant;  // what the assistant says, with the token that ends it
};

class ChatFormat {
 public:
  static constexpr std::string_view kNames = "chatml, llama3, mistral, plain";

  /// The family's most usual member. Throws data::InputError listing the names.
  static ChatFormat named(const std::string& name);
  /// The format of a template. Throws data::InputError naming `where` and listing the names when
  /// the template is of no known family, or does what no known member does.
  static ChatFormat recognise(const std::string& text, const std::string& where);
  /// The format of a model's directory: `name` if it is not empty, else that of
  /// chat_template.jinja or of tokenizer_config.json's chat_template (of a list, the one named
  /// "default"); without one, plain. The tokens bos and eos are the directory's.
  static ChatFormat load(const std::filesystem::path& directory, const std::string& name);

  const std::string& name() const { return name_; }
  bool is_plain() const { return name_ == "plain"; }
  /// Whether a text is a conversation that render() made; never in the plain format.
  bool begins(const std::string& text) const;
  /// The token that ends what the assistant says; empty in the plain format.
  std::string answer_end() const;
  /// generation_prompt: the text ends where the assistant begins to speak. Throws data::InputError
  /// (where the template raises an exception) for roles in an order that the format does not have.
  ChatText render(const std::vector<ChatMessage>& messages, bool generation_prompt) const;

 private:
  enum class SystemPlace { kNone, kFirstUser, kLastMessage, kLastUser };
  enum class GenerationPrompt { kOnRequest, kAlways, kNever };

  void render_chatml(const std::vector<ChatMessage>& messages, ChatText& result) const;
  void render_thinking(const std::vector<ChatMessage>& messages, ChatText& result) const;
  void render_opened_by_user(const std::vector<ChatMessage>& messages, ChatText& result) const;
  void render_llama3(const std::vector<ChatMessage>& messages, ChatText& result) const;
  void render_mistral(const std::vector<ChatMessage>& messages, ChatText& result) const;
  void render_plain(const std::vector<ChatMessage>& messages, ChatText& result) const;
  std::string header(const std::string& role) const;
  static ChatFormat recognise_chatml(const std::string& text, const std::string& where);
  static ChatFormat recognise_llama3(const std::string& text, const std::string& where);
  static ChatFormat recognise_mistral(const std::string& text, const std::string& where);

  std::string name_ = "plain";
  std::string bos_ = "<s>", eos_ = "</s>";
  bool has_bos_ = false;     // the text begins with the bos token
  bool is_trimmed_ = false;  // white space around contents goes
  GenerationPrompt generation_prompt_ = GenerationPrompt::kOnRequest;
  // chatml
  std::string default_system_;      // when the first message is of no system; empty: none
  std::string turn_end_ = "\n";     // behind <|im_end|>
  bool is_opened_by_user_ = false;  // a user's turn ends with the assistant's header
  bool is_thinking_ = false;        // the assistant's thoughts are shown in its last turn only
  // llama3
  bool is_dated_ = false;               // a system turn with dates comes first
  std::string knowledge_date_, today_;  // today_ empty: the date of today
  // mistral
  std::string open_ = "[INST] ", close_ = "[/INST]", answer_ = " ", answer_end_;
  SystemPlace system_place_ = SystemPlace::kLastUser;
};

}  // namespace hone::engine
