// The whole-row decoder against the same model written as tensor operations in double, and what it
// promises besides: the bits of a row in any company, and no allocation.

#include "kernels/cpu/decoder_stack.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

namespace {
std::atomic<int64_t> allocations{0};
}  // namespace

[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace hone::kernels {
namespace {

using at::Tensor;

struct Sizes {
  std::string name;
  int64_t heads = 4, kv_heads = 2, head_dim = 8, hidden = 20, intermediate = 27, vocab = 37;
  int64_t window = 0;
  bool gated = true, biased = false, layer_norm = false, head_norm = false, learned = false;
  StackActivation activation = StackActivation::kSilu;
};

constexpr int64_t kLayers = 2, kContext = 96, kBlocks = 64, kRowBlocks = kContext / kStackBlock;
constexpr double kEps = 1e-5;

Tensor random(at::IntArrayRef shape, double std) { return at::randn(shape) * std; }

/// A model of random numbers as the stack takes it, and its forward in double.
struct Model {
  explicit Model(const Sizes& sizes) : s(sizes) {
    at::manual_seed(7);
    const int64_t q = s.heads * s.head_dim, width = q + 2 * s.kv_heads * s.head_dim;
    stack.hidden = s.hidden;
    stack.intermediate = s.intermediate;
    stack.vocab = s.vocab;
    stack.gated = s.gated;
    stack.activation = s.activation;
    stack.norm_eps = static_cast<float>(kEps);
    embedding = random({s.vocab, s.hidden}, 1.0);
    stack.embedding = hold(embedding);
    if (s.learned) {
      positions = random({kContext, s.hidden}, 0.5);
      stack.position_table = hold(positions);
    } else {
      const Tensor angle =
          at::outer(at::arange(kContext, at::kDouble),
                    at::pow(100.0, -at::arange(s.head_dim / 2, at::kDouble) * 0.3));
      cos = angle.cos().to(at::kFloat);
      sin = angle.sin().to(at::kFloat);
      stack.cos = hold(cos);
      stack.sin = hold(sin);
    }
    for (int64_t l = 0; l < kLayers; ++l) {
      layers.emplace_back();
      Layer& t = layers.back();
      StackLayer layer;
      layer.attention_norm = norm(t.attention_norm);
      layer.mlp_norm = norm(t.mlp_norm);
      layer.qkv = matrix(width, s.hidden, t.qkv);
      layer.attention_output = matrix(s.hidden, q, t.output);
      layer.up = matrix(s.gated ? 2 * s.intermediate : s.intermediate, s.hidden, t.up);
      layer.down = matrix(s.hidden, s.intermediate, t.down);
      if (s.head_norm) {
        t.query_norm = random({s.head_dim}, 0.3) + 1;
        t.key_norm = random({s.head_dim}, 0.3) + 1;
        layer.query_norm = hold(t.query_norm);
        layer.key_norm = hold(t.key_norm);
      }
      layer.shape = attention_shape(s.heads, s.kv_heads, s.head_dim, 0.0, s.window);
      stack.layers.push_back(layer);
    }
    // Memory that nobody wrote must not be read: it holds NaN.
    const int64_t size = kBlocks * stack.block_elements();
    for (StackLayer& layer : stack.layers) {
      for (float** cache : {&layer.keys, &layer.values}) {
        held.push_back(at::full({size}, std::nan("")));
        *cache = held.back().mutable_data_ptr<float>();
      }
    }
    stack.final_norm = norm(final_norm);
    stack.head = matrix(s.vocab, s.hidden, head);
    stack.head.bias = nullptr;
    head.second = Tensor();
    for (int64_t i = 0; i < at::get_num_threads(); ++i) scratch.emplace_back(stack, kContext);
  }

  /// Logits of every position of a text. [T,V] double.
  Tensor expected(const std::vector<int64_t>& tokens) const {
    const auto length = static_cast<int64_t>(tokens.size());
    Tensor x = embedding.to(at::kDouble).index_select(0, at::tensor(tokens));
    if (s.learned) x = x + positions.narrow(0, 0, length);
    const Tensor at_key = at::arange(length), distance = at_key.unsqueeze(1) - at_key;
    Tensor hidden = distance < 0;
    if (s.window > 0) hidden = hidden.logical_or(distance >= s.window);
    for (const Layer& t : layers) {
      const Tensor qkv = linear(normed(x, t.attention_norm), t.qkv)
                             .view({length, s.heads + 2 * s.kv_heads, s.head_dim})
                             .transpose(0, 1);
      const auto turned = [&](int64_t first, int64_t count, const Tensor& weight) {
        Tensor h = qkv.narrow(0, first, count);
        if (s.head_norm) h = normed(h, {weight, Tensor()});
        if (s.learned) return h;
        const auto half = h.chunk(2, -1);
        const Tensor c = cos.narrow(0, 0, length), n = sin.narrow(0, 0, length);
        return at::cat({half[0] * c - half[1] * n, half[1] * c + half[0] * n}, -1);
      };
      const int64_t group = s.heads / s.kv_heads;
      const Tensor query = turned(0, s.heads, t.query_norm);
      const Tensor key = turned(s.heads, s.kv_heads, t.key_norm).repeat_interleave(group, 0);
      const Tensor value =
          qkv.narrow(0, s.heads + s.kv_heads, s.kv_heads).repeat_interleave(group, 0);
      const Tensor scores =
          (at::matmul(query, key.transpose(1, 2)) / std::sqrt(static_cast<double>(s.head_dim)))
              .masked_fill(hidden, -INFINITY);
      const Tensor mixed = at::matmul(scores.softmax(-1), value).transpose(0, 1);
      x = x + linear(mixed.reshape({length, -1}), t.output);
      Tensor up = linear(normed(x, t.mlp_norm), t.up);
      if (s.gated) {
        const auto parts = up.chunk(2, -1);
        up = activated(parts[0]) * parts[1];
      } else {
        up = activated(up);
      }
      x = x + linear(up, t.down);
    }
    return linear(normed(x, final_norm), head);
  }

  DecoderStack stack;
  std::vector<StackScratch> scratch;

 private:
  using Pair = std::pair<Tensor, Tensor>;  // weight, bias
  struct Layer {
    Pair attention_norm, mlp_norm, qkv, output, up, down;
    Tensor query_norm, key_norm;
  };

  const float* hold(const Tensor& tensor) {
    held.push_back(tensor.contiguous());
    return held.back().const_data_ptr<float>();
  }
  StackNorm norm(Pair& pair) {
    pair.first = random({s.hidden}, 0.3) + 1;
    StackNorm result{hold(pair.first), nullptr};
    if (s.layer_norm) {
      pair.second = random({s.hidden}, 0.3);
      result.bias = hold(pair.second);
    }
    return result;
  }
  StackMatrix matrix(int64_t out, int64_t in, Pair& pair) {
    pair.first = random({out, in}, 1.0 / std::sqrt(static_cast<double>(in)));
    Tensor transposed = at::zeros({in, stack_padded(out)});
    transposed.narrow(1, 0, out).copy_(pair.first.t());
    StackMatrix result{hold(transposed), nullptr, in, out};
    if (s.biased) {
      pair.second = random({out}, 0.5);
      result.bias = hold(pair.second);
    }
    return result;
  }
  static Tensor linear(const Tensor& x, const Pair& pair) {
    const Tensor y = at::matmul(x, pair.first.to(at::kDouble).t());
    return pair.second.defined() ? y + pair.second : y;
  }
  static Tensor normed(const Tensor& x, const Pair& pair) {
    const Tensor centred = pair.second.defined() ? x - x.mean(-1, true) : x;
    const Tensor y = centred / (centred.square().mean(-1, true) + kEps).sqrt() * pair.first;
    return pair.second.defined() ? y + pair.second : y;
  }
  Tensor activated(const Tensor& x) const {
    switch (s.activation) {
      case StackActivation::kSilu:
        return at::silu(x);
      case StackActivation::kGeluTanh:
        return at::gelu(x, "tanh");
      case StackActivation::kGelu:
        return at::gelu(x, "none");
      case StackActivation::kRelu:
        return at::relu(x);
    }
    return x;
  }

  Sizes s;
  Tensor embedding, positions, cos, sin;
  std::vector<Layer> layers;
  Pair final_norm, head;
  std::vector<Tensor> held;
};

/// Rows that draw greedily; raw_logprobs then say what the largest logit's probability is.
struct Step {
  explicit Step(int64_t rows)
      : tokens(static_cast<size_t>(rows)),
        positions(tokens.size()),
        keys(3 * tokens.size()),
        table(tokens.size() * kRowBlocks),
        drawn(tokens.size()),
        logprobs(tokens.size()),
        raw(tokens.size()),
        valid(new bool[tokens.size()]) {}
  void run(Model& model) {
    const StackRows rows{static_cast<int64_t>(tokens.size()), tokens.data(), positions.data(),
                         table.data(), kRowBlocks};
    const StackDraw draw{{0.0, 0, 1.0, 0.0}, 3,          keys.data(), nullptr, drawn.data(),
                         logprobs.data(),    raw.data(), valid.get()};
    stack_decode(model.stack, rows, draw, model.scratch);
  }
  std::vector<int64_t> tokens, positions, keys;
  std::vector<int32_t> table;
  std::vector<int64_t> drawn;
  std::vector<float> logprobs, raw;
  std::unique_ptr<bool[]> valid;
};

std::vector<int64_t> text_of(int64_t length, int64_t vocab, int64_t salt) {
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i < length; ++i) tokens.push_back((salt * 11 + i * i * 5 + i * 3) % vocab);
  return tokens;
}

class StackOf : public testing::TestWithParam<Sizes> {};

TEST_P(StackOf, PrefillAndStepsEqualTheModelInDouble) {
  Model model(GetParam());
  const std::vector<int64_t> lengths = {0, 1, 15, 16, 17, 33, 40, 5, 70};  // prefilled of each text
  std::vector<std::vector<int64_t>> texts;
  std::vector<std::vector<int32_t>> blocks;
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < kContext; ++i) positions.push_back(i);
  for (size_t i = 0; i < lengths.size(); ++i) {
    texts.push_back(text_of(lengths[i] + 3, GetParam().vocab, static_cast<int64_t>(i)));
    blocks.emplace_back();
    for (int32_t b = 0; b < kRowBlocks; ++b) {
      blocks.back().push_back(static_cast<int32_t>((static_cast<size_t>(b) * 9 + i * 7 + 3) % 54));
    }
  }
  std::vector<StackRows> prompts;
  for (size_t i = 0; i < lengths.size(); ++i) {
    prompts.push_back({lengths[i], texts[i].data(), positions.data(), blocks[i].data(), 0});
  }
  stack_prefill(model.stack, prompts, model.scratch);
  for (int64_t more = 0; more < 3; ++more) {
    Step step(static_cast<int64_t>(lengths.size()));
    for (size_t i = 0; i < lengths.size(); ++i) {
      step.positions[i] = lengths[i] + more;
      step.tokens[i] = texts[i][static_cast<size_t>(step.positions[i])];
      std::copy(blocks[i].begin(), blocks[i].end(), step.table.begin() + i * kRowBlocks);
    }
    step.run(model);
    for (size_t i = 0; i < lengths.size(); ++i) {
      const std::vector<int64_t> text(texts[i].begin(), texts[i].begin() + lengths[i] + more + 1);
      const Tensor want = model.expected(text)[lengths[i] + more].log_softmax(-1);
      EXPECT_TRUE(step.valid[i]);
      EXPECT_EQ(step.drawn[i], want.argmax().item<int64_t>()) << "text " << i << ", step " << more;
      EXPECT_NEAR(step.raw[i], want.max().item<double>(), 2e-5) << "text " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Families, StackOf,
    testing::Values(
        Sizes{.name = "llama"}, Sizes{.name = "wide_heads", .head_dim = 32, .hidden = 64},
        Sizes{.name = "odd_sizes", .heads = 6, .kv_heads = 2, .head_dim = 6, .vocab = 101},
        Sizes{.name = "many_queries", .heads = 7, .kv_heads = 1, .head_dim = 4},
        Sizes{.name = "window", .window = 9}, Sizes{.name = "wide_window", .window = 33},
        Sizes{.name = "qwen2", .biased = true}, Sizes{.name = "qwen3", .head_norm = true},
        Sizes{.name = "gpt2",
              .kv_heads = 4,
              .gated = false,
              .biased = true,
              .layer_norm = true,
              .learned = true,
              .activation = StackActivation::kGeluTanh},
        Sizes{.name = "gelu", .gated = false, .activation = StackActivation::kGelu},
        Sizes{.name = "relu", .gated = false, .activation = StackActivation::kRelu},
        Sizes{.name = "gated_gelu", .activation = StackActivation::kGeluTanh}),
    [](const auto& instance) { return instance.param.name; });

TEST(DecoderStack, ARowHasTheSameBitsInAnyCompany) {
  Model model(Sizes{.name = "llama", .vocab = 53});
  const auto one_of = [](Step& step, size_t row, int64_t which) {
    step.positions[row] = 0;
    step.tokens[row] = which % 53;
    for (int64_t b = 0; b < kRowBlocks; ++b) {
      step.table[row * kRowBlocks + static_cast<size_t>(b)] = static_cast<int32_t>(which % 50);
    }
  };
  Step together(45);
  for (size_t i = 0; i < 45; ++i) one_of(together, i, static_cast<int64_t>(i));
  together.run(model);
  for (const int64_t company : {1, 2, 3, 7, 30}) {
    Step part(company);
    for (int64_t i = 0; i < company; ++i) one_of(part, static_cast<size_t>(i), 44 - i);
    part.run(model);
    for (int64_t i = 0; i < company; ++i) {
      EXPECT_EQ(part.drawn[static_cast<size_t>(i)], together.drawn[static_cast<size_t>(44 - i)]);
      EXPECT_EQ(part.raw[static_cast<size_t>(i)], together.raw[static_cast<size_t>(44 - i)]);
    }
  }
}

TEST(DecoderStack, AStepAllocatesNothing) {
  Model model(Sizes{});
  Step step(40);
  std::vector<int32_t> seen = {1, 5, 7};
  std::vector<RowEdits> edits(40);
  for (RowEdits& edit : edits) edit = {1.3, seen.data(), 3, nullptr, 0};
  const StackRows rows{40, step.tokens.data(), step.positions.data(), step.table.data(),
                       kRowBlocks};
  StackDraw draw{{0.8, 5, 0.9, 0.01}, 3,
                 step.keys.data(),    edits.data(),
                 step.drawn.data(),   step.logprobs.data(),
                 step.raw.data(),     step.valid.get()};
  stack_decode(model.stack, rows, draw, model.scratch);  // starts the threads
  const int64_t before = allocations;
  for (int64_t i = 0; i < 20; ++i) {
    for (int64_t& position : step.positions) position = i;
    stack_decode(model.stack, rows, draw, model.scratch);
  }
  EXPECT_EQ(allocations - before, 0);
  ::operator delete(::operator new(1));  // the counter counts
  EXPECT_EQ(allocations - before, 1);
}

TEST(DecoderStack, SaysWhichRowsCannotBeSampled) {
  Model model(Sizes{});
  Step step(3);
  std::vector<int64_t> all(37);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  std::vector<RowEdits> edits(3);
  edits[1].forbidden = all.data();
  edits[1].forbidden_count = 37;
  const StackRows rows{3, step.tokens.data(), step.positions.data(), step.table.data(), kRowBlocks};
  const StackDraw draw{{1.0, 0, 1.0, 0.0}, 3,
                       step.keys.data(),   edits.data(),
                       step.drawn.data(),  step.logprobs.data(),
                       step.raw.data(),    step.valid.get()};
  stack_decode(model.stack, rows, draw, model.scratch);
  EXPECT_TRUE(step.valid[0] && step.valid[2]);
  EXPECT_FALSE(step.valid[1]);
}

}  // namespace
}  // namespace hone::kernels
