#include "engine/generation/generator.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <limits>
#include <string>

#include "data/error.h"
#include "engine/generation/scheduler.h"
#include "kernels/ops.h"

namespace hone::engine {
namespace {

constexpr int64_t kBlockSize = 16;
/// Prompt tokens prefilled together (a longer prompt alone): bounds the activations.
constexpr int64_t kPrefillTokens = 4096;
/// The cache may take this much; more rows than fit wait their turn.
constexpr int64_t kCacheBytes = int64_t{2} << 30;

[[noreturn]] void fail(const std::string& what, const std::string& expected,
                       const std::string& got) {
  throw data::InputError("generate", what, expected, got);
}

void check_options(const GenerationOptions& o, int64_t n, int64_t vocab_size) {
  if (n < 1) fail("n", "1 or more samples per prompt", std::to_string(n));
  if (o.max_new_tokens < 1) fail("max_new_tokens", "1 or more", std::to_string(o.max_new_tokens));
  if (o.min_new_tokens < 0 || o.min_new_tokens > o.max_new_tokens) {
    fail("min_new_tokens", "0 to max_new_tokens", std::to_string(o.min_new_tokens));
  }
  if (!(o.temperature >= 0.0 && o.temperature < std::numeric_limits<double>::infinity())) {
    fail("temperature", "0 (greedy) or more", std::to_string(o.temperature));
  }
  if (o.top_k < 0) fail("top_k", "0 (off) or more", std::to_string(o.top_k));
  if (!(o.top_p > 0.0 && o.top_p <= 1.0)) fail("top_p", "above 0, to 1", std::to_string(o.top_p));
  if (!(o.min_p >= 0.0 && o.min_p <= 1.0)) fail("min_p", "0 to 1", std::to_string(o.min_p));
  if (o.max_rows < 1) fail("max_rows", "1 or more", std::to_string(o.max_rows));
  for (const int64_t id : o.stop_ids) {
    if (id < 0 || id >= vocab_size) {
      fail("stop_ids", "ids below " + std::to_string(vocab_size), std::to_string(id));
    }
  }
}

void check_prompts(const std::vector<std::vector<int32_t>>& prompts, const ModelConfig& config) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::string what = "prompt " + std::to_string(i);
    if (prompts[i].empty()) fail(what, "at least one token", "none");
    if (static_cast<int64_t>(prompts[i].size()) >= config.max_positions) {
      fail(what, "fewer tokens than the context of " + std::to_string(config.max_positions),
           std::to_string(prompts[i].size()));
    }
    for (const int32_t id : prompts[i]) {
      if (id < 0 || id >= config.vocab_size) {
        fail(what, "ids below " + std::to_string(config.vocab_size), std::to_string(id));
      }
    }
  }
}

/// Inputs and logits of a decode step, allocated once and reused by every step.
class StepBuffers {
 public:
  StepBuffers(const SchedulerLimits& limits, const CausalLM& model)
      : device_(model.parameters().data().device()), row_blocks_(limits.row_blocks) {
    tokens_ = at::empty({limits.rows}, at::kLong);
    positions_ = at::empty({limits.rows}, at::kLong);
    keys_ = at::empty({limits.rows, 3}, at::kLong);
    table_ = at::zeros({limits.rows, row_blocks_}, at::kInt);
    logits_ =
        at::empty({limits.rows, model.config().vocab_size}, model.parameters().data().options());
  }

  /// Next token, position, blocks and random key of every row.
  void fill(Scheduler& scheduler, int64_t n, const std::vector<int64_t>& prompt_ids) {
    int64_t* tokens = tokens_.mutable_data_ptr<int64_t>();
    int64_t* positions = positions_.mutable_data_ptr<int64_t>();
    int64_t* keys = keys_.mutable_data_ptr<int64_t>();
    int32_t* table = table_.mutable_data_ptr<int32_t>();
    for (size_t i = 0; i < scheduler.rows().size(); ++i, table += row_blocks_) {
      const Scheduler::Row& row = scheduler.rows()[i];
      const int64_t prompt = row.request / n;
      *positions++ = row.cached;
      *keys++ = prompt_ids.empty() ? prompt : prompt_ids[static_cast<size_t>(prompt)];
      *keys++ = row.request % n;
      *keys++ = row.cached + 1;
      *tokens++ = scheduler.feed(i);
      std::copy(row.blocks.begin(), row.blocks.end(), table);
    }
  }

  at::Tensor tokens(int64_t rows) const { return tokens_.narrow(0, 0, rows).to(device_); }
  at::Tensor positions(int64_t rows) const { return positions_.narrow(0, 0, rows).to(device_); }
  at::Tensor table(int64_t rows) const { return table_.narrow(0, 0, rows).to(device_); }
  at::Tensor keys(int64_t rows) const { return keys_.narrow(0, 0, rows).to(device_); }
  at::Tensor logits(int64_t rows) const { return logits_.narrow(0, 0, rows); }

 private:
  at::Device device_;
  int64_t row_blocks_;
  at::Tensor tokens_, positions_, keys_, table_, logits_;
};

/// Rows that may not stop yet draw without the stop tokens. The raw log-probability stays the
/// model's own: the returned correction [S] takes the lost mass back out.
at::Tensor forbid_stop(at::Tensor logits, const std::vector<int64_t>& too_short,
                       const std::vector<int64_t>& stop_ids) {
  const auto indices = at::tensor(too_short, at::kLong).to(logits.device());
  const auto stops = at::tensor(stop_ids, at::kLong).to(logits.device());
  at::Tensor rows = logits.index_select(0, indices);
  const auto before = rows.logsumexp(1);
  rows.index_fill_(1, stops, -std::numeric_limits<double>::infinity());
  const auto correction = rows.logsumexp(1).sub(before);
  logits.index_copy_(0, indices, rows);
  return at::zeros({logits.size(0)}, logits.options()).index_copy_(0, indices, correction);
}

class Run {
 public:
  Run(CausalLM& model, const std::vector<std::vector<int32_t>>& prompts, int64_t n,
      const GenerationOptions& options, const std::vector<int64_t>& prompt_ids)
      : model_(model),
        prompts_(prompts),
        n_(n),
        options_(options),
        prompt_ids_(prompt_ids),
        samples_(prompts.size() * static_cast<size_t>(n)) {
    for (size_t r = 0; r < samples_.size(); ++r) {
      samples_[r].prompt = static_cast<int64_t>(r) / n;
      samples_[r].sample = static_cast<int64_t>(r) % n;
    }
  }

  std::vector<Sample> run() {
    if (samples_.empty()) return {};
    const SchedulerLimits limits = plan();
    KvCache cache = model_.make_cache(Scheduler::blocks_needed(limits), limits.block_size);
    Scheduler scheduler(prompts_, n_, samples_, limits);
    StepBuffers buffers(limits, model_);
    for (;;) {
      const Scheduler::Admission admission = scheduler.admit();
      if (scheduler.rows().empty()) break;
      prefill(admission, scheduler, cache);
      step(scheduler, buffers, cache);
      scheduler.retire_finished();
      report_finished();
      if (options_.progress && !options_.progress(generated_)) break;
    }
    return std::move(samples_);
  }

 private:
  int64_t room(size_t prompt) const {
    return std::min(options_.max_new_tokens,
                    model_.config().max_positions - static_cast<int64_t>(prompts_[prompt].size()));
  }

  SchedulerLimits plan() const {
    SchedulerLimits limits;
    limits.block_size = kBlockSize;
    int64_t longest = 1;
    for (size_t i = 0; i < prompts_.size(); ++i) {
      longest = std::max(longest, static_cast<int64_t>(prompts_[i].size()) + room(i));
    }
    limits.row_blocks = (longest + kBlockSize - 1) / kBlockSize;
    const ModelConfig& config = model_.config();
    const int64_t block_bytes = 2 * config.layers * kBlockSize * config.kv_heads * config.head_dim *
                                static_cast<int64_t>(model_.parameters().data().element_size());
    const int64_t fitting = kCacheBytes / (block_bytes * limits.row_blocks) - 1;
    limits.rows = std::min(
        {options_.max_rows, static_cast<int64_t>(samples_.size()), std::max<int64_t>(fitting, 1)});
    return limits;
  }

  void prefill(const Scheduler::Admission& admission, const Scheduler& scheduler, KvCache& cache) {
    std::vector<int64_t> tokens, bounds = {0}, slots;
    const auto flush = [&] {
      if (tokens.empty()) return;
      const auto device = model_.parameters().data().device();
      model_.prefill(at::tensor(tokens, at::kLong).to(device),
                     at::tensor(bounds, at::kLong).to(device), cache,
                     at::tensor(slots, at::kLong).to(device));
      tokens.clear();
      slots.clear();
      bounds = {0};
    };
    for (const size_t index : admission.prefill) {
      const Scheduler::Row& row = scheduler.rows()[index];
      const auto& prompt = prompts_[static_cast<size_t>(row.request / n_)];
      if (static_cast<int64_t>(tokens.size()) + row.cached > kPrefillTokens) flush();
      for (int64_t p = 0; p < row.cached; ++p) {
        tokens.push_back(prompt[static_cast<size_t>(p)]);
        slots.push_back(row.blocks[static_cast<size_t>(p / kBlockSize)] * kBlockSize +
                        p % kBlockSize);
      }
      bounds.push_back(static_cast<int64_t>(tokens.size()));
    }
    flush();
    for (const auto& [from, to] : admission.copies) cache.copy_block(from, to);
  }

  void step(Scheduler& scheduler, StepBuffers& buffers, KvCache& cache) {
    const auto rows = static_cast<int64_t>(scheduler.rows().size());
    buffers.fill(scheduler, n_, prompt_ids_);
    const at::Tensor hidden =
        model_.decode(buffers.tokens(rows), buffers.positions(rows), cache, buffers.table(rows));
    at::Tensor logits = buffers.logits(rows);
    at::mm_out(logits, hidden, model_.lm_head().t());
    const auto too_short = rows_too_short(scheduler);
    at::Tensor correction;
    if (!too_short.empty()) correction = forbid_stop(logits, too_short, options_.stop_ids);
    kernels::SampleOptions how;
    how.temperature = options_.temperature;
    how.top_k = options_.top_k;
    how.top_p = options_.top_p;
    how.min_p = options_.min_p;
    kernels::Sampled drawn = kernels::sample(logits, buffers.keys(rows), options_.seed, how);
    if (correction.defined()) drawn.raw_logprobs.add_(correction);
    append(drawn, scheduler);
  }

  std::vector<int64_t> rows_too_short(const Scheduler& scheduler) const {
    std::vector<int64_t> rows;
    if (options_.min_new_tokens == 0 || options_.stop_ids.empty()) return rows;
    for (size_t i = 0; i < scheduler.rows().size(); ++i) {
      const auto& sample = samples_[static_cast<size_t>(scheduler.rows()[i].request)];
      if (static_cast<int64_t>(sample.tokens.size()) < options_.min_new_tokens) {
        rows.push_back(static_cast<int64_t>(i));
      }
    }
    return rows;
  }

  void append(const kernels::Sampled& drawn, const Scheduler& scheduler) {
    const auto tokens = drawn.tokens.to(at::kCPU).contiguous();
    const auto logprobs = drawn.logprobs.to(at::kCPU, at::kFloat).contiguous();
    const auto raw = drawn.raw_logprobs.to(at::kCPU, at::kFloat).contiguous();
    for (size_t i = 0; i < scheduler.rows().size(); ++i) {
      Sample& sample = samples_[static_cast<size_t>(scheduler.rows()[i].request)];
      const int64_t token = tokens.const_data_ptr<int64_t>()[i];
      sample.tokens.push_back(static_cast<int32_t>(token));
      sample.logprobs.push_back(logprobs.const_data_ptr<float>()[i]);
      sample.raw_logprobs.push_back(raw.const_data_ptr<float>()[i]);
      sample.stopped = std::find(options_.stop_ids.begin(), options_.stop_ids.end(), token) !=
                       options_.stop_ids.end();
      sample.finished = sample.stopped || static_cast<int64_t>(sample.tokens.size()) >=
                                              room(static_cast<size_t>(sample.prompt));
      ++generated_;
      if (options_.on_token) options_.on_token(sample, static_cast<int32_t>(token));
    }
  }

  void report_finished() {
    while (reported_ < samples_.size() && samples_[reported_].finished) {
      if (options_.on_sample) options_.on_sample(samples_[reported_]);
      ++reported_;
    }
  }

  CausalLM& model_;
  const std::vector<std::vector<int32_t>>& prompts_;
  int64_t n_;
  const GenerationOptions& options_;
  const std::vector<int64_t>& prompt_ids_;
  std::vector<Sample> samples_;
  size_t reported_ = 0;
  int64_t generated_ = 0;
};

}  // namespace

std::vector<Sample> generate(CausalLM& model, const std::vector<std::vector<int32_t>>& prompts,
                             int64_t n, const GenerationOptions& options,
                             const std::vector<int64_t>& prompt_ids) {
  const at::NoGradGuard no_grad;
  check_options(options, n, model.config().vocab_size);
  check_prompts(prompts, model.config());
  if (!prompt_ids.empty() && prompt_ids.size() != prompts.size()) {
    fail("prompt_ids", std::to_string(prompts.size()) + " ids", std::to_string(prompt_ids.size()));
  }
  return Run(model, prompts, n, options, prompt_ids).run();
}

}  // namespace hone::engine
