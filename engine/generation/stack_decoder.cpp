#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <memory>
#include <string>

#include "data/error.h"
#include "engine/generation/decoder.h"
#include "engine/models/block.h"
#include "engine/models/families.h"
#include "engine/models/rope.h"
#include "kernels/checks.h"
#include "kernels/cpu/decoder_stack.h"

namespace hone::engine {
namespace {

/// Weights that stay near a core; beyond this the matrix products of a library win.
constexpr int64_t kStackBytes = int64_t{32} << 20;

kernels::SamplingRule rule_of(const GenerationOptions& options) {
  return {options.temperature, options.top_k, options.top_p, options.min_p};
}

kernels::StackActivation activation_of(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return kernels::StackActivation::kSilu;
    case Activation::kGeluTanh:
      return kernels::StackActivation::kGeluTanh;
    case Activation::kGelu:
      return kernels::StackActivation::kGelu;
    case Activation::kRelu:
      return kernels::StackActivation::kRelu;
  }
  throw data::Error("generate", "activation", "a known one", "another");
}

class StackDecoder : public Decoder {
 public:
  StackDecoder(const CausalLM& model, const SchedulerLimits& limits,
               const GenerationOptions& options)
      : limits_(limits), rule_(rule_of(options)), seed_(options.seed) {
    if (limits.block_size != kernels::kStackBlock) {
      throw data::Error("generate", "cache block", std::to_string(kernels::kStackBlock),
                        std::to_string(limits.block_size));
    }
    add_weights(model);
    add_cache();
    const auto threads = static_cast<size_t>(at::get_num_threads());
    const int64_t context = limits.row_blocks * limits.block_size;
    for (size_t i = 0; i < threads; ++i) scratch_.emplace_back(stack_, context);
    valid_ = std::make_unique<bool[]>(static_cast<size_t>(limits.rows));
  }

  void prefill(const std::vector<PromptPart>& prompts) override {
    // Prompts share one list of positions, and have their tokens as the kernel reads them.
    size_t total = 0, longest = 0;
    for (const PromptPart& prompt : prompts) {
      total += static_cast<size_t>(prompt.count);
      longest = std::max(longest, static_cast<size_t>(prompt.count));
    }
    std::vector<int64_t> positions(longest), tokens;
    for (size_t i = 0; i < longest; ++i) positions[i] = static_cast<int64_t>(i);
    tokens.reserve(total);
    std::vector<kernels::StackRows> rows;
    for (const PromptPart& prompt : prompts) {
      rows.push_back({.rows = prompt.count,
                      .tokens = tokens.data() + tokens.size(),
                      .positions = positions.data(),
                      .table = prompt.blocks.data(),
                      .table_stride = 0});
      tokens.insert(tokens.end(), prompt.tokens.begin(), prompt.tokens.begin() + prompt.count);
    }
    kernels::stack_prefill(stack_, rows, scratch_);
  }

  void copy_blocks(const std::vector<std::pair<int32_t, int32_t>>& copies) override {
    const int64_t size = stack_.block_elements();
    for (const kernels::StackLayer& layer : stack_.layers) {
      for (const auto& [from, to] : copies) {
        for (float* cache : {layer.keys, layer.values}) {
          std::copy(cache + from * size, cache + (from + 1) * size, cache + to * size);
        }
      }
    }
  }

  void step(StepBuffers& step) override {
    const kernels::StackRows rows{.rows = step.rows,
                                  .tokens = step.tokens.data(),
                                  .positions = step.positions.data(),
                                  .table = step.table.data(),
                                  .table_stride = step.row_blocks};
    const kernels::StackDraw draw{.rule = rule_,
                                  .seed = seed_,
                                  .keys = step.keys.data(),
                                  .edits = step.edited ? step.edits.data() : nullptr,
                                  .tokens = step.drawn.data(),
                                  .logprobs = step.logprobs.data(),
                                  .raw_logprobs = step.raw_logprobs.data(),
                                  .valid = valid_.get()};
    kernels::stack_decode(stack_, rows, draw, scratch_);
    for (int64_t r = 0; r < step.rows; ++r) {
      HONE_CHECK(valid_[static_cast<size_t>(r)], "sample", "logits",
                 "numbers or -inf, at least one finite", "NaN, +inf or nothing finite in row ", r);
    }
  }

 private:
  /// Keeps a tensor alive and says where it lies.
  const float* hold(const at::Tensor& tensor) {
    if (!tensor.defined()) return nullptr;
    held_.push_back(tensor.detach().contiguous());
    return held_.back().const_data_ptr<float>();
  }

  kernels::StackNorm norm(const Norm& norm) { return {hold(norm.weight), hold(norm.bias)}; }

  kernels::StackMatrix matrix(const Projection& projection) {
    const at::Tensor& weight = projection.weight;
    kernels::StackMatrix result;
    result.out = weight.size(0);
    result.in = weight.size(1);
    const at::Tensor transposed =
        at::zeros({result.in, kernels::stack_padded(result.out)}, weight.options());
    transposed.narrow(1, 0, result.out).copy_(weight.detach().t());
    result.transposed = hold(transposed);
    result.bias = hold(projection.bias);
    return result;
  }

  void add_weights(const CausalLM& model) {
    const ModelConfig& config = model.config();
    const Family& family = find_family(config.family, "model");
    stack_.hidden = config.hidden_size;
    stack_.intermediate = config.intermediate_size;
    stack_.vocab = config.vocab_size;
    stack_.gated = family.gated;
    stack_.norm_eps = static_cast<float>(config.norm_eps);
    stack_.embedding = hold(model.embedding());
    stack_.position_table = hold(model.position_embedding());
    if (!family.learned_positions) {
      const auto [cos, sin] = rope_tables(config, limits_.row_blocks * limits_.block_size,
                                          at::kFloat, at::Device(at::kCPU));
      stack_.cos = hold(cos);
      stack_.sin = hold(sin);
    }
    stack_.final_norm = norm(model.final_norm());
    Projection head;
    head.weight = model.decoding_head();
    stack_.head = matrix(head);
    for (const TransformerBlock& block : model.blocks()) {
      stack_.activation = activation_of(block.activation);
      kernels::StackLayer layer;
      layer.attention_norm = norm(block.attention_norm);
      layer.mlp_norm = norm(block.mlp_norm);
      layer.query_norm = hold(block.query_norm.weight);
      layer.key_norm = hold(block.key_norm.weight);
      layer.qkv = matrix(block.qkv);
      layer.attention_output = matrix(block.attention_output);
      layer.up = matrix(block.up);
      layer.down = matrix(block.down);
      layer.shape = kernels::attention_shape(config.heads, config.kv_heads, config.head_dim,
                                             block.attention.scale, block.attention.window);
      stack_.layers.push_back(layer);
    }
  }

  void add_cache() {
    const int64_t size = Scheduler::blocks_needed(limits_) * stack_.block_elements();
    for (kernels::StackLayer& layer : stack_.layers) {
      for (float** cache : {&layer.keys, &layer.values}) {
        held_.push_back(at::empty({size}, at::kFloat));
        *cache = held_.back().mutable_data_ptr<float>();
      }
    }
  }

  SchedulerLimits limits_;
  kernels::SamplingRule rule_;
  int64_t seed_;
  kernels::DecoderStack stack_;
  std::vector<at::Tensor> held_;
  std::vector<kernels::StackScratch> scratch_;
  std::unique_ptr<bool[]> valid_;
};

}  // namespace

bool fits_stack_decoder(const CausalLM& model) {
  const at::Tensor& data = model.parameters().data();
  return data.device().is_cpu() && data.scalar_type() == at::kFloat &&
         data.numel() * 4 <= kStackBytes;
}

int64_t stack_decoder_rows() { return kernels::kStackRows * at::get_num_threads(); }

std::unique_ptr<Decoder> make_stack_decoder(const CausalLM& model, const SchedulerLimits& limits,
                                            const GenerationOptions& options) {
  model.parameters().require_whole("generation");
  return std::make_unique<StackDecoder>(model, limits, options);
}

}  // namespace hone::engine
