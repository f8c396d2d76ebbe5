#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tensor.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/error.h"
#include "engine/cli/command.h"
#include "engine/cli/line_output.h"
#include "engine/cli/sequence_lines.h"
#include "engine/cli/weight_type.h"
#include "engine/io/safetensors.h"
#include "engine/models/causal_lm.h"
#include "engine/runtime/progress.h"
#include "engine/runtime/signals.h"
#include "kernels/ops.h"

namespace hone::engine {
namespace {

struct LogprobsArguments {
  std::string model, input, output = "-", tensors, dtype = "float32", device = "auto";
};

/// Tokens forwarded together; a longer sequence goes alone.
constexpr int64_t kBatchTokens = 4096;

/// Where the model is.
at::Tensor ids(const CausalLM& model, const std::vector<int64_t>& values) {
  return at::tensor(values, at::kLong).to(model.parameters().data().device());
}

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
    const at::Tensor hidden = model.hidden(ids(model, tokens), ids(model, bounds));
    const auto result = kernels::token_logprobs(hidden, model.lm_head(), ids(model, targets), 1.0);
    logprobs = result.logprobs.to(at::kCPU, at::kFloat).contiguous();
    entropy = result.entropy.to(at::kCPU, at::kFloat).contiguous();
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

/// Hidden states and logits of every token that was read, for whoever compares implementations.
class TensorFile {
 public:
  explicit TensorFile(std::string path) : path_(std::move(path)) {}

  void add(CausalLM& model, const TokenIds& sequence) {
    if (path_.empty()) return;
    const at::NoGradGuard no_grad;
    const auto size = static_cast<int64_t>(sequence.size());
    const at::Tensor tokens = ids(model, {sequence.begin(), sequence.end()});
    const at::Tensor hidden = model.hidden(tokens, ids(model, {0, size}));
    tokens_.push_back(tokens.cpu());
    hidden_.push_back(hidden.to(at::kCPU, at::kFloat));
    logits_.push_back(at::mm(hidden, model.lm_head().t()).to(at::kCPU, at::kFloat));
    bounds_.push_back(bounds_.back() + size);
  }

  void write() const {
    if (path_.empty() || tokens_.empty()) return;
    std::vector<at::Tensor> kept;
    std::vector<TensorToStore> tensors;
    const auto store = [&](const char* name, const char* dtype, const at::Tensor& values) {
      kept.push_back(values.contiguous());
      tensors.push_back({name, dtype, kept.back().sizes().vec(), kept.back().const_data_ptr(),
                         kept.back().nbytes()});
    };
    store("tokens", "I64", at::cat(tokens_));
    store("cu_seqlens", "I64", at::tensor(bounds_, at::kLong));
    store("hidden_states", "F32", at::cat(hidden_));
    store("logits", "F32", at::cat(logits_));
    write_safetensors(path_, tensors, {});
  }

 private:
  std::string path_;
  std::vector<at::Tensor> tokens_, hidden_, logits_;
  std::vector<int64_t> bounds_ = {0};
};

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
  const auto model =
      load_model(arguments.model, HeadKind::kLanguageModel, weight_type(arguments.dtype),
                 find_device("hone logprobs", arguments.device));
  LazyCodec codec(arguments.model, model->config());
  LineOutput output(arguments.output);
  TensorFile tensors(arguments.tensors);
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
    tensors.add(*model, ids);
    const auto size = static_cast<int64_t>(ids.size());
    if (batch_tokens + size > kBatchTokens) flush();
    batch.push_back(std::move(ids));
    batch_tokens += size;
  });
  flush();
  tensors.write();
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
  add_weight_type_option(*command, arguments->dtype);
  add_device_option(*command, arguments->device);
  command->add_option("--tensors", arguments->tensors,
                      "Also write hidden states (after the final norm) and logits of every token "
                      "to this safetensors file");
  command->footer(
      "Each output line has tokens, logprobs (natural, one per token after the first) and entropy\n"
      "(nats, of the distribution each was drawn from).\n\n"
      "Examples:\n"
      "  hone logprobs --model runs/quickstart/policy --input texts.jsonl --output out.jsonl\n"
      "  hone logprobs --model DIR --input tokens.jsonl --dtype bfloat16 --tensors "
      "out.safetensors\n"
      "  echo '{\"tokens\": [1, 403, 407]}' | hone logprobs --model DIR --input -");
  command->callback([arguments] { run_logprobs(*arguments); });
}

}  // namespace hone::engine
