#include "engine/cli/inspect_model.h"

#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "data/error.h"
#include "engine/chat/chat_format.h"
#include "engine/cli/inspect_text.h"
#include "engine/io/json.h"
#include "engine/models/checkpoint.h"
#include "engine/models/layout.h"
#include "engine/runtime/terminal_line.h"
#include "engine/tokenizer/tokenizer.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

struct TokenizerSummary {
  std::string kind = "none";
  int64_t tokens = 0;
};

bool mentions(const json& part, const char* type) {
  return part.is_object() && part.dump().find(std::string("\"") + type + '"') != std::string::npos;
}

/// Loaded in full, so that a broken one is an error here and not at the first text.
TokenizerSummary summarize_tokenizer(const fs::path& directory) {
  TokenizerSummary summary;
  const fs::path path = directory / "tokenizer.json";
  if (!fs::exists(path)) return summary;
  const Tokenizer tokenizer = Tokenizer::load(path);
  summary.tokens = tokenizer.vocab_size();
  const json root = parse_json(tokenizer.json(), path.string());
  const json model = root.value("model", json::object());
  summary.kind = model.value("type", std::string("BPE"));
  if (summary.kind != "BPE") return summary;
  const json byte_fallback = model.value("byte_fallback", json(false));
  if (mentions(root.value("pre_tokenizer", json()), "ByteLevel")) {
    summary.kind = "byte-level BPE";
  } else if (byte_fallback == json(true)) {
    summary.kind = "BPE with byte fallback";
  }
  return summary;
}

/// Name of the chat format; a template of no known family is a fact to show, not an error.
std::string chat_format_of(const fs::path& directory) {
  try {
    return ChatFormat::load(directory, "").name();
  } catch (const data::InputError&) {
    return "unrecognised (name one with --chat-format: " + std::string(ChatFormat::kNames) + ")";
  }
}

struct ModelSummary {
  Checkpoint checkpoint;
  TokenizerSummary tokenizer;
  std::string chat_format;
  HeadKind head = HeadKind::kLanguageModel;
  int64_t parameters = 0;
  uint64_t bytes = 0;
  std::set<std::string> dtypes, files;

  explicit ModelSummary(const fs::path& directory)
      : checkpoint(directory),
        tokenizer(summarize_tokenizer(directory)),
        chat_format(chat_format_of(directory)) {
    if (checkpoint.find(checkpoint.family().names.scalar_head) != nullptr) {
      head = HeadKind::kScalar;
    }
    ParameterArena declared;
    declare_parameters(checkpoint.config(), head, declared);
    checkpoint.check(head, declared);
    for (const ParameterSlice& slice : declared.slices()) parameters += slice.numel;
    for (const auto& [name, tensor] : checkpoint.file().tensors()) {
      bytes += tensor.size;
      dtypes.insert(tensor.dtype);
      files.insert(fs::path(tensor.file).filename().string());
    }
  }

  const char* architecture() const {
    const Family& family = checkpoint.family();
    return head == HeadKind::kScalar ? family.classifier : family.lm_class;
  }
};

template <class Values>
std::string joined(const Values& values) {
  std::string text;
  for (const auto& value : values) {
    text += text.empty() ? "" : ", ";
    if constexpr (std::is_integral_v<typename Values::value_type>) {
      text += std::to_string(value);
    } else {
      text += printable(value);
    }
  }
  return text.empty() ? "none" : text;
}

std::string positions_text(const ModelConfig& config, const Family& family) {
  const std::string context = std::to_string(config.max_positions);
  if (family.learned_positions) return context + ", learned";
  std::string text = context + ", rotary with theta " + short_number(config.rope_theta);
  if (config.rope_scaling != "none") {
    text += ", " + config.rope_scaling + " scaling by " + short_number(config.rope_factor);
  }
  return text;
}

std::string window_text(const ModelConfig& config) {
  int64_t windowed = 0;
  for (int64_t i = 0; i < config.layers; ++i) windowed += config.window(i) > 0 ? 1 : 0;
  if (windowed == 0) return "none";
  return std::to_string(config.sliding_window) + " tokens in " + std::to_string(windowed) + " of " +
         std::to_string(config.layers) + " layers";
}

std::string tensor_rows(const Safetensors& file) {
  std::string text;
  char line[64];
  std::snprintf(line, sizeof line, "\n%-6s %10s  %-18s ", "dtype", "size", "shape");
  text += std::string(line) + "tensor\n";
  for (const auto& [name, tensor] : file.tensors()) {
    const std::string shape = "[" + (tensor.shape.empty() ? "" : joined(tensor.shape)) + "]";
    std::snprintf(line, sizeof line, "%-6s %10s  %-18s ", tensor.dtype.c_str(),
                  bytes_text(tensor.size).c_str(), shape.substr(0, 30).c_str());
    text += line + printable(name) + "\n";
  }
  return text;
}

std::string as_text(const fs::path& directory, const ModelSummary& summary) {
  const ModelConfig& config = summary.checkpoint.config();
  const auto number = [](int64_t value) { return std::to_string(value); };
  std::string text = labelled("model", printable(directory.string()));
  text += labelled("family", config.family + " (" + summary.architecture() + ")");
  text += labelled("parameters", number(summary.parameters) + " (" +
                                     short_number(static_cast<double>(summary.parameters) / 1e6) +
                                     " M)");
  text += labelled("dtype", joined(summary.dtypes) + ", " + bytes_text(summary.bytes) + " in " +
                                joined(summary.files));
  text += labelled("layers", number(config.layers) + " of width " + number(config.hidden_size) +
                                 ", inner " + number(config.intermediate_size));
  text += labelled("heads", number(config.heads) + " of size " + number(config.head_dim) +
                                ", key/value heads " + number(config.kv_heads));
  text += labelled("context", positions_text(config, summary.checkpoint.family()));
  text += labelled("window", window_text(config));
  text += labelled("vocabulary", number(config.vocab_size) +
                                     (config.tie_embeddings ? ", head tied to the embedding" : ""));
  text += labelled("end tokens", joined(config.eos_ids));
  text += labelled("tokenizer", summary.tokenizer.kind +
                                    (summary.tokenizer.tokens > 0
                                         ? ", " + number(summary.tokenizer.tokens) + " tokens"
                                         : ""));
  text += labelled("chat format", summary.chat_format);
  return text + tensor_rows(summary.checkpoint.file());
}

ordered_json as_json(const fs::path& directory, const ModelSummary& summary) {
  const ModelConfig& config = summary.checkpoint.config();
  ordered_json windows = ordered_json::array();
  for (int64_t i = 0; i < config.layers; ++i) windows.push_back(config.window(i));
  ordered_json root = {{"model", directory.string()},
                       {"family", config.family},
                       {"architecture", summary.architecture()},
                       {"parameters", summary.parameters},
                       {"bytes", summary.bytes},
                       {"dtypes", summary.dtypes},
                       {"files", summary.files},
                       {"vocab_size", config.vocab_size},
                       {"hidden_size", config.hidden_size},
                       {"intermediate_size", config.intermediate_size},
                       {"layers", config.layers},
                       {"heads", config.heads},
                       {"kv_heads", config.kv_heads},
                       {"head_dim", config.head_dim},
                       {"max_positions", config.max_positions},
                       {"windows", windows},
                       {"tied", config.tie_embeddings},
                       {"eos_ids", config.eos_ids},
                       {"tokenizer", summary.tokenizer.kind},
                       {"tokenizer_vocab_size", summary.tokenizer.tokens},
                       {"chat_format", summary.chat_format}};
  ordered_json& tensors = root["tensors"] = ordered_json::object();
  for (const auto& [name, tensor] : summary.checkpoint.file().tensors()) {
    tensors[name] = {{"dtype", tensor.dtype},
                     {"shape", tensor.shape},
                     {"bytes", tensor.size},
                     {"file", fs::path(tensor.file).filename().string()}};
  }
  return root;
}

}  // namespace

bool is_model_directory(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored) && fs::exists(path / "config.json", ignored);
}

std::string describe_model(const fs::path& directory, bool json) {
  const ModelSummary summary(directory);
  if (json) {
    return as_json(directory, summary).dump(2, ' ', false, ordered_json::error_handler_t::replace);
  }
  std::string text = as_text(directory, summary);
  text.pop_back();
  return text;
}

}  // namespace hone::engine
