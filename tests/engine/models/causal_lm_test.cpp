#include "engine/models/causal_lm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "data/error.h"
#include "kernels/ops.h"
#include "tests/engine/models/tiny_config.h"
#include "tests/support/expect_close.h"

namespace hone::engine {
namespace {

using test::pack;
using test::tiny_config;

const std::vector<std::vector<int64_t>> kSequences = {
    {1, 5, 9, 3, 22}, {1, 7}, {4}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, {1, 20, 13}};

std::unique_ptr<CausalLM> make_model(const ModelConfig& config, at::ScalarType dtype = at::kDouble,
                                     HeadKind head = HeadKind::kLanguageModel) {
  auto model = std::make_unique<CausalLM>(config, head, dtype);
  model->initialize(7);
  const at::NoGradGuard no_grad;
  // Norm weights of exactly 1 would hide a missing multiplication.
  for (const auto& slice : model->parameters().slices()) {
    if (slice.shape.size() != 1) continue;
    auto values = model->parameters().slice(slice.name);
    values.add_(at::linspace(-0.3, 0.3, slice.numel, values.options()));
  }
  return model;
}

/// One sequence through plain ATen ops, token by token positions, from the published formulas.
at::Tensor reference_hidden(const CausalLM& model, const std::vector<int64_t>& sequence) {
  const ModelConfig& c = model.config();
  const auto w = [&](const std::string& name) { return model.parameters().slice(name); };
  const auto norm = [&](const at::Tensor& x, const at::Tensor& weight) {
    return x / (x.pow(2).mean(1, true) + c.norm_eps).sqrt() * weight;
  };
  const auto n = static_cast<int64_t>(sequence.size());
  at::Tensor x = w("model.embed_tokens.weight").index_select(0, at::tensor(sequence, at::kLong));
  const auto rope = [&](at::Tensor heads) {  // [n, heads, dim], complex rotation by hand
    heads = heads.clone();
    for (int64_t t = 0; t < n; ++t) {
      for (int64_t i = 0; i < c.head_dim / 2; ++i) {
        const double angle =
            static_cast<double>(t) *
            std::pow(c.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(c.head_dim));
        const auto a = heads[t].select(1, i).clone();
        const auto b = heads[t].select(1, i + c.head_dim / 2).clone();
        heads[t].select(1, i).copy_(a * std::cos(angle) - b * std::sin(angle));
        heads[t].select(1, i + c.head_dim / 2).copy_(b * std::cos(angle) + a * std::sin(angle));
      }
    }
    return heads;
  };
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const std::string p = "model.layers." + std::to_string(layer) + ".";
    const auto h = norm(x, w(p + "input_layernorm.weight"));
    const auto project = [&](const char* name, int64_t heads) {
      return h.mm(w(p + "self_attn." + name + ".weight").t()).view({n, heads, c.head_dim});
    };
    const auto q = rope(project("q_proj", c.heads)), k = rope(project("k_proj", c.kv_heads));
    const auto v = project("v_proj", c.kv_heads);
    std::vector<at::Tensor> heads;
    for (int64_t head = 0; head < c.heads; ++head) {
      const int64_t kv = head / (c.heads / c.kv_heads);
      auto scores =
          q.select(1, head).mm(k.select(1, kv).t()) / std::sqrt(static_cast<double>(c.head_dim));
      const auto future = at::ones({n, n}, at::kBool).triu(1);
      scores = scores.masked_fill(future, -std::numeric_limits<double>::infinity());
      heads.push_back(scores.softmax(1).mm(v.select(1, kv)));
    }
    x = x + at::cat(heads, 1).mm(w(p + "self_attn.o_proj.weight").t());
    const auto m = norm(x, w(p + "post_attention_layernorm.weight"));
    const auto gate = m.mm(w(p + "mlp.gate_proj.weight").t());
    const auto up = m.mm(w(p + "mlp.up_proj.weight").t());
    x = x + (gate * gate.sigmoid() * up).mm(w(p + "mlp.down_proj.weight").t());
  }
  return norm(x, w("model.norm.weight"));
}

/// The same for gpt2: layer norms, learned positions, biases, tanh GELU, heads of odd size.
at::Tensor reference_gpt2(const CausalLM& model, const std::vector<int64_t>& sequence) {
  const ModelConfig& c = model.config();
  const auto w = [&](const std::string& name) { return model.parameters().slice(name); };
  const auto norm = [&](const at::Tensor& x, const std::string& name) {
    const auto centred = x - x.mean(1, true);
    return centred / (centred.pow(2).mean(1, true) + c.norm_eps).sqrt() * w(name + ".weight") +
           w(name + ".bias");
  };
  const auto linear = [&](const at::Tensor& x, const std::string& name) {
    return x.mm(w(name + ".weight").t()) + w(name + ".bias");
  };
  const auto n = static_cast<int64_t>(sequence.size());
  at::Tensor x = w("transformer.wte.weight").index_select(0, at::tensor(sequence, at::kLong)) +
                 w("transformer.wpe.weight").narrow(0, 0, n);
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const std::string p = "transformer.h." + std::to_string(layer) + ".";
    const auto qkv = linear(norm(x, p + "ln_1"), p + "attn.c_attn");
    std::vector<at::Tensor> heads;
    for (int64_t head = 0; head < c.heads; ++head) {
      const auto part = [&](int64_t i) {
        return qkv.narrow(1, i * c.hidden_size + head * c.head_dim, c.head_dim);
      };
      auto scores = part(0).mm(part(1).t());
      if (c.scale_attention) scores = scores / std::sqrt(static_cast<double>(c.head_dim));
      if (c.scale_by_inverse_layer) scores = scores / static_cast<double>(layer + 1);
      const auto future = at::ones({n, n}, at::kBool).triu(1);
      scores = scores.masked_fill(future, -std::numeric_limits<double>::infinity());
      heads.push_back(scores.softmax(1).mm(part(2)));
    }
    x = x + linear(at::cat(heads, 1), p + "attn.c_proj");
    const auto h = linear(norm(x, p + "ln_2"), p + "mlp.c_fc");
    const auto gelu = 0.5 * h * (1 + (std::sqrt(2 / M_PI) * (h + 0.044715 * h.pow(3))).tanh());
    x = x + linear(gelu, p + "mlp.c_proj");
  }
  return norm(x, "transformer.ln_f");
}

TEST(CausalLM, Gpt2EqualsFormulas) {
  for (const int variant : {0, 1, 2}) {
    ModelConfig config = tiny_config("gpt2");
    config.scale_attention = variant != 1;
    config.scale_by_inverse_layer = variant == 2;
    const auto model = make_model(config);
    const auto batch = pack(kSequences);
    std::vector<at::Tensor> want;
    for (const auto& sequence : kSequences) want.push_back(reference_gpt2(*model, sequence));
    test::expect_close(model->hidden(batch.tokens, batch.cu_seqlens), at::cat(want), 1e-12);
  }
}

TEST(CausalLM, LearnedPositionsEnd) {
  ModelConfig config = tiny_config("gpt2");
  config.max_positions = 5;
  const auto model = make_model(config);
  const auto whole = pack({{1, 2, 3, 4, 5}, {6, 7}});
  EXPECT_EQ(model->hidden(whole.tokens, whole.cu_seqlens).size(0), 7);
  const auto longer = pack({{6, 7}, {1, 2, 3, 4, 5, 6}});
  EXPECT_THROW(model->hidden(longer.tokens, longer.cu_seqlens), data::InputError);
}

TEST(CausalLM, PackedForwardEqualsFormulas) {
  for (const bool tied : {false, true}) {
    ModelConfig config = tiny_config();
    config.tie_embeddings = tied;
    const auto model = make_model(config);
    const auto batch = pack(kSequences);
    std::vector<at::Tensor> want;
    for (const auto& sequence : kSequences) want.push_back(reference_hidden(*model, sequence));
    test::expect_close(model->hidden(batch.tokens, batch.cu_seqlens), at::cat(want), 1e-12);
    EXPECT_EQ(model->lm_head().size(0), config.vocab_size);
    EXPECT_EQ(model->lm_head().data_ptr() ==
                  model->parameters().slice("model.embed_tokens.weight").data_ptr(),
              tied);
  }
}

/// Mean negative log-likelihood of next tokens; `order` rearranges sequences, `parts`
/// micro-batches.
double loss_and_gradient(CausalLM& model, const std::vector<size_t>& order, size_t parts,
                         bool gradient = true) {
  int64_t predictions = 0;
  for (const auto& sequence : kSequences) predictions += static_cast<int64_t>(sequence.size()) - 1;
  model.parameters().zero_grad();
  double total = 0.0;
  const size_t step = (order.size() + parts - 1) / parts;
  for (size_t begin = 0; begin < order.size(); begin += step) {
    std::vector<std::vector<int64_t>> inputs;
    std::vector<int64_t> targets;
    for (size_t i = begin; i < std::min(order.size(), begin + step); ++i) {
      const auto& sequence = kSequences[order[i]];
      if (sequence.size() < 2) continue;
      inputs.emplace_back(sequence.begin(), sequence.end() - 1);
      targets.insert(targets.end(), sequence.begin() + 1, sequence.end());
    }
    if (inputs.empty()) continue;
    const auto batch = pack(inputs);
    const auto options = at::TensorOptions(at::kFloat);
    const auto weights =
        at::full({batch.tokens.size(0)}, 1.0 / static_cast<double>(predictions), options);
    const auto result = kernels::head_nll(model.hidden(batch.tokens, batch.cu_seqlens),
                                          model.lm_head(), at::tensor(targets, at::kLong),
                                          weights.to(model.parameters().data().scalar_type()), 1.0);
    if (gradient) result.loss.backward();
    total += result.loss.item<double>();
  }
  return total;
}

TEST(CausalLM, LossAndGradientsDoNotDependOnPackingOrMicroBatches) {
  const auto model = make_model(tiny_config());
  model->parameters().enable_grad();
  const double loss = loss_and_gradient(*model, {0, 1, 2, 3, 4}, 1);
  const auto gradient = model->parameters().grad().clone();
  EXPECT_GT(gradient.abs().max().item<double>(), 1e-3);
  for (const size_t parts : {1, 2, 5}) {
    for (const std::vector<size_t>& order :
         {std::vector<size_t>{4, 3, 2, 1, 0}, std::vector<size_t>{2, 0, 3, 1, 4}}) {
      EXPECT_NEAR(loss_and_gradient(*model, order, parts), loss, 1e-12);
      test::expect_close(model->parameters().grad(), gradient, 1e-12);
    }
  }
}

class Families : public testing::TestWithParam<const char*> {
 protected:
  ModelConfig config() const {
    ModelConfig config = tiny_config(std::string(GetParam()));
    config.tie_embeddings = true;  // the embedding then has two sources of gradient
    // Whatever the family leaves to its config.
    if (config.family == "llama") config.attention_bias = config.mlp_bias = true;
    if (config.family == "qwen3") config.attention_bias = true;
    if (config.family == "mistral" || config.family == "qwen2") config.sliding_window = 4;
    if (config.family == "qwen2") config.windowed_layers = {false, true};
    return config;
  }
};

INSTANTIATE_TEST_SUITE_P(Rows, Families,
                         testing::Values("gpt2", "llama", "mistral", "qwen2", "qwen3"),
                         [](const auto& info) { return info.param; });

TEST_P(Families, GradientsEqualFiniteDifferences) {
  const auto model = make_model(config());
  model->parameters().enable_grad();
  loss_and_gradient(*model, {0, 1, 2, 3, 4}, 1);
  const auto gradient = model->parameters().grad().clone();
  const auto data = model->parameters().data();
  int64_t alive = 0;
  for (const ParameterSlice& slice : model->parameters().slices()) {
    for (const int64_t element : {slice.numel / 3, slice.numel - 2}) {
      const int64_t i = slice.offset + element;
      const double value = data[i].item<double>(), h = 1e-5;
      double side[2];
      for (const int sign : {0, 1}) {
        data[i].fill_(value + (sign == 0 ? h : -h));
        side[sign] = loss_and_gradient(*model, {0, 1, 2, 3, 4}, 1, /*gradient=*/false);
      }
      data[i].fill_(value);
      EXPECT_NEAR(gradient[i].item<double>(), (side[0] - side[1]) / (2 * h), 1e-8)
          << slice.name << "[" << element << "]";
      alive += gradient[i].item<double>() != 0.0;
    }
  }
  EXPECT_GT(alive, static_cast<int64_t>(model->parameters().slices().size()));
}

TEST_P(Families, SomeRowsOfHiddenStatesAreThoseOfAll) {
  const auto model = make_model(config());
  model->parameters().enable_grad();
  const auto batch = pack(kSequences);
  const int64_t tokens = batch.tokens.size(0);
  for (const at::Tensor& rows : {at::tensor({int64_t{4}, int64_t{7}, tokens - 1}, at::kLong),
                                 at::arange(1, tokens), at::arange(tokens)}) {
    model->parameters().zero_grad();
    const auto whole = model->hidden(batch.tokens, batch.cu_seqlens).index_select(0, rows);
    const auto upstream = at::randn(whole.sizes(), whole.options());
    whole.backward(upstream);
    const auto gradient = model->parameters().grad().clone();
    model->parameters().zero_grad();
    const auto some = model->hidden(batch.tokens, batch.cu_seqlens, rows);
    some.backward(upstream);
    test::expect_close(some.detach(), whole.detach(), 1e-13);
    test::expect_close(model->parameters().grad(), gradient, 1e-12);
  }
}

TEST(CausalLM, SameBitsTwiceOnTwoThreads) {
  at::set_num_threads(2);
  const auto model = make_model(tiny_config(), at::kFloat);
  model->parameters().enable_grad();
  loss_and_gradient(*model, {0, 1, 2, 3, 4}, 2);
  const auto gradient = model->parameters().grad().clone();
  loss_and_gradient(*model, {0, 1, 2, 3, 4}, 2);
  EXPECT_TRUE(at::equal(model->parameters().grad(), gradient));
}

TEST_P(Families, DecodeEqualsPackedForward) {
  const auto model = make_model(config());
  const auto batch = pack(kSequences);
  const auto want = model->hidden(batch.tokens, batch.cu_seqlens);
  // Blocks in scattered order; the longest sequence is prefilled up to `prefilled` tokens.
  for (const int64_t prefilled : {0, 7}) {
    KvCache cache = model->make_cache(12, 3);
    const auto& sequence = kSequences[3];
    const auto table = at::tensor({9, 2, 11, 0}, at::kInt).view({1, 4});
    const int64_t start = 5 + 2 + 1;
    if (prefilled > 0) {
      std::vector<int64_t> slots;
      for (int64_t p = 0; p < prefilled; ++p) {
        slots.push_back(table[0][p / 3].item<int64_t>() * 3 + p % 3);
      }
      const auto part = pack({{sequence.begin(), sequence.begin() + prefilled}});
      test::expect_close(
          model->prefill(part.tokens, part.cu_seqlens, cache, at::tensor(slots, at::kLong)),
          want.narrow(0, start, prefilled), 1e-12);
    }
    for (int64_t p = prefilled; p < static_cast<int64_t>(sequence.size()); ++p) {
      const auto hidden = model->decode(at::tensor({sequence[static_cast<size_t>(p)]}, at::kLong),
                                        at::tensor({p}, at::kLong), cache, table);
      test::expect_close(hidden[0], want[start + p], 1e-12, 0.0, "position " + std::to_string(p));
    }
  }
}

TEST_P(Families, CountsItsParameters) {
  const ModelConfig config = this->config();
  const auto model = make_model(config);
  int64_t held = 0;
  for (const auto& slice : model->parameters().slices()) held += slice.numel;
  EXPECT_EQ(held, config.parameter_count());
}

TEST(CausalLM, ASwitchOfARowChangesTheNumbers) {
  const auto batch = pack(kSequences);
  const auto hidden = [&](const ModelConfig& config) {
    return make_model(config)->hidden(batch.tokens, batch.cu_seqlens);
  };
  const auto llama = hidden(tiny_config());
  ModelConfig biased = tiny_config(), windowed = tiny_config("qwen2");
  biased.attention_bias = true;
  windowed.sliding_window = 3;
  windowed.windowed_layers = {false, true};
  std::vector<at::Tensor> different = {llama, hidden(tiny_config("qwen2")),
                                       hidden(tiny_config("qwen3")), hidden(biased),
                                       hidden(windowed)};
  windowed.windowed_layers = {};
  different.push_back(hidden(windowed));
  for (size_t i = 0; i < different.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      EXPECT_FALSE(at::allclose(different[i], different[j], 1e-3, 1e-3)) << i << ", " << j;
    }
  }
}

TEST(CausalLM, DropoutMasksDependOnSeedAndCallOnly) {
  const auto model = make_model(tiny_config());
  const auto batch = pack(kSequences);
  const auto forward = [&] { return model->hidden(batch.tokens, batch.cu_seqlens); };
  const auto plain = forward();
  model->set_dropout(0.3, 11);
  const auto first = forward(), second = forward();
  EXPECT_FALSE(at::allclose(first, plain));
  EXPECT_FALSE(at::allclose(first, second));
  model->set_dropout(0.3, 11);
  EXPECT_TRUE(at::equal(forward(), first));
  model->set_dropout(0.3, 12);
  EXPECT_FALSE(at::allclose(forward(), first));
  model->set_dropout(0.0, 0);
  EXPECT_TRUE(at::equal(forward(), plain));
}

TEST(CausalLM, InitialisationHasItsScalesAndDependsOnTheSeedOnly) {
  ModelConfig config = tiny_config();
  config.hidden_size = 64;
  config.intermediate_size = 160;
  config.initializer_range = 0.02;
  CausalLM model(config, HeadKind::kLanguageModel), scalar(config, HeadKind::kScalar);
  model.initialize(3);
  scalar.initialize(3);
  const auto std = [&](const std::string& name) {
    return model.parameters().slice(name).std().item<double>();
  };
  EXPECT_NEAR(std("model.layers.1.mlp.up_proj.weight"), 0.02, 0.001);
  EXPECT_NEAR(std("model.layers.1.mlp.down_proj.weight"), 0.02 / std::sqrt(4.0), 0.0005);
  EXPECT_NEAR(std("model.layers.0.self_attn.o_proj.weight"), 0.01, 0.0008);
  EXPECT_EQ(model.parameters().slice("model.norm.weight").min().item<double>(), 1.0);
  EXPECT_NEAR(scalar.scalar_head().std().item<double>(), 1.0 / std::sqrt(65.0), 0.03);
  const std::string name = "model.layers.0.self_attn.k_proj.weight";
  EXPECT_TRUE(at::equal(model.parameters().slice(name), scalar.parameters().slice(name)));
  CausalLM other(config, HeadKind::kLanguageModel);
  other.initialize(4);
  EXPECT_FALSE(at::allclose(other.parameters().slice(name), model.parameters().slice(name)));
}

TEST(CausalLM, CopiesOwnTheirWeights) {
  const auto model = make_model(tiny_config());
  const auto batch = pack(kSequences);
  const auto want = model->hidden(batch.tokens, batch.cu_seqlens);
  const auto same = model->copy(HeadKind::kLanguageModel);
  const auto scorer = model->copy(HeadKind::kScalar, 5);
  const auto again = scorer->copy(HeadKind::kScalar);
  {
    const at::NoGradGuard no_grad;
    model->parameters().data().zero_();
  }
  EXPECT_TRUE(at::equal(same->hidden(batch.tokens, batch.cu_seqlens), want));
  EXPECT_TRUE(at::equal(scorer->hidden(batch.tokens, batch.cu_seqlens), want));
  EXPECT_TRUE(at::equal(again->scalar_head(), scorer->scalar_head()));
  EXPECT_TRUE(at::equal(scorer->copy(HeadKind::kScalar, 9)->scalar_head(), scorer->scalar_head()));
  EXPECT_GT(scorer->scalar_head().abs().min().item<double>(), 0.0);
  EXPECT_THROW(scorer->copy(HeadKind::kLanguageModel), data::InputError);  // the head is gone
  EXPECT_THROW(scorer->lm_head(), data::InputError);
  EXPECT_THROW(same->scalar_head(), data::InputError);
}

TEST(Backbone, ScoresAreTheHeadAtTheLastTokenAndValuesEverywhere) {
  const auto model = make_model(tiny_config(), at::kDouble, HeadKind::kScalar);
  const auto batch = pack(kSequences);
  const auto values = reward::token_values(*model, batch.tokens, batch.cu_seqlens);
  const auto scores = reward::sequence_scores(*model, batch.tokens, batch.cu_seqlens);
  ASSERT_EQ(values.sizes(), at::IntArrayRef({22}));
  int64_t end = 0;
  for (size_t i = 0; i < kSequences.size(); ++i) {
    const auto hidden = reference_hidden(*model, kSequences[i]);
    const auto want = hidden.mul(model->scalar_head()).sum(1);
    const int64_t size = want.size(0);
    test::expect_close(values.narrow(0, end, size), want, 1e-12);
    end += size;
    EXPECT_NEAR(scores[static_cast<int64_t>(i)].item<double>(), want[size - 1].item<double>(),
                1e-12);
  }
}

}  // namespace
}  // namespace hone::engine
