#include "engine/generation/generator.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "engine/generation/decoder.h"
#include "engine/generation/generation_checks.h"
#include "engine/generation/response_text.h"
#include "engine/generation/scheduler.h"

namespace hone::engine {
namespace {

constexpr int64_t kBlockSize = 16;
/// The cache may take this much of the host's memory; more rows than fit wait their turn.
constexpr int64_t kCacheBytes = int64_t{2} << 30;

/// What a sample carries while it is drawn.
struct Live {
  std::vector<int32_t> seen;  // distinct ids of prompt and response
  std::vector<bool> is_seen;  // by id
  std::optional<ResponseText> text;

  void see(int32_t id) {
    if (is_seen[static_cast<size_t>(id)]) return;
    is_seen[static_cast<size_t>(id)] = true;
    seen.push_back(id);
  }
};

class Run {
 public:
  Run(CausalLM& model, const std::vector<std::vector<int32_t>>& prompts, int64_t n,
      const GenerationOptions& options, const std::vector<int64_t>& prompt_ids)
      : model_(model),
        prompts_(prompts),
        n_(n),
        options_(options),
        prompt_ids_(prompt_ids),
        stop_ids_(options.stop_ids),
        samples_(prompts.size() * static_cast<size_t>(n)),
        live_(samples_.size()) {
    std::sort(stop_ids_.begin(), stop_ids_.end());
    stop_ids_.erase(std::unique(stop_ids_.begin(), stop_ids_.end()), stop_ids_.end());
    for (size_t r = 0; r < samples_.size(); ++r) {
      samples_[r].prompt = static_cast<int64_t>(r) / n;
      samples_[r].sample = static_cast<int64_t>(r) % n;
    }
  }

  std::vector<Sample> run() {
    if (samples_.empty()) return {};
    const SchedulerLimits limits = plan();
    const auto decoder = uses_stack() ? make_stack_decoder(model_, limits, options_)
                                      : make_tensor_decoder(model_, limits, options_);
    Scheduler scheduler(prompts_, n_, samples_, limits);
    StepBuffers step(limits);
    for (;;) {
      const Scheduler::Admission admission = scheduler.admit();
      if (scheduler.rows().empty()) break;
      prefill(admission, scheduler, *decoder);
      fill(scheduler, step);
      decoder->step(step);
      append(step, scheduler);
      scheduler.retire_finished();
      report_finished();
      if (options_.progress && !options_.progress(generated_)) break;
    }
    return std::move(samples_);
  }

 private:
  bool uses_stack() const { return options_.use_stack && fits_stack_decoder(model_); }

  const std::vector<int32_t>& prompt_of(const Sample& sample) const {
    return prompts_[static_cast<size_t>(sample.prompt)];
  }

  int64_t room(const std::vector<int32_t>& prompt) const {
    return std::min(options_.max_new_tokens,
                    model_.config().max_positions - static_cast<int64_t>(prompt.size()));
  }

  /// Of a GPU half of what is free, and no less than of the host.
  int64_t cache_bytes() const {
    const at::Device device = model_.parameters().data().device();
    if (device.is_cpu()) return kCacheBytes;
    const auto [free, total] = at::getDeviceAllocator(device.type())->getMemoryInfo(device.index());
    return std::max(kCacheBytes, static_cast<int64_t>(free / 2));
  }

  SchedulerLimits plan() const {
    SchedulerLimits limits;
    limits.block_size = kBlockSize;
    int64_t longest = 1;
    for (const auto& prompt : prompts_) {
      longest = std::max(longest, static_cast<int64_t>(prompt.size()) + room(prompt));
    }
    limits.row_blocks = (longest + kBlockSize - 1) / kBlockSize;
    const ModelConfig& config = model_.config();
    const int64_t block_bytes = 2 * config.layers * kBlockSize * config.kv_heads *
                                config.attention_head_dim() *
                                static_cast<int64_t>(c10::elementSize(model_.cache_type()));
    const int64_t fitting = cache_bytes() / (block_bytes * limits.row_blocks) - 1;
    limits.rows = std::min(
        {options_.max_rows, static_cast<int64_t>(samples_.size()), std::max<int64_t>(fitting, 1)});
    if (uses_stack()) limits.rows = std::min(limits.rows, stack_decoder_rows());
    return limits;
  }

  void prefill(const Scheduler::Admission& admission, const Scheduler& scheduler,
               Decoder& decoder) {
    std::vector<PromptPart> parts;
    for (const size_t index : admission.prefill) {
      const Scheduler::Row& row = scheduler.rows()[index];
      parts.push_back(
          {prompt_of(samples_[static_cast<size_t>(row.request)]), row.cached, row.blocks});
    }
    if (!parts.empty()) decoder.prefill(parts);
    if (!admission.copies.empty()) decoder.copy_blocks(admission.copies);
    for (const size_t index : admission.admitted) {
      begin(static_cast<size_t>(scheduler.rows()[index].request));
    }
  }

  void begin(size_t request) {
    Sample& sample = samples_[request];
    const auto& prompt = prompt_of(sample);
    const auto size = static_cast<size_t>(room(prompt));
    sample.tokens.reserve(size);
    sample.logprobs.reserve(size);
    sample.raw_logprobs.reserve(size);
    const bool text = !options_.stop_strings.empty() || options_.on_text;
    if (!text && options_.repetition_penalty == 1.0) return;
    auto live = std::make_unique<Live>();
    if (options_.repetition_penalty != 1.0) {
      live->is_seen.resize(static_cast<size_t>(model_.config().vocab_size));
      live->seen.reserve(std::min(live->is_seen.size(), prompt.size() + size));
      for (const int32_t id : prompt) live->see(id);
    }
    if (text) live->text.emplace(*options_.tokenizer, prompt, options_.stop_strings);
    live_[request] = std::move(live);
  }

  /// Next token, position, blocks, random key and edits of every row.
  void fill(Scheduler& scheduler, StepBuffers& step) const {
    step.rows = static_cast<int64_t>(scheduler.rows().size());
    step.edited = false;
    for (size_t i = 0; i < scheduler.rows().size(); ++i) {
      const Scheduler::Row& row = scheduler.rows()[i];
      const int64_t prompt = row.request / n_;
      step.positions[i] = row.cached;
      int64_t* key = step.keys.data() + 3 * i;
      key[0] = prompt_ids_.empty() ? prompt : prompt_ids_[static_cast<size_t>(prompt)];
      key[1] = row.request % n_;
      key[2] = row.cached + 1;
      step.tokens[i] = scheduler.feed(i);
      std::copy(row.blocks.begin(), row.blocks.end(),
                step.table.begin() + static_cast<std::ptrdiff_t>(i) * step.row_blocks);
      step.edits[i] = edits_of(static_cast<size_t>(row.request));
      step.edited = step.edited || step.edits[i].any();
    }
  }

  kernels::RowEdits edits_of(size_t request) const {
    kernels::RowEdits edits;
    if (options_.repetition_penalty != 1.0) {
      edits.penalty = options_.repetition_penalty;
      edits.seen = live_[request]->seen.data();
      edits.seen_count = static_cast<int64_t>(live_[request]->seen.size());
    }
    if (static_cast<int64_t>(samples_[request].tokens.size()) < options_.min_new_tokens) {
      edits.forbidden = stop_ids_.data();
      edits.forbidden_count = static_cast<int64_t>(stop_ids_.size());
    }
    return edits;
  }

  void append(const StepBuffers& step, const Scheduler& scheduler) {
    for (size_t i = 0; i < scheduler.rows().size(); ++i) {
      const auto request = static_cast<size_t>(scheduler.rows()[i].request);
      Sample& sample = samples_[request];
      const auto token = static_cast<int32_t>(step.drawn[i]);
      sample.tokens.push_back(token);
      sample.logprobs.push_back(step.logprobs[i]);
      sample.raw_logprobs.push_back(step.raw_logprobs[i]);
      ++generated_;
      if (options_.on_token) options_.on_token(sample, token);
      sample.stopped = std::binary_search(stop_ids_.begin(), stop_ids_.end(), step.drawn[i]);
      if (live_[request]) follow(sample, token, *live_[request]);
      sample.finished =
          sample.stopped || static_cast<int64_t>(sample.tokens.size()) >= room(prompt_of(sample));
      if (sample.finished) end(sample, live_[request]);
    }
  }

  void follow(Sample& sample, int32_t token, Live& live) const {
    if (!live.is_seen.empty()) live.see(token);
    if (!live.text) return;
    const bool may_stop = static_cast<int64_t>(sample.tokens.size()) > options_.min_new_tokens;
    give_out(sample, live.text->push(token, may_stop));
    if (live.text->stop() == nullptr) return;
    sample.stopped = true;
    sample.stop_string = *live.text->stop();
  }

  void end(Sample& sample, std::unique_ptr<Live>& live) const {
    if (live && live->text) {
      give_out(sample, live->text->finish());
      sample.text = live->text->text();
    }
    live.reset();
  }

  void give_out(const Sample& sample, const std::string& text) const {
    if (options_.on_text && !text.empty()) options_.on_text(sample, text);
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
  std::vector<int64_t> stop_ids_;  // sorted, distinct
  std::vector<Sample> samples_;
  std::vector<std::unique_ptr<Live>> live_;  // by request; null where nothing is to be carried
  size_t reported_ = 0;
  int64_t generated_ = 0;
};

}  // namespace

StepBuffers::StepBuffers(const SchedulerLimits& limits) : row_blocks(limits.row_blocks) {
  const auto size = static_cast<size_t>(limits.rows);
  tokens.resize(size);
  positions.resize(size);
  keys.resize(3 * size);
  table.resize(size * static_cast<size_t>(row_blocks));
  edits.resize(size);
  drawn.resize(size);
  logprobs.resize(size);
  raw_logprobs.resize(size);
}

std::vector<Sample> generate(CausalLM& model, const std::vector<std::vector<int32_t>>& prompts,
                             int64_t n, const GenerationOptions& options,
                             const std::vector<int64_t>& prompt_ids) {
  const at::NoGradGuard no_grad;
  check_generation(options, prompts, n, prompt_ids, model.config());
  return Run(model, prompts, n, options, prompt_ids).run();
}

}  // namespace hone::engine
