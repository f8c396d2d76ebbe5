#include <cstdint>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "data/error.h"
#include "engine/cli/command.h"
#include "engine/io/json.h"
#include "engine/tokenizer/tokenizer.h"

namespace hone::engine {
namespace {

using data::InputError;
using data::IoError;

struct TokenizeArguments {
  std::string model, input, output = "-";
  bool no_special = false;
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

void tokenize_lines(const Tokenizer& tokenizer, bool add_special, std::istream& input,
                    const std::string& name, std::ostream& output) {
  std::string line;
  for (uint64_t number = 1;; ++number) {
    const std::string where = name + ":" + std::to_string(number);
    if (!read_line(input, where, line)) break;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const nlohmann::json record = parse_json(line, where);
    const std::vector<int32_t> ids =
        tokenizer.encode(JsonField(record, where).at("text").text(), add_special);
    nlohmann::ordered_json result;
    result["tokens"] = ids;
    result["text_decoded"] = tokenizer.decode(ids, /*skip_special=*/true);
    output << json_line(result);
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
  tokenize_lines(tokenizer, !arguments.no_special, arguments.input == "-" ? std::cin : input_file,
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
      ->add_option("--input", arguments->input,
                   "JSONL with {\"text\": ..} on each line; - is standard input")
      ->required();
  command
      ->add_option("--output", arguments->output,
                   "JSONL with {\"tokens\": [..], \"text_decoded\": ..} on each line")
      ->capture_default_str();
  command->add_flag("--no-special", arguments->no_special,
                    "Leave out what the tokenizer puts around a text (bos, eos)");
  command->footer(
      "text_decoded leaves out special tokens.\n\n"
      "Examples:\n"
      "  hone tokenize --model runs/quickstart/policy --input texts.jsonl\n"
      "  echo '{\"text\": \"a fine film\"}' | hone tokenize --model DIR --input - --no-special");
  command->callback([arguments] { run_tokenize(*arguments); });
}

}  // namespace hone::engine
