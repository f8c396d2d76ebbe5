#include <cstdint>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "data/error.h"
#include "engine/chat/chat_tokens.h"
#include "engine/cli/command.h"
#include "engine/io/json.h"
#include "engine/runtime/signals.h"
#include "engine/tokenizer/tokenizer.h"

namespace hone::engine {
namespace {

using data::InputError;
using data::IoError;

struct TokenizeArguments {
  std::string model, input, output = "-", chat_format;
  bool no_special = false, generation_prompt = false;
};

// A line without its end; false at the end of the input. A line may not outgrow memory.
bool read_line(std::istream& input, const std::string& where, std::string& line) {
  constexpr size_t kMaxLineBytes = size_t{1} << 30;
  line.clear();
  std::streambuf& buffer = *input.rdbuf();
  int next = buffer.sbumpc();
  if (next == EOF) return false;
  for (; next != EOF && next != '\n'; next = buffer.sbumpc()) {
    line.push_back(static_cast<char>(next));
    if (line.size() > kMaxLineBytes) throw InputError(where, "line", "at most 1 GiB", "more");
  }
  return true;
}

nlohmann::ordered_json text_line(const Tokenizer& tokenizer, const JsonField& record,
                                 bool add_special) {
  const std::vector<int32_t> ids = tokenizer.encode(record.at("text").text(), add_special);
  nlohmann::ordered_json result;
  result["tokens"] = ids;
  result["text_decoded"] = tokenizer.decode(ids, /*skip_special=*/true);
  return result;
}

// The chat format is read when the first line with messages needs it.
class ChatLines {
 public:
  ChatLines(const Tokenizer& tokenizer, const TokenizeArguments& arguments)
      : tokenizer_(tokenizer), arguments_(arguments) {}

  nlohmann::ordered_json line(const JsonField& record) {
    if (!format_) format_ = ChatFormat::load(arguments_.model, arguments_.chat_format);
    const bool generation_prompt =
        record.boolean_or("add_generation_prompt", arguments_.generation_prompt);
    const ChatTokens chat = encode_chat(
        tokenizer_, *format_, parse_chat_messages(record.at("messages")), generation_prompt);
    nlohmann::ordered_json result;
    result["tokens"] = chat.tokens;
    result["text_decoded"] = tokenizer_.decode(chat.tokens, /*skip_special=*/false);
    result["assistant_mask"] = chat.assistant_mask;
    return result;
  }

 private:
  const Tokenizer& tokenizer_;
  const TokenizeArguments& arguments_;
  std::optional<ChatFormat> format_;
};

void tokenize_lines(const Tokenizer& tokenizer, const TokenizeArguments& arguments,
                    std::istream& input, const std::string& name, std::ostream& output) {
  ChatLines chats(tokenizer, arguments);
  std::string line;
  for (uint64_t number = 1;; ++number) {
    const std::string where = name + ":" + std::to_string(number);
    const bool read = read_line(input, where, line);
    check_interrupted();  // a signal that ends the wait for a pipe looks like the end of the input
    if (!read) break;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const nlohmann::json record = parse_json(line, where);
    const JsonField field(record, where);
    output << json_line(field.has("messages") ? chats.line(field)
                                              : text_line(tokenizer, field, !arguments.no_special));
    if (!output) throw IoError("tokenize: writing failed (disk full, or the reader has gone)");
  }
  if (!output.flush()) throw IoError("tokenize: writing failed (disk full, or no reader)");
}

void run_tokenize(const TokenizeArguments& arguments) {
  const Tokenizer tokenizer = Tokenizer::load(arguments.model);
  std::ifstream input_file;
  std::ofstream output_file;
  if (arguments.input != "-") {
    input_file.open(arguments.input, std::ios::binary);
    if (!input_file) {
      throw InputError(arguments.input, "--input", "a readable JSONL file", "none");
    }
  }
  if (arguments.output != "-") {
    output_file.open(arguments.output, std::ios::binary | std::ios::trunc);
    if (!output_file) throw IoError(arguments.output + ": cannot be opened for writing");
  }
  tokenize_lines(tokenizer, arguments, arguments.input == "-" ? std::cin : input_file,
                 arguments.input == "-" ? "standard input" : arguments.input,
                 arguments.output == "-" ? std::cout : output_file);
}

}  // namespace

void add_tokenize_command(CLI::App& app) {
  auto arguments = std::make_shared<TokenizeArguments>();
  auto* command = app.add_subcommand("tokenize", "Token ids of texts, and the ids' text");
  command->add_option("--model", arguments->model, "Directory with tokenizer.json, or that file")
      ->required();
  command
      ->add_option(
          "--input", arguments->input,
          "JSONL with {\"text\": ..} or {\"messages\": [{\"role\": .., \"content\": ..}, ..]} "
          "on each line; - is standard input")
      ->required();
  command
      ->add_option("--output", arguments->output,
                   "JSONL with {\"tokens\": [..], \"text_decoded\": ..} on each line, of messages "
                   "\"assistant_mask\": [..] too")
      ->capture_default_str();
  command->add_flag("--no-special", arguments->no_special,
                    "Leave out what the tokenizer puts around a text (bos, eos)");
  command->add_option("--chat-format", arguments->chat_format,
                      "Format of messages: " + std::string(ChatFormat::kNames) +
                          " (default: the one of the model's chat template; plain without one)");
  command->add_flag("--generation-prompt", arguments->generation_prompt,
                    "End messages where the assistant begins to speak (a line's "
                    "\"add_generation_prompt\" overrides it)");
  command->footer(
      "text_decoded of a text leaves out special tokens, that of messages has them.\n"
      "assistant_mask is 1 for what the assistant says and the token that ends it.\n\n"
      "Examples:\n"
      "  hone tokenize --model runs/quickstart/policy --input texts.jsonl\n"
      "  echo '{\"text\": \"a fine film\"}' | hone tokenize --model DIR --input - --no-special\n"
      "  hone tokenize --model DIR --input chats.jsonl --chat-format chatml --generation-prompt");
  command->callback([arguments] { run_tokenize(*arguments); });
}

}  // namespace hone::engine
