// A stop asked for in the midst of training ends it at the next safe point. One test: the process
// stays asked to stop.

#include <gtest/gtest.h>

#include <csignal>

#include "engine/runtime/signals.h"
#include "engine/trainers/lm_trainer.h"
#include "engine/trainers/ppo_trainer.h"
#include "tests/engine/trainers/tiny_model.h"

namespace hone::engine {
namespace {

TEST(Interruption, TrainersStopAtASafePoint) {
  install_signal_handlers();
  Metrics quiet({}, true);
  const auto actor = test::tiny_model(HeadKind::kLanguageModel, at::kFloat, 1);
  const auto reference = actor->copy(HeadKind::kLanguageModel);
  const auto critic = test::tiny_model(HeadKind::kScalar, at::kFloat, 2);
  const auto before = actor->parameters().data().clone();
  PpoProblem problem;
  problem.actor = actor.get();
  problem.reference = reference.get();
  problem.critic = critic.get();
  problem.prompts = {{1, 2}, {3}, {4, 5}};
  problem.score = [](const std::vector<TokenIds>& texts) {
    std::raise(SIGTERM);  // arrives before the first optimizer step
    return std::vector<float>(texts.size(), 1.0f);
  };
  PpoOptions options;
  options.iterations = 3;
  options.prompts_per_iteration = 3;
  options.max_new_tokens = 4;
  try {
    train_ppo(problem, options, quiet);
    FAIL() << "not interrupted";
  } catch (const Interrupted& stop) {
    EXPECT_EQ(stop.signal, SIGTERM);
  }
  EXPECT_TRUE(actor->parameters().data().equal(before));
  EXPECT_THROW(train_lm(*actor, {{{1, 2, 3, 4}, 0}}, {}, 0, "sft", quiet), Interrupted);
  EXPECT_TRUE(actor->parameters().data().equal(before));
}

}  // namespace
}  // namespace hone::engine
