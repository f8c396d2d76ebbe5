#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/error.h"
#include "engine/cli/command.h"
#include "engine/cli/line_output.h"
#include "engine/cli/sequence_lines.h"
#include "engine/models/causal_lm.h"
#include "engine/runtime/progress.h"
#include "engine/runtime/signals.h"
#include "kernels/ops.h"

namespace hone::engine {
namespace {

struct LogprobsArguments {
  std::string model, input, output = "-";
};

/// Tokens forwarded together; a longer sequence goes alone.
constexpr int64_t kBatchTokens = 4096;

/// Writes one line a sequence: log-probability and entropy of each token after the first.
void write_batch(CausalLM& model, const std::vector<TokenIds>& sequences, LineOutput& output) {
  std::vector<int64_t> tokens, bounds = {0}, targets;
  for (const TokenIds& sequence : sequences) {
    tokens.insert(tokens.end(), sequence.begin(), sequence.end() - 1);
    targets.insert(targets.end(), sequence.begin() + 1, sequence.end());
    bounds.push_back(static_cast<int64_t>(tokens.size()));
  }
  const at::NoGradGuard no_grad;
  at::Tensor logprobs, entropy;
  if (!tokens.empty()) {
    const at::Tensor hidden =
        model.hidden(at::tensor(tokens, at::kLong), at::tensor(bounds, at::kLong));
    const auto result =
        kernels::token_logprobs(hidden, model.lm_head(), at::tensor(targets, at::kLong), 1.0);
    logprobs = result.logprobs.to(at::kFloat).contiguous();
    entropy = result.entropy.to(at::kFloat).contiguous();
  }
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto part = [&](const at::Tensor& values) {
      if (!values.defined()) return std::vector<float>();
      const float* data = values.const_data_ptr<float>();
      return std::vector<float>(data + bounds[i], data + bounds[i + 1]);
    };
    nlohmann::ordered_json line;
    line["tokens"] = sequences[i];
    line["logprobs"] = part(logprobs);
    line["entropy"] = part(entropy);
    output.write(line.dump());
  }
}

TokenIds read_sequence(const nlohmann::json& object, const std::string& where,
                       const ModelConfig& config, LazyCodec& codec) {
  TokenIds ids;
  if (object.contains("tokens")) {
    ids = token_list(object, "tokens", where, config.vocab_size);
  } else if (object.contains("prompt") && object["prompt"].is_string() &&
             object.contains("response") && object["response"].is_string()) {
    ids = codec.prompt_and_response(object["prompt"].get<std::string>(),
                                    object["response"].get<std::string>());
  } else {
    throw data::InputError(where, "line", R"({"tokens": [...]} or {"prompt", "response"})",
                           "neither");
  }
  const auto size = static_cast<int64_t>(ids.size());
  if (size == 0 || size > config.max_positions) {
    throw data::InputError(where, "tokens",
                           "1 to " + std::to_string(config.max_positions) + " (the context)",
                           std::to_string(size));
  }
  return ids;
}

void run_logprobs(const LogprobsArguments& arguments) {
  const auto model = load_model(arguments.model, HeadKind::kLanguageModel);
  LazyCodec codec(arguments.model, model->config());
  LineOutput output(arguments.output);
  Progress progress("logprobs", 0, "tokens");
  std::vector<TokenIds> batch;
  int64_t batch_tokens = 0;
  uint64_t done = 0;
  const auto flush = [&] {
    if (batch.empty()) return;
    write_batch(*model, batch, output);
    done += static_cast<uint64_t>(batch_tokens);
    progress.update(done);
    batch.clear();
    batch_tokens = 0;
    check_interrupted();
  };
  for_each_line(arguments.input, [&](const nlohmann::json& object, const std::string& where) {
    TokenIds ids = read_sequence(object, where, model->config(), codec);
    const auto size = static_cast<int64_t>(ids.size());
    if (batch_tokens + size > kBatchTokens) flush();
    batch.push_back(std::move(ids));
    batch_tokens += size;
  });
  flush();
}

}  // namespace

void add_logprobs_command(CLI::App& app) {
  auto arguments = std::make_shared<LogprobsArguments>();
  auto* command =
      app.add_subcommand("logprobs", "Log-probabilities of given tokens or texts under a policy");
  command
      ->add_option("--model", arguments->model,
                   "Hugging Face directory; tokenizer.json is needed for texts only")
      ->required();
  command
      ->add_option("--input", arguments->input,
                   R"(JSONL of {"tokens": [...]} or {"prompt", "response"}; - is standard input)")
      ->required();
  command->add_option("--output", arguments->output, "JSONL; - is standard output")
      ->capture_default_str();
  command->footer(
      "Each output line has tokens, logprobs (natural, one per token after the first) and entropy\n"
      "(nats, of the distribution each was drawn from).\n\n"
      "Examples:\n"
      "  hone logprobs --model runs/quickstart/policy --input texts.jsonl --output out.jsonl\n"
      "  echo '{\"tokens\": [1, 403, 407]}' | hone logprobs --model DIR --input -");
  command->callback([arguments] { run_logprobs(*arguments); });
}

}  // namespace hone::engine
