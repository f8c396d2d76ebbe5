#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/error.h"
#include "data/utf8.h"
#include "engine/cli/command.h"
#include "engine/cli/generate_prompts.h"
#include "engine/cli/line_output.h"
#include "engine/cli/weight_type.h"
#include "engine/generation/generation_checks.h"
#include "engine/generation/generator.h"
#include "engine/io/json.h"
#include "engine/runtime/progress.h"
#include "engine/runtime/signals.h"

namespace hone::engine {
namespace {

struct GenerateArguments {
  std::string model, prompt, prompts, output = "-", dtype = "float32", chat_format, device = "auto";
  int64_t n = 1;
  GenerationOptions options;
};

/// What ended a response: the token's id or the stop string; null when its length did.
nlohmann::ordered_json stop_of(const Sample& sample) {
  if (!sample.stop_string.empty()) return sample.stop_string;
  if (sample.stopped) return sample.tokens.back();
  return nullptr;
}

nlohmann::ordered_json sample_line(const Sample& sample, const Prompts& prompts, LazyCodec& codec,
                                   bool has_text) {
  const auto index = static_cast<size_t>(sample.prompt);
  nlohmann::ordered_json line;
  line["index"] = sample.prompt;
  line["sample"] = sample.sample;
  if (codec.opened()) {
    line["prompt"] = prompts.texts[index];
    line["response"] =
        has_text ? sample.text : codec.continuation(prompts.tokens[index], sample.tokens);
  }
  line["prompt_tokens"] = prompts.tokens[index];
  line["tokens"] = sample.tokens;
  line["logprobs"] = sample.logprobs;
  line["raw_logprobs"] = sample.raw_logprobs;
  line["stopped"] = sample.stopped;
  line["stop"] = stop_of(sample);
  return line;
}

/// The text on standard output as it is drawn: the prompt as given, then its continuation.
void print_text(CausalLM& model, const Prompts& prompts, GenerationOptions options,
                LazyCodec& codec) {
  options.tokenizer = &codec.get().tokenizer();
  check_generation(options, prompts.tokens, 1, {}, model.config());  // before anything is printed
  std::cout << prompts.texts[0] << std::flush;
  options.on_text = [](const Sample&, const std::string& text) { std::cout << text << std::flush; };
  options.progress = [](int64_t) { return stop_signal() == 0 && std::cout.good(); };
  generate(model, prompts.tokens, 1, options);
  // A pipe gets the text byte for byte; a terminal's next prompt wants a line of its own.
  if (isatty(STDOUT_FILENO) != 0) std::cout << "\n";
  if (!std::cout.flush()) {
    throw data::IoError("standard output", "output", "room for the text", "an error");
  }
}

/// Tokens that are still to come, from the lengths seen so far: the total a progress bar shows.
class ExpectedTokens {
 public:
  ExpectedTokens(int64_t samples, int64_t most) : samples_(samples), most_(most) {}
  void finished(const Sample& sample) {
    ++finished_;
    tokens_ += static_cast<int64_t>(sample.tokens.size());
  }
  uint64_t total() const {
    const int64_t mean = finished_ > 0 ? tokens_ / finished_ : most_;
    return static_cast<uint64_t>(tokens_ + (samples_ - finished_) * mean);
  }

 private:
  int64_t samples_, most_, finished_ = 0, tokens_ = 0;
};

void write_lines(CausalLM& model, const Prompts& prompts, const GenerateArguments& arguments,
                 LazyCodec& codec) {
  GenerationOptions options = arguments.options;
  const bool has_text = !options.stop_strings.empty();
  if (has_text) options.tokenizer = &codec.get().tokenizer();
  LineOutput output(arguments.output);
  Progress progress("generate", 0, "tokens");
  ExpectedTokens expected(static_cast<int64_t>(prompts.tokens.size()) * arguments.n,
                          options.max_new_tokens);
  options.on_sample = [&](const Sample& sample) {
    // Bytes of a response need not be UTF-8; JSON must be.
    output.write(sample_line(sample, prompts, codec, has_text)
                     .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    expected.finished(sample);
  };
  options.progress = [&](int64_t tokens) {
    progress.update(static_cast<uint64_t>(tokens), expected.total());
    return stop_signal() == 0;
  };
  generate(model, prompts.tokens, arguments.n, options);
}

void check_stop_strings(const std::vector<std::string>& stops) {
  for (const std::string& stop : stops) {
    if (stop.empty() || data::find_invalid_utf8(stop) != std::string::npos) {
      throw data::InputError("generate", "--stop", "UTF-8 text of at least one character",
                             stop.empty() ? "none" : "other bytes");
    }
  }
}

void run_generate(const GenerateArguments& arguments) {
  check_stop_strings(arguments.options.stop_strings);
  const auto model =
      load_model(arguments.model, HeadKind::kLanguageModel, weight_type(arguments.dtype),
                 find_device("hone generate", arguments.device));
  const ModelConfig& config = model->config();
  LazyCodec codec(arguments.model, config);
  LazyChat chat(arguments.model, arguments.chat_format);
  const Prompts prompts = arguments.prompts.empty()
                              ? read_prompt(arguments.prompt, config, codec)
                              : read_prompts(arguments.prompts, config, codec, chat);
  GenerateArguments resolved = arguments;
  for (const int64_t id : model_stop_ids(arguments.model, config)) {
    resolved.options.stop_ids.push_back(id);
  }
  if (chat.opened()) {
    const int64_t end = chat.answer_end(codec.get().tokenizer());
    if (end >= 0) resolved.options.stop_ids.push_back(end);
  }
  if (arguments.prompts.empty() && arguments.n == 1 && arguments.output == "-") {
    print_text(*model, prompts, resolved.options, codec);
  } else {
    write_lines(*model, prompts, resolved, codec);
  }
  check_interrupted();
}

void add_length_options(CLI::App& command, GenerationOptions& options) {
  command.add_option("--max-new-tokens", options.max_new_tokens, "Most tokens of a response")
      ->capture_default_str();
  command
      .add_option("--min-new-tokens", options.min_new_tokens,
                  "Tokens before an end token or a stop string counts")
      ->capture_default_str();
  command
      .add_option("--stop", options.stop_strings,
                  "Text that ends a response, and is left out of it; may be given several times")
      ->allow_extra_args(false);
  command
      .add_option("--stop-id", options.stop_ids,
                  "Token id that ends a response, besides the model's own (eos_token_id of "
                  "generation_config.json, else of config.json); may be given several times")
      ->allow_extra_args(false);
}

void add_sampling_options(CLI::App& command, GenerationOptions& options) {
  command.add_option("--temperature", options.temperature, "0 is greedy")->capture_default_str();
  command.add_option("--top-k", options.top_k, "Only the k likeliest tokens; 0 is all")
      ->capture_default_str();
  command
      .add_option("--top-p", options.top_p, "Only the likeliest tokens that hold this probability")
      ->capture_default_str();
  command.add_option("--min-p", options.min_p, "Only tokens above this share of the likeliest one")
      ->capture_default_str();
  command
      .add_option("--repetition-penalty", options.repetition_penalty,
                  "Divides the logits of tokens of prompt and response (multiplies negative ones); "
                  "1 is off")
      ->capture_default_str();
  command.add_option("--seed", options.seed, "Seed of the random numbers")->capture_default_str();
}

void add_speed_options(CLI::App& command, GenerateArguments& arguments) {
  add_weight_type_option(command, arguments.dtype);
  add_device_option(command, arguments.device);
  command
      .add_option("--rows", arguments.options.max_rows,
                  "Samples decoded together (changes speed and memory only)")
      ->capture_default_str();
  command
      .add_option("--prefill-tokens", arguments.options.prefill_tokens,
                  "Prompt tokens computed together (changes speed and memory only)")
      ->capture_default_str();
}

}  // namespace

void add_generate_command(CLI::App& app) {
  auto arguments = std::make_shared<GenerateArguments>();
  arguments->options.max_new_tokens = 200;
  auto* command = app.add_subcommand("generate", "Sample from a policy");
  command
      ->add_option("--model", arguments->model,
                   "Hugging Face directory: config.json, model.safetensors, tokenizer.json")
      ->required();
  auto* prompt = command->add_option("--prompt", arguments->prompt,
                                     "Text to continue (none: from the beginning of a text)");
  command
      ->add_option("--prompts", arguments->prompts,
                   R"(JSONL of {"prompt": ...}, {"messages": [{"role", "content"}, ...]} or )"
                   R"({"tokens": [...]}; - is standard input)")
      ->excludes(prompt);
  command->add_option("--chat-format", arguments->chat_format,
                      "How messages become a prompt: " + std::string(ChatFormat::kNames) +
                          " (none: as the model's chat template says)");
  command->add_option("--n", arguments->n, "Samples per prompt")->capture_default_str();
  add_length_options(*command, arguments->options);
  add_sampling_options(*command, arguments->options);
  add_speed_options(*command, *arguments);
  command
      ->add_option("--output", arguments->output, "JSONL, one line a sample; - is standard output")
      ->capture_default_str();
  command->footer(
      "One prompt and one sample print as text, everything else as JSONL with prompt, response,\n"
      "tokens, logprobs (under the distribution sampled from), raw_logprobs (under the model),\n"
      "stopped (false: cut by length) and stop (the end token's id or the stop string).\n\n"
      "Examples:\n"
      "  hone generate --model runs/quickstart/policy --prompt 'this film is'\n"
      "  hone generate --model DIR --prompts prompts.jsonl --n 4 --top-p 0.9 --output out.jsonl\n"
      "  hone generate --model DIR --prompt 'Q: why?' --stop 'Q:' --stop $'\\n\\n'\n"
      "  hone generate --model DIR --prompt '' --max-new-tokens 200 --temperature 0");
  command->callback([arguments] { run_generate(*arguments); });
}

}  // namespace hone::engine
