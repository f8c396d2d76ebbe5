#include "engine/cli/selection_options.h"

namespace hone::engine {

QuestionSelectionOptions SelectionArguments::resolve(const std::string& where, int64_t seed) const {
  QuestionSelectionOptions options;
  options.reward = reward;
  options.pairs.rule = reward::parse_acquisition_rule(rule, where);
  options.pairs.count = count;
  options.pairs.random_share = random_share;
  options.pairs.seed = static_cast<uint64_t>(seed);
  options.pool = pool;
  if (!reward.empty()) options.device = find_device(where, device);
  return options;
}

void add_selection_options(CLI::App& command, SelectionArguments& arguments,
                           const std::string& rule) {
  const auto group = "Which pairs";
  command
      .add_option("--reward", arguments.reward,
                  "Reward model's directory (with posterior.safetensors): asks the pairs that its "
                  "rule chooses, most needed first")
      ->group(group);
  command
      .add_option(rule, arguments.rule,
                  std::string("Rule: ") + reward::kAcquisitionRules +
                      "; the last three count each pick as answered for the next")
      ->capture_default_str()
      ->group(group);
  command.add_option("--count", arguments.count, "Pairs to ask, at most")
      ->check(CLI::Range(1, 10000000))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--random-share", arguments.random_share,
                  "Of these: drawn by chance from what the rule left, so that every pair may be "
                  "asked and answers say how good the model is on all of them; 0: none")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--pool", arguments.pool,
                  "Pairs to choose from, at most; of more, as many are drawn by chance")
      ->check(CLI::Range(1, 100000000))
      ->capture_default_str()
      ->group(group);
}

}  // namespace hone::engine
