#include "kernels/cpu/decoder_stack.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/decoder_stack.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"
#include "kernels/cpu/decoder_stack_attention-inl.h"
#include "kernels/cpu/small_gemm-inl.h"
#include "kernels/cpu/vector_exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

/// C[rows, padded out] (+)= A W^T + bias, a panel of columns after the other: a panel stays in the
/// first-level cache while all rows pass over it.
void multiply(const float* a, const StackMatrix& w, float* c, int64_t rows, bool accumulate) {
  const int64_t lanes = hn::Lanes(Full()), stride = stack_padded(w.out);
  if (w.bias != nullptr) {
    for (int64_t r = 0; r < rows; ++r) {
      float* row = c + r * stride;
      for (int64_t j = 0; j < w.out; ++j) row[j] = accumulate ? row[j] + w.bias[j] : w.bias[j];
      if (!accumulate) std::fill(row + w.out, row + stride, 0.0f);
    }
    accumulate = true;
  }
  const SmallGemm<float> g{a, stack_padded(w.in), 1, w.transposed, stride, c, stride, accumulate};
  const auto panel = [&]<int kVectors>(int64_t column) {
    int64_t row = 0;
    for (; row + 4 <= rows; row += 4) gemm_block<4, kVectors>(g, row, column, 0, w.in);
    if (row + 2 <= rows) {
      gemm_block<2, kVectors>(g, row, column, 0, w.in);
      row += 2;
    }
    if (row < rows) gemm_block<1, kVectors>(g, row, column, 0, w.in);
  };
  int64_t column = 0;
  for (; column + kWideVectors * lanes <= stride; column += kWideVectors * lanes) {
    panel.template operator()<kWideVectors>(column);
  }
  for (; column + 2 * lanes <= stride; column += 2 * lanes) panel.template operator()<2>(column);
  for (; column < stride; column += lanes) panel.template operator()<1>(column);
}

/// Sum of term(j) over [0, size); rows are padded with zeros, on which term is zero.
template <typename Term>
HWY_INLINE float sum_padded(int64_t size, const Term& term) {
  const Full d;
  const int64_t lanes = hn::Lanes(d);
  auto sum = hn::Zero(d);
  for (int64_t j = 0; j < size; j += lanes) sum = hn::Add(sum, term(d, j));
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

void normalize(const StackNorm& norm, int64_t size, float eps, const float* x, float* y) {
  const int64_t padded = stack_padded(size);
  const auto n = static_cast<float>(size);
  float mean = 0.0f;
  if (norm.bias != nullptr) {
    mean = sum_padded(padded, [&](auto d, int64_t j) { return hn::LoadU(d, x + j); }) / n;
  }
  float squares = sum_padded(padded, [&](auto d, int64_t j) {
    const auto v = hn::LoadU(d, x + j);
    return hn::Mul(v, v);
  });
  if (norm.bias != nullptr) {  // about the mean, in a second pass, because squares may cancel
    squares = 0.0f;
    for (int64_t j = 0; j < size; ++j) squares += (x[j] - mean) * (x[j] - mean);
  }
  const float scale = 1.0f / std::sqrt(squares / n + eps);
  for (int64_t j = 0; j < size; ++j) {
    y[j] = (x[j] - mean) * scale * norm.weight[j] + (norm.bias != nullptr ? norm.bias[j] : 0.0f);
  }
  std::fill(y + size, y + padded, 0.0f);
}

template <class D>
HWY_INLINE hn::Vec<D> sigmoid(D d, hn::Vec<D> x) {
  const auto e = exp_below_88(d, hn::Min(hn::Neg(x), hn::Set(d, 88.0f)));
  return hn::Div(hn::Set(d, 1.0f), hn::Add(hn::Set(d, 1.0f), e));
}

template <class D>
HWY_INLINE hn::Vec<D> activation_of(StackActivation kind, D d, hn::Vec<D> x) {
  switch (kind) {
    case StackActivation::kSilu:
      return hn::Mul(x, sigmoid(d, x));
    case StackActivation::kRelu:
      return hn::Max(x, hn::Zero(d));
    case StackActivation::kGeluTanh: {
      // 0.5 (1 + tanh(u)) = sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)
      const auto cube = hn::Mul(hn::Mul(x, x), x);
      const auto u = hn::MulAdd(cube, hn::Set(d, 0.044715f), x);
      return hn::Mul(x, sigmoid(d, hn::Mul(u, hn::Set(d, 1.5957691216057308f))));
    }
    case StackActivation::kGelu: {
      float lane[hn::MaxLanes(d)];
      hn::StoreU(x, d, lane);
      for (float& v : lane) v = 0.5f * v * (1.0f + std::erf(v * 0.70710678118654752f));
      return hn::LoadU(d, lane);
    }
  }
  return x;
}

/// up [rows, padded(2F or F)] -> activated [rows, padded(F)].
void activate(const DecoderStack& stack, int64_t rows, const float* up, float* activated) {
  const Full d;
  const int64_t lanes = hn::Lanes(d), size = stack.intermediate, padded = stack_padded(size);
  const int64_t stride = stack_padded(stack.gated ? 2 * size : size);
  for (int64_t r = 0; r < rows; ++r, up += stride, activated += padded) {
    int64_t j = 0;
    for (; j + lanes <= size; j += lanes) {
      auto y = activation_of(stack.activation, d, hn::LoadU(d, up + j));
      if (stack.gated) y = hn::Mul(y, hn::LoadU(d, up + size + j));
      hn::StoreU(y, d, activated + j);
    }
    const hn::CappedTag<float, 1> one;
    for (; j < size; ++j) {
      auto y = activation_of(stack.activation, one, hn::LoadU(one, up + j));
      if (stack.gated) y = hn::Mul(y, hn::LoadU(one, up + size + j));
      hn::StoreU(y, one, activated + j);
    }
    std::fill(activated + size, activated + padded, 0.0f);
  }
}

void embed(const DecoderStack& stack, const StackRows& in, float* x) {
  const int64_t size = stack.hidden, stride = stack_padded(size);
  for (int64_t r = 0; r < in.rows; ++r, x += stride) {
    const float* token = stack.embedding + in.tokens[r] * size;
    std::copy(token, token + size, x);
    if (stack.position_table != nullptr) {
      const float* position = stack.position_table + in.positions[r] * size;
      for (int64_t j = 0; j < size; ++j) x[j] += position[j];
    }
    std::fill(x + size, x + stride, 0.0f);
  }
}

/// Up to kStackRows rows through every layer; scratch.normed holds the final hidden states, scratch
/// .logits their logits when they are asked for.
void forward(const DecoderStack& stack, const StackRows& in, bool logits, StackScratch& scratch) {
  const int64_t hidden = stack_padded(stack.hidden);
  float *x = scratch.x.data(), *normed = scratch.normed.data();
  const auto norm_rows = [&](const StackNorm& norm) {
    for (int64_t r = 0; r < in.rows; ++r) {
      normalize(norm, stack.hidden, stack.norm_eps, x + r * hidden, normed + r * hidden);
    }
  };
  embed(stack, in, x);
  for (const StackLayer& layer : stack.layers) {
    const AttentionShape& s = layer.shape;
    const auto attention_row = [&](int64_t r) {
      return AttentionRow{stack,
                          layer,
                          in.table + r * in.table_stride,
                          in.positions[r],
                          scratch.qkv.data() + r * stack_padded(s.width),
                          scratch.attended.data() + r * stack_padded(s.heads * s.head_dim)};
    };
    norm_rows(layer.attention_norm);
    multiply(normed, layer.qkv, scratch.qkv.data(), in.rows, false);
    for (int64_t r = 0; r < in.rows; ++r) enter_cache(attention_row(r));
    for (int64_t r = 0; r < in.rows; ++r) attend_row(attention_row(r), scratch);
    multiply(scratch.attended.data(), layer.attention_output, x, in.rows, true);
    norm_rows(layer.mlp_norm);
    multiply(normed, layer.up, scratch.up.data(), in.rows, false);
    activate(stack, in.rows, scratch.up.data(), scratch.activated.data());
    multiply(scratch.activated.data(), layer.down, x, in.rows, true);
  }
  if (!logits) return;
  norm_rows(stack.final_norm);
  multiply(normed, stack.head, scratch.logits.data(), in.rows, false);
}

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <ATen/Parallel.h>

#include "kernels/math/philox.h"

namespace hone::kernels {

HWY_EXPORT(forward);

namespace {

/// Calls visit(item, scratch of the thread) for every item. The same items go to the same thread in
/// step after step: their part of the cache is near its core.
template <typename Visit>
void share_out(int64_t items, std::vector<StackScratch>& scratch, const Visit& visit) {
  at::parallel_for(0, items, 1, [&](int64_t begin, int64_t end) {
    StackScratch& own = scratch.at(static_cast<size_t>(at::get_thread_num()));
    for (int64_t item = begin; item < end; ++item) visit(item, own);
  });
}

StackRows part_of(const StackRows& all, int64_t begin) {
  return {std::min(kStackRows, all.rows - begin), all.tokens + begin, all.positions + begin,
          all.table + begin * all.table_stride, all.table_stride};
}

void draw_row(const DecoderStack& stack, const StackDraw& draw, int64_t row, float* logits,
              StackScratch& scratch) {
  const int64_t* key = draw.keys + 3 * row;
  const double uniform = math::sample_uniform(draw.seed, key[0], key[1], key[2]);
  const SampledRow drawn =
      sample_edited_row(logits, stack.vocab, uniform, draw.rule,
                        draw.edits != nullptr ? draw.edits[row] : RowEdits(), scratch.sample);
  draw.tokens[row] = drawn.token;
  draw.logprobs[row] = static_cast<float>(drawn.logprob);
  draw.raw_logprobs[row] = static_cast<float>(drawn.raw_logprob);
  draw.valid[row] = drawn.valid;
}

}  // namespace

StackScratch::StackScratch(const DecoderStack& stack, int64_t context) {
  const auto rows_of = [](int64_t size) {
    return std::vector<float>(static_cast<size_t>(kStackRows * stack_padded(size)), 0.0f);
  };
  const AttentionShape& shape = stack.layers.front().shape;
  const int64_t longest = stack_padded(context) + kStackBlock;
  x = rows_of(stack.hidden);
  normed = rows_of(stack.hidden);
  qkv = rows_of(shape.width);
  attended = rows_of(shape.heads * shape.head_dim);
  up = rows_of(stack.gated ? 2 * stack.intermediate : stack.intermediate);
  activated = rows_of(stack.intermediate);
  logits = rows_of(stack.vocab);
  query.resize(static_cast<size_t>(4 * shape.head_dim));
  scores.resize(static_cast<size_t>(4 * longest));
  sample.weights.reserve(static_cast<size_t>(stack_padded(stack.vocab)));
  sample.blocks.reserve(static_cast<size_t>(stack.vocab / 256 + 1));
  sample.kept.reserve(static_cast<size_t>(2 * stack.vocab));
}

void stack_decode(const DecoderStack& stack, const StackRows& rows, const StackDraw& draw,
                  std::vector<StackScratch>& scratch) {
  const auto run = HWY_DYNAMIC_DISPATCH(forward);
  // Small steps are cut finer, so that every thread has rows.
  const int64_t threads = at::get_num_threads();
  const int64_t piece = std::clamp<int64_t>((rows.rows + threads - 1) / threads, 1, kStackRows);
  share_out((rows.rows + piece - 1) / piece, scratch, [&](int64_t item, StackScratch& own) {
    StackRows part = part_of(rows, item * piece);
    part.rows = std::min(part.rows, piece);
    run(stack, part, true, own);
    for (int64_t r = 0; r < part.rows; ++r) {
      draw_row(stack, draw, item * piece + r, own.logits.data() + r * stack_padded(stack.vocab),
               own);
    }
  });
}

void stack_prefill(const DecoderStack& stack, const std::vector<StackRows>& prompts,
                   std::vector<StackScratch>& scratch) {
  const auto run = HWY_DYNAMIC_DISPATCH(forward);
  share_out(static_cast<int64_t>(prompts.size()), scratch, [&](int64_t item, StackScratch& own) {
    const StackRows& prompt = prompts[static_cast<size_t>(item)];
    for (int64_t begin = 0; begin < prompt.rows; begin += kStackRows) {
      run(stack, part_of(prompt, begin), false, own);
    }
  });
}

}  // namespace hone::kernels

#endif  // HWY_ONCE
