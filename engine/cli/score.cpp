#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/atomic_file.h"
#include "data/error.h"
#include "engine/cli/command.h"
#include "engine/models/causal_lm.h"
#include "engine/text/text_codec.h"
#include "engine/trainers/reward_trainer.h"
#include "reward/normalization.h"

namespace hone::engine {
namespace {

using data::InputError;
using nlohmann::json;

struct ScoreArguments {
  std::string model, input, output = "-";
};

// Lines in memory at a time, and the longest line accepted.
constexpr size_t kLines = 4096;
constexpr size_t kMostLineBytes = 16u << 20;

/// {"normalization": {"mean", "std"}} of reward.json; a model without that file is not normalised.
reward::Normalization read_normalization(const std::filesystem::path& directory) {
  const auto path = directory / "reward.json";
  reward::Normalization normalization;
  if (!std::filesystem::exists(path)) return normalization;
  const json document = json::parse(data::read_file(path), nullptr, false);
  const auto number = [&](const char* name) {
    const json* at = document.is_object() && document.contains("normalization")
                         ? &document["normalization"]
                         : nullptr;
    if (!at || !at->is_object() || !at->contains(name) || !(*at)[name].is_number()) {
      throw InputError(path.string(), std::string("normalization.") + name, "a number", "none");
    }
    return (*at)[name].get<double>();
  };
  normalization.mean = number("mean");
  normalization.std = number("std");
  if (!(normalization.std > 0.0)) {
    throw InputError(path.string(), "normalization.std", "a number above 0",
                     std::to_string(normalization.std));
  }
  return normalization;
}

TokenIds encode_line(const TextCodec& codec, const std::string& line, const std::string& where) {
  const json object = json::parse(line, nullptr, false);
  if (!object.is_object()) {
    throw InputError(where, "line", "a JSON object", object.is_discarded() ? "no JSON" : "another");
  }
  const auto text = [&](const char* name) {
    if (!object.contains(name) || !object[name].is_string()) {
      throw InputError(where, "line", R"({"text": "..."} or {"prompt": "...", "response": "..."})",
                       std::string("no text in \"") + name + "\"");
    }
    return object[name].get<std::string>();
  };
  if (object.contains("prompt") || object.contains("response")) {
    return codec.text(text("prompt"), text("response")).tokens;
  }
  return codec.text("", text("text")).tokens;
}

void run_score(const ScoreArguments& arguments) {
  const auto model = load_model(arguments.model, HeadKind::kScalar);
  const TextCodec codec(Tokenizer::load(arguments.model), model->config(),
                        model->config().max_positions);
  const auto normalization = read_normalization(arguments.model);
  std::ifstream file;
  if (arguments.input != "-") {
    file.open(arguments.input);
    if (!file) throw InputError(arguments.input, "input", "a readable file", "none");
  }
  std::istream& input = arguments.input == "-" ? std::cin : file;

  std::string written;  // only when a file is the output: it appears whole or not at all
  std::vector<TokenIds> sequences;
  const auto flush = [&] {
    std::string lines;
    for (const float score : score_sequences(*model, sequences)) {
      const json line = {{"score", score}, {"normalized", normalization.apply(score)}};
      lines += line.dump() + "\n";
    }
    sequences.clear();
    if (arguments.output == "-") {
      std::cout << lines << std::flush;
    } else {
      written += lines;
    }
  };
  std::string line;
  for (size_t number = 1; std::getline(input, line); ++number) {
    const std::string where = arguments.input + ":" + std::to_string(number);
    if (line.size() > kMostLineBytes) {
      throw InputError(where, "line", "at most " + std::to_string(kMostLineBytes) + " bytes",
                       std::to_string(line.size()));
    }
    if (line.empty()) continue;
    sequences.push_back(encode_line(codec, line, where));
    if (sequences.size() == kLines) flush();
  }
  flush();
  if (arguments.output != "-") data::write_file_atomically(arguments.output, written);
}

}  // namespace

void add_score_command(CLI::App& app) {
  auto arguments = std::make_shared<ScoreArguments>();
  auto* command = app.add_subcommand("score", "Score texts with a reward model");
  command
      ->add_option("--model", arguments->model,
                   "Directory of a reward model: config.json, model.safetensors, tokenizer.json "
                   "and, for normalised scores, reward.json")
      ->required()
      ->check(CLI::ExistingDirectory);
  command
      ->add_option("--input", arguments->input,
                   R"(JSONL of {"text": ...} or {"prompt": ..., "response": ...}; - is stdin)")
      ->required();
  command->add_option("--output", arguments->output,
                      R"(JSONL of {"score", "normalized"} a line; - is stdout)");
  command->footer(
      "Examples:\n"
      "  hone score --model runs/quickstart/reward --input texts.jsonl\n"
      "  echo '{\"text\": \"a warm, funny film\"}' | hone score --model runs/quickstart/reward "
      "--input -");
  command->callback([arguments] { run_score(*arguments); });
}

}  // namespace hone::engine
