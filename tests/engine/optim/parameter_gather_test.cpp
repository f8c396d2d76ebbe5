#include "engine/optim/parameter_gather.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/models/causal_lm.h"
#include "engine/optim/optimizer.h"
#include "tests/engine/distributed/rank_threads.h"

namespace hone::engine {
namespace {

std::unique_ptr<CausalLM> make_model(int64_t hidden, int64_t layers, const char* family = "llama") {
  ModelConfig config;
  config.family = family;
  config.vocab_size = 16;
  config.hidden_size = hidden;
  config.intermediate_size = 3 * hidden / 2;
  config.layers = layers;
  config.heads = config.kv_heads = 2;
  config.head_dim = hidden / 2;
  config.max_positions = 64;
  config.tie_embeddings = true;
  config.initializer_range = 0.2;
  if (std::string(family) == "gpt2") {
    config.activation = "gelu_new";
    config.attention_bias = config.mlp_bias = true;
  }
  auto model = std::make_unique<CausalLM>(config, HeadKind::kLanguageModel);
  model->initialize(3);
  return model;
}

at::Tensor loss_of(CausalLM& model, int64_t key) {
  auto generator = at::detail::createCPUGenerator(static_cast<uint64_t>(key));
  const auto tokens = at::randint(16, {12}, generator, at::TensorOptions().dtype(at::kLong));
  const auto hidden = model.hidden(tokens, at::tensor({0, 5, 12}, at::kLong));
  return at::mm(hidden, model.lm_head().t()).logsumexp(1).sum();
}

/// Passes of a shard in a step: ranks have different numbers of them, some none.
int64_t passes_of(int64_t step, int64_t shard) { return (2 * shard + step) % 3; }

at::Tensor train(Communicator& communicator, int64_t zero, int64_t bucket_bytes, const char* family,
                 const char* kind = "adamw") {
  const auto model = make_model(32, 3, family);
  Optimizer optimizer(model->parameters(), {.kind = kind, .lr = 0.05, .clip_norm = 1.0}, 4,
                      {&communicator, 4, zero, bucket_bytes});
  const auto span = shard_span(communicator, 4);
  for (int64_t step = 0; step < 4; ++step) {
    for (int64_t shard = span.begin; shard < span.end; ++shard) {
      for (int64_t pass = 0; pass < passes_of(step, shard); ++pass) {
        {  // a look without gradient, of some only
          const at::NoGradGuard no_grad;
          if (shard % 2) loss_of(*model, 1000);
        }
        const auto loss = loss_of(*model, 100 * step + 10 * shard + pass);
        const bool last = shard + 1 == span.end && pass + 1 == passes_of(step, shard);
        if (last) optimizer.expect_last_backward();
        loss.backward();
      }
      optimizer.end_shard();
    }
    optimizer.step();
  }
  optimizer.hold_whole();
  return model->parameters().data().clone();
}

TEST(ParameterGather, EveryStageGivesTheSameBitsWhateverPassesRanksHave) {
  for (const char* family : {"llama", "gpt2"}) {
    // A block in pieces; a block a bucket; all blocks in one.
    for (const int64_t bucket : {4000, 60000, 1 << 20}) {
      const bool all = std::string(family) == "llama";
      if (!all && bucket > 4000) continue;
      const auto alone = train(world_of_one(), 0, bucket, family);
      for (const int64_t world : {2, 4}) {
        if (world == 4 && bucket > 4000) continue;
        const auto ends = run_ranks(world, [&](RankGroup& group) {
          for (const int64_t zero : {1, 2, 3}) {
            if (world == 4 && zero < 3) continue;
            EXPECT_TRUE(train(group.communicator(), zero, bucket, family).equal(alone))
                << family << ", " << world << " ranks, zero " << zero << ", bucket " << bucket;
          }
        });
        for (const auto& end : ends) EXPECT_EQ(end.message, "");
      }
    }
  }
}

TEST(ParameterGather, MuonInPartsGivesTheSameBits) {
  for (const int64_t bucket : {4000, 1 << 20}) {  // a block in pieces; all blocks in one
    const auto alone = train(world_of_one(), 0, bucket, "llama", "muon");
    const auto ends = run_ranks(2, [&](RankGroup& group) {
      EXPECT_TRUE(train(group.communicator(), 3, bucket, "llama", "muon").equal(alone)) << bucket;
    });
    for (const auto& end : ends) EXPECT_EQ(end.message, "");
  }
}

/// Bytes of the arena's blocks that are in memory.
size_t resident(const ParameterArena& arena) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(arena.data().const_data_ptr());
  const uintptr_t first = (begin + page - 1) / page * page;
  std::vector<unsigned char> pages((begin + arena.data().nbytes() - first) / page);
  mincore(reinterpret_cast<void*>(first), pages.size() * page, pages.data());
  size_t count = 0;
  for (const auto here : pages) count += here & 1;
  return count * page;
}

TEST(ParameterGather, HoldsItsPartAndOneBlockInTurn) {
  const auto ends = run_ranks(2, [](RankGroup& group) {
    const auto model = make_model(256, 6);
    const auto& arena = model->parameters();
    const auto whole = static_cast<double>(arena.data().nbytes());
    const auto want = arena.data().clone();
    const double alone = loss_of(*model, 1).item<double>();
    EXPECT_GT(static_cast<double>(resident(arena)), 0.99 * whole);
    {
      ParameterGather gather(model->parameters(), {&group.communicator(), 2, 3, 1 << 20}, true);
      EXPECT_NEAR(static_cast<double>(resident(arena)) / whole, 0.5, 0.05);
      EXPECT_EQ(loss_of(*model, 1).item<double>(), alone);
      EXPECT_NEAR(static_cast<double>(resident(arena)) / whole, 0.5, 0.05);
      gather.begin(ParameterKeeper::Pass::kForward);
      for (int64_t block = 0; block < 6; ++block) {
        gather.enter(block);  // half of one of six blocks more
        EXPECT_NEAR(static_cast<double>(resident(arena)) / whole, 0.5 + 0.5 / 6, 0.05);
      }
      gather.end();
      EXPECT_THROW(model->copy(HeadKind::kScalar), std::exception);
      // One rank alone reads only what is held whole.
      gather.hold_whole();
      if (group.communicator().leads()) {
        EXPECT_EQ(loss_of(*model, 1).item<double>(), alone);
      }
      EXPECT_TRUE(arena.data().equal(want));
      gather.hold_parts();
      EXPECT_NEAR(static_cast<double>(resident(arena)) / whole, 0.5, 0.05);
      gather.hold_whole();
    }
    EXPECT_TRUE(arena.data().equal(want));
  });
  for (const auto& end : ends) EXPECT_EQ(end.message, "");
}

}  // namespace
}  // namespace hone::engine
