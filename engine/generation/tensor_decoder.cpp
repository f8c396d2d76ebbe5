#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <limits>
#include <map>
#include <memory>

#include "engine/generation/decoder.h"
#include "engine/generation/recorded_work.h"
#include "kernels/ops.h"

namespace hone::engine {
namespace {

/// Rows that later pieces of a long prompt are computed in: each has a row of the block table.
constexpr int64_t kPieceRows = 512;

/// Weights in the type of products once for all steps.
class HeldCasts {
 public:
  explicit HeldCasts(CausalLM& model) : model_(model) { model_.hold_casts(); }
  ~HeldCasts() { model_.release_casts(); }
  HeldCasts(const HeldCasts&) = delete;
  HeldCasts& operator=(const HeldCasts&) = delete;

 private:
  CausalLM& model_;
};

class TensorDecoder : public Decoder {
 public:
  TensorDecoder(CausalLM& model, const SchedulerLimits& limits, const GenerationOptions& options)
      : model_(model),
        casts_(model),
        limits_(limits),
        prefill_tokens_(options.prefill_tokens),
        seed_(options.seed),
        device_(model.parameters().data().device()),
        rows_(device_.is_cpu() ? nullptr : std::make_unique<DeviceRows>(limits, device_)),
        cache_(model.make_cache(Scheduler::blocks_needed(limits) + (rows_ ? 1 : 0),
                                limits.block_size)),
        widens_(!device_.is_cpu() && model.decoding_head().scalar_type() == at::kBFloat16),
        logits_(at::empty({rows_ ? rows_->size : limits.rows, model.config().vocab_size},
                          widens_ ? model.decoding_head().options().dtype(at::kFloat)
                                  : model.decoding_head().options())) {
    how_.temperature = options.temperature;
    how_.top_k = options.top_k;
    how_.top_p = options.top_p;
    how_.min_p = options.min_p;
    if (rows_) rows_->records = options.record_steps && is_recordable();
  }

  void prefill(const std::vector<PromptPart>& prompts) override {
    Pack pack;
    for (const PromptPart& prompt : prompts) {
      const int64_t first = std::min(prompt.count, prefill_tokens_);
      if (static_cast<int64_t>(pack.tokens.size()) + first > prefill_tokens_) flush(pack);
      for (int64_t p = 0; p < first; ++p) {
        pack.tokens.push_back(prompt.tokens[static_cast<size_t>(p)]);
        pack.slots.push_back(slot(prompt, p));
      }
      pack.bounds.push_back(static_cast<int64_t>(pack.tokens.size()));
    }
    flush(pack);
    for (const PromptPart& prompt : prompts) {
      const int64_t rows = std::min(prefill_tokens_, kPieceRows);
      for (int64_t begin = prefill_tokens_; begin < prompt.count; begin += rows) {
        prefill_piece(prompt, begin, std::min(begin + rows, prompt.count));
      }
    }
  }

  void copy_blocks(const std::vector<std::pair<int32_t, int32_t>>& copies) override {
    for (const auto& [from, to] : copies) cache_.copy_block(from, to);
  }

  void step(StepBuffers& step) override {
    if (rows_ && !step.edited) return step_on_device(step);
    const at::Tensor logits =
        logits_of(input(step.tokens, {step.rows}), input(step.positions, {step.rows}),
                  input(step.table, {step.rows, step.row_blocks}));
    const at::Tensor keys = input(step.keys, {step.rows, 3});
    kernels::Sampled drawn;
    if (step.edited) {
      Edited edited(logits, step);
      const at::ScalarType type = logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
      const at::Tensor log_sum = logits.to(type).logsumexp(1);
      edited.apply(logits);
      drawn = kernels::sample(logits, keys, seed_, how_);
      edited.undo(logits);
      drawn.raw_logprobs =
          logits.gather(1, drawn.tokens.unsqueeze(1)).squeeze(1).to(type).sub(log_sum);
    } else {
      drawn = kernels::sample(logits, keys, seed_, how_);
    }
    output(drawn.tokens.to(at::kCPU), step.drawn);
    output(drawn.logprobs.to(at::kCPU, at::kFloat), step.logprobs);
    output(drawn.raw_logprobs.to(at::kCPU, at::kFloat), step.raw_logprobs);
  }

 private:
  /// Inputs and outputs of a step where the GPU finds them every time.
  struct DeviceRows {
    /// Steps of a number of rows before they are recorded: shorter generations do not earn it back.
    static constexpr int kStepsBefore = 12;

    DeviceRows(const SchedulerLimits& limits, at::Device device)
        : scratch_block(static_cast<int32_t>(Scheduler::blocks_needed(limits))),
          // An eighth more rows than live costs little, and there are eight recordings at most.
          multiple(std::max<int64_t>(8, (limits.rows + 7) / 8)),
          size((limits.rows + multiple - 1) / multiple * multiple),
          numbers(at::empty({size, 5}, at::TensorOptions().dtype(at::kLong).device(device))),
          table(at::empty({size, limits.row_blocks},
                          at::TensorOptions().dtype(at::kInt).device(device))),
          drawn(at::empty({3, size}, at::TensorOptions().dtype(at::kDouble).device(device))) {}

    struct Recording {
      int steps = 0;
      std::unique_ptr<RecordedWork> work;
    };

    int32_t scratch_block;   // keys and values of rows that are none
    int64_t multiple, size;  // rows a step is filled up to
    at::Tensor numbers;      // [size,5] token, position, key
    at::Tensor table;        // [size,row_blocks]
    at::Tensor drawn;        // [3,size] token, log-probability, raw log-probability
    std::map<int64_t, Recording> recordings;  // by rows
    bool records = true;
  };

  /// Heads of other widths take a path that asks the GPU for lengths on its way.
  bool is_recordable() const {
    const at::Tensor& keys = cache_.keys.front();
    const int64_t vector = 16 / static_cast<int64_t>(keys.element_size()), width = keys.size(3);
    return width % (2 * vector) == 0 && width / vector <= 32;
  }

  at::Tensor logits_of(const at::Tensor& tokens, const at::Tensor& positions,
                       const at::Tensor& table) {
    const at::Tensor hidden = model_.decode(tokens, positions, cache_, table);
    at::Tensor logits = logits_.narrow(0, 0, tokens.size(0));
    if (widens_) {
      at::mm_out(logits, hidden, model_.decoding_head().t(), at::kFloat);
    } else {
      at::mm_out(logits, hidden, model_.decoding_head().t());
    }
    return logits;
  }

  /// Two copies in, one recorded launch or those of all layers, one copy out.
  void step_on_device(StepBuffers& step) {
    DeviceRows& device = *rows_;
    const int64_t rows = (step.rows + device.multiple - 1) / device.multiple * device.multiple;
    std::vector<int64_t> numbers(static_cast<size_t>(5 * rows), 0);
    std::vector<int32_t> table(static_cast<size_t>(rows * step.row_blocks), device.scratch_block);
    for (int64_t row = 0; row < step.rows; ++row) {
      const auto r = static_cast<size_t>(row);
      int64_t* to = numbers.data() + 5 * r;
      to[0] = step.tokens[r];
      to[1] = step.positions[r];
      std::copy_n(step.keys.data() + 3 * r, 3, to + 2);
    }
    std::copy_n(step.table.begin(), step.rows * step.row_blocks, table.begin());
    device.numbers.narrow(0, 0, rows).copy_(at::from_blob(numbers.data(), {rows, 5}, at::kLong));
    device.table.narrow(0, 0, rows)
        .copy_(at::from_blob(table.data(), {rows, step.row_blocks}, at::kInt));
    run(rows);
    const at::Tensor drawn = device.drawn.narrow(1, 0, step.rows).to(at::kCPU).contiguous();
    const double* values = drawn.const_data_ptr<double>();
    for (int64_t row = 0; row < step.rows; ++row) {
      const auto r = static_cast<size_t>(row);
      step.drawn[r] = static_cast<int64_t>(values[row]);
      step.logprobs[r] = static_cast<float>(values[step.rows + row]);
      step.raw_logprobs[r] = static_cast<float>(values[2 * step.rows + row]);
    }
  }

  void run(int64_t rows) {
    const auto launch = [&] {
      const at::Tensor numbers = rows_->numbers.narrow(0, 0, rows);
      const auto column = [&](int64_t first) { return numbers.select(1, first).contiguous(); };
      const at::Tensor logits = logits_of(column(0), column(1), rows_->table.narrow(0, 0, rows));
      const auto drawn = kernels::sample(logits, numbers.narrow(1, 2, 3).contiguous(), seed_, how_);
      const auto keep = [&](int64_t which, const at::Tensor& values) {
        rows_->drawn.select(0, which).narrow(0, 0, rows).copy_(values);
      };
      keep(0, drawn.tokens);
      keep(1, drawn.logprobs);
      keep(2, drawn.raw_logprobs);
    };
    DeviceRows::Recording& recording = rows_->recordings[rows];
    if (!rows_->records || recording.steps++ < DeviceRows::kStepsBefore) return launch();
    if (!recording.work) {
      try {
        recording.work = record_work(launch);
      } catch (const c10::Error&) {
        rows_->records = false;
        return launch();
      }
    }
    recording.work->replay();
  }

  /// Whole beginnings of prompts that are computed together.
  struct Pack {
    std::vector<int64_t> tokens, slots, bounds = {0};
  };

  /// The logits that a step's edits touch: a few, so they are edited on the host.
  class Edited {
   public:
    Edited(const at::Tensor& logits, const StepBuffers& step) {
      const int64_t size = logits.size(1);
      std::vector<int64_t> places;
      std::vector<double> penalties;  // 0 = forbidden
      for (int64_t row = 0; row < step.rows; ++row) {
        const kernels::RowEdits& edits = step.edits[static_cast<size_t>(row)];
        const auto add = [&](int64_t id, double penalty) {
          places.push_back(row * size + id);
          penalties.push_back(penalty);
        };
        for (int64_t i = 0; i < edits.forbidden_count; ++i) add(edits.forbidden[i], 0.0);
        for (int64_t i = 0; edits.penalty != 1.0 && i < edits.seen_count; ++i) {
          const auto* end = edits.forbidden + edits.forbidden_count;
          if (std::find(edits.forbidden, end, edits.seen[i]) == end) {
            add(edits.seen[i], edits.penalty);
          }
        }
      }
      places_ = at::tensor(places, at::kLong).to(logits.device());
      kept_ = logits.reshape({-1}).index_select(0, places_);
      at::Tensor changed = kept_.to(at::kCPU, at::kDouble, /*non_blocking=*/false, /*copy=*/true);
      double* values = changed.mutable_data_ptr<double>();
      for (size_t i = 0; i < penalties.size(); ++i) {
        values[i] = penalties[i] == 0.0 ? -std::numeric_limits<double>::infinity()
                                        : kernels::penalized(values[i], penalties[i]);
      }
      changed_ = changed.to(logits.options());
    }
    void apply(const at::Tensor& logits) const { put(logits, changed_); }
    void undo(const at::Tensor& logits) const { put(logits, kept_); }

   private:
    void put(const at::Tensor& logits, const at::Tensor& values) const {
      logits.view({-1}).index_copy_(0, places_, values);
    }
    at::Tensor places_, kept_, changed_;
  };

  int64_t slot(const PromptPart& prompt, int64_t position) const {
    const int64_t size = limits_.block_size;
    return prompt.blocks[static_cast<size_t>(position / size)] * size + position % size;
  }

  void flush(Pack& pack) {
    if (!pack.tokens.empty()) {
      model_.prefill(at::tensor(pack.tokens, at::kLong).to(device_),
                     at::tensor(pack.bounds, at::kLong).to(device_), cache_,
                     at::tensor(pack.slots, at::kLong).to(device_));
    }
    pack = {};
  }

  /// Tokens [begin, end) of a prompt as so many rows of a decode step, which read one another's
  /// keys through the cache.
  void prefill_piece(const PromptPart& prompt, int64_t begin, int64_t end) {
    std::vector<int64_t> tokens, positions;
    for (int64_t p = begin; p < end; ++p) {
      tokens.push_back(prompt.tokens[static_cast<size_t>(p)]);
      positions.push_back(p);
    }
    const at::Tensor blocks = at::tensor(prompt.blocks, at::kInt).to(device_);
    model_.decode(at::tensor(tokens, at::kLong).to(device_),
                  at::tensor(positions, at::kLong).to(device_), cache_,
                  blocks.unsqueeze(0).expand({end - begin, blocks.size(0)}).contiguous());
  }

  /// A buffer as a tensor, in place when the model is on the CPU.
  template <typename T>
  at::Tensor input(std::vector<T>& values, at::IntArrayRef shape) const {
    return at::from_blob(values.data(), shape, c10::CppTypeToScalarType<T>::value).to(device_);
  }

  template <typename T>
  static void output(const at::Tensor& values, std::vector<T>& to) {
    const at::Tensor flat = values.contiguous();
    const T* from = flat.const_data_ptr<T>();
    std::copy(from, from + flat.numel(), to.begin());
  }

  CausalLM& model_;
  HeldCasts casts_;
  SchedulerLimits limits_;
  int64_t prefill_tokens_, seed_;
  kernels::SampleOptions how_;
  at::Device device_;
  std::unique_ptr<DeviceRows> rows_;  // on a GPU
  KvCache cache_;
  bool widens_;  // bfloat16 products whose logits stay float32
  at::Tensor logits_;
};

}  // namespace

std::unique_ptr<Decoder> make_tensor_decoder(CausalLM& model, const SchedulerLimits& limits,
                                             const GenerationOptions& options) {
  return std::make_unique<TensorDecoder>(model, limits, options);
}

}  // namespace hone::engine
