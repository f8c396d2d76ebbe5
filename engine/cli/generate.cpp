#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/error.h"
#include "engine/cli/command.h"
#include "engine/cli/line_output.h"
#include "engine/cli/sequence_lines.h"
#include "engine/generation/generator.h"
#include "engine/runtime/progress.h"
#include "engine/runtime/signals.h"

namespace hone::engine {
namespace {

struct GenerateArguments {
  std::string model, prompt, prompts, output = "-";
  int64_t n = 1;
  GenerationOptions options;
};

struct Prompts {
  std::vector<TokenIds> tokens;
  std::vector<std::string> texts;  // as given; empty where token ids were
};

Prompts read_prompts(const GenerateArguments& arguments, const ModelConfig& config,
                     LazyCodec& codec) {
  Prompts prompts;
  if (arguments.prompts.empty()) {
    prompts.tokens.push_back(codec.prompt(arguments.prompt));
    prompts.texts.push_back(arguments.prompt);
    return prompts;
  }
  for_each_line(arguments.prompts, [&](const nlohmann::json& object, const std::string& where) {
    if (object.contains("tokens")) {
      prompts.tokens.push_back(token_list(object, "tokens", where, config.vocab_size));
      prompts.texts.emplace_back();
    } else if (object.contains("prompt") && object["prompt"].is_string()) {
      prompts.texts.push_back(object["prompt"].get<std::string>());
      prompts.tokens.push_back(codec.prompt(prompts.texts.back()));
    } else {
      throw data::InputError(where, "line", R"({"prompt": "..."} or {"tokens": [...]})", "neither");
    }
    const TokenIds& tokens = prompts.tokens.back();
    const auto size = static_cast<int64_t>(tokens.size());
    if (size == 0 || size >= config.max_positions) {
      throw data::InputError(
          where, "prompt",
          "1 to " + std::to_string(config.max_positions - 1) + " tokens (the context less one)",
          std::to_string(size));
    }
  });
  if (prompts.tokens.empty()) {
    throw data::InputError(arguments.prompts, "prompts", "at least one line", "none");
  }
  return prompts;
}

nlohmann::ordered_json sample_line(const Sample& sample, const Prompts& prompts, LazyCodec& codec) {
  const auto index = static_cast<size_t>(sample.prompt);
  nlohmann::ordered_json line;
  line["index"] = sample.prompt;
  line["sample"] = sample.sample;
  if (codec.opened()) {
    line["prompt"] = prompts.texts[index];
    line["response"] = codec.continuation(prompts.tokens[index], sample.tokens);
  }
  line["prompt_tokens"] = prompts.tokens[index];
  line["tokens"] = sample.tokens;
  line["logprobs"] = sample.logprobs;
  line["stopped"] = sample.stopped;
  return line;
}

/// The text on standard output as it is drawn: the prompt as given, then its continuation.
void print_text(CausalLM& model, const Prompts& prompts, GenerationOptions options,
                LazyCodec& codec) {
  StreamDecoder decoder(codec.get().tokenizer());
  for (const int32_t id : prompts.tokens[0]) decoder.push(id);
  std::cout << prompts.texts[0] << std::flush;
  options.on_token = [&](const Sample&, int32_t token) {
    std::cout << decoder.push(token) << std::flush;
  };
  options.progress = [](int64_t) { return stop_signal() == 0; };
  generate(model, prompts.tokens, 1, options);
  std::cout << decoder.finish();
  // A pipe gets the text byte for byte; a terminal's next prompt wants a line of its own.
  if (isatty(STDOUT_FILENO) != 0) std::cout << "\n";
  if (!std::cout.flush()) {
    throw data::IoError("standard output", "output", "room for the text", "an error");
  }
}

void write_lines(CausalLM& model, const Prompts& prompts, const GenerateArguments& arguments,
                 LazyCodec& codec) {
  LineOutput output(arguments.output);
  Progress progress("generate", 0, "tokens");
  GenerationOptions options = arguments.options;
  options.on_sample = [&](const Sample& sample) {
    // Bytes of a response need not be UTF-8; JSON must be.
    output.write(sample_line(sample, prompts, codec)
                     .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  };
  options.progress = [&](int64_t tokens) {
    progress.update(static_cast<uint64_t>(tokens));
    return stop_signal() == 0;
  };
  generate(model, prompts.tokens, arguments.n, options);
}

void run_generate(const GenerateArguments& arguments) {
  const auto model = load_model(arguments.model, HeadKind::kLanguageModel);
  LazyCodec codec(arguments.model, model->config());
  const Prompts prompts = read_prompts(arguments, model->config(), codec);
  GenerateArguments resolved = arguments;
  resolved.options.stop_ids = model->config().eos_ids;
  const bool text = arguments.prompts.empty() && arguments.n == 1 && arguments.output == "-";
  if (text) {
    print_text(*model, prompts, resolved.options, codec);
  } else {
    write_lines(*model, prompts, resolved, codec);
  }
  check_interrupted();
}

}  // namespace

void add_generate_command(CLI::App& app) {
  auto arguments = std::make_shared<GenerateArguments>();
  auto& options = arguments->options;
  options.max_new_tokens = 200;
  auto* command = app.add_subcommand("generate", "Sample from a policy");
  command
      ->add_option("--model", arguments->model,
                   "Hugging Face directory: config.json, model.safetensors, tokenizer.json")
      ->required();
  auto* prompt = command->add_option("--prompt", arguments->prompt,
                                     "Text to continue (none: from the beginning of a text)");
  command
      ->add_option("--prompts", arguments->prompts,
                   R"(JSONL of {"prompt": ...} or {"tokens": [...]}; - is standard input)")
      ->excludes(prompt);
  command->add_option("--n", arguments->n, "Samples per prompt")->capture_default_str();
  command->add_option("--max-new-tokens", options.max_new_tokens, "Most tokens of a response")
      ->capture_default_str();
  command
      ->add_option("--min-new-tokens", options.min_new_tokens,
                   "Tokens before an end token may be drawn")
      ->capture_default_str();
  command->add_option("--temperature", options.temperature, "0 is greedy")->capture_default_str();
  command->add_option("--top-k", options.top_k, "Only the k likeliest tokens; 0 is all")
      ->capture_default_str();
  command
      ->add_option("--top-p", options.top_p, "Only the likeliest tokens that hold this probability")
      ->capture_default_str();
  command->add_option("--min-p", options.min_p, "Only tokens above this share of the likeliest one")
      ->capture_default_str();
  command->add_option("--seed", options.seed, "Seed of the random numbers")->capture_default_str();
  command->add_option("--rows", options.max_rows, "Samples decoded together (changes speed only)")
      ->capture_default_str();
  command
      ->add_option("--output", arguments->output, "JSONL, one line a sample; - is standard output")
      ->capture_default_str();
  command->footer(
      "One prompt and one sample print as text, everything else as JSONL with prompt, response,\n"
      "tokens, logprobs (of the distribution sampled from) and stopped (false: cut by length).\n\n"
      "Examples:\n"
      "  hone generate --model runs/quickstart/policy --prompt 'this film is'\n"
      "  hone generate --model DIR --prompts prompts.jsonl --n 4 --top-p 0.9 --output out.jsonl\n"
      "  hone generate --model DIR --prompt '' --max-new-tokens 200 --temperature 0");
  command->callback([arguments] { run_generate(*arguments); });
}

}  // namespace hone::engine
