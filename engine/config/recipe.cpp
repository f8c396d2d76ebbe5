#include "engine/config/recipe.h"

#include <cstdlib>
#include <initializer_list>
#include <sstream>

#include "data/atomic_file.h"
#include "engine/config/toml_reader.h"
#include "engine/trainers/ppo_validation.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;

/// Sets a.b.c in `table` to `value`, making tables on the way.
void set_override(toml::table& table, const std::string& assignment) {
  const auto equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw data::InputError("--set", "argument", "option=value", "'" + assignment + "'");
  }
  const std::string path = assignment.substr(0, equals), value = assignment.substr(equals + 1);
  toml::table parsed;
  try {
    parsed = toml::parse("value = " + value + "\n", std::string("--set"));
  } catch (const toml::parse_error&) {
    std::ostringstream quoted;  // a bare word or path
    quoted << toml::value<std::string>(value);
    parsed = toml::parse("value = " + quoted.str() + "\n", std::string("--set"));
  }
  toml::table* at = &table;
  std::istringstream parts(path);
  std::string part, next;
  std::getline(parts, part, '.');
  while (std::getline(parts, next, '.')) {
    if (!at->contains(part)) {  // parsed, so that an error names its place
      at->insert_or_assign(part, std::move(*toml::parse("t = {}", std::string("--set")).get("t")));
    }
    at = at->get(part)->as_table();
    if (!at) throw data::InputError("--set", path, "tables before the last name", "'" + part + "'");
    part = next;
  }
  at->insert_or_assign(part, std::move(*parsed.get("value")));
}

class Checker {
 public:
  explicit Checker(std::string where) : where_(std::move(where)) {}
  void at_least(const char* name, double value, double least) const {
    if (!(value >= least)) {
      std::ostringstream expected, got;
      expected << "at least " << least;
      got << value;
      throw data::InputError(where_, name, expected.str(), got.str());
    }
  }
  void within(const char* name, double value, double low, double high) const {
    if (!(value >= low && value <= high)) {
      std::ostringstream expected, got;
      expected << low << " to " << high;
      got << value;
      throw data::InputError(where_, name, expected.str(), got.str());
    }
  }
  void one_of(const char* name, const std::string& value,
              std::initializer_list<const char*> choices) const {
    std::string expected;
    for (const char* choice : choices) {
      if (value == choice) return;
      expected += (expected.empty() ? "" : " | ") + std::string(choice);
    }
    throw data::InputError(where_, name, expected, "'" + value + "'");
  }
  void optimizer(const std::string& prefix, const OptimizerOptions& o) const {
    one_of((prefix + ".kind").c_str(), o.kind, {"adamw", "muon"});
    one_of((prefix + ".schedule").c_str(), o.schedule, {"cosine", "linear", "constant"});
    within((prefix + ".lr").c_str(), o.lr, 0, 10);
    within((prefix + ".beta1").c_str(), o.beta1, 0, 0.9999999);
    within((prefix + ".beta2").c_str(), o.beta2, 0, 0.9999999);
    at_least((prefix + ".eps").c_str(), o.eps, 0);
    at_least((prefix + ".weight_decay").c_str(), o.weight_decay, 0);
    at_least((prefix + ".clip_norm").c_str(), o.clip_norm, 0);
    at_least((prefix + ".warmup_steps").c_str(), static_cast<double>(o.warmup_steps), 0);
    within((prefix + ".final_lr_fraction").c_str(), o.final_lr_fraction, 0, 1);
  }
  void lm(const std::string& prefix, const LmTrainingOptions& o) const {
    at_least((prefix + ".steps").c_str(), static_cast<double>(o.steps), 0);
    if (o.steps == 0) at_least((prefix + ".epochs").c_str(), o.epochs, 1e-6);
    at_least((prefix + ".batch_tokens").c_str(), static_cast<double>(o.batch_tokens), 1);
    at_least((prefix + ".micro_tokens").c_str(), static_cast<double>(o.micro_tokens), 0);
    within((prefix + ".dropout").c_str(), o.dropout, 0, 0.99);
    optimizer(prefix + ".optimizer", o.optimizer);
  }

 private:
  std::string where_;
};

void check_model(const Checker& check, const ModelOptions& model, const std::string& where) {
  check.within("model.hidden_size", static_cast<double>(model.hidden_size), 2, 65536);
  check.within("model.layers", static_cast<double>(model.layers), 1, 1024);
  check.within("model.heads", static_cast<double>(model.heads), 1, 1024);
  check.within("model.kv_heads", static_cast<double>(model.kv_heads), 1, 1024);
  check.within("model.intermediate_size", static_cast<double>(model.intermediate_size), 1, 1 << 20);
  check.within("model.max_positions", static_cast<double>(model.max_positions), 2, 1 << 20);
  check.at_least("model.rope_theta", model.rope_theta, 1);
  if (model.hidden_size % (2 * model.heads) != 0) {
    throw data::InputError(where, "model.hidden_size",
                           "a multiple of twice model.heads (" + std::to_string(model.heads) + ")",
                           std::to_string(model.hidden_size));
  }
  if (model.heads % model.kv_heads != 0) {
    throw data::InputError(where, "model.kv_heads",
                           "a divisor of model.heads (" + std::to_string(model.heads) + ")",
                           std::to_string(model.kv_heads));
  }
}

void check_ppo(const Checker& check, const PpoOptions& ppo, const std::string& where) {
  check_online_options(ppo, where, "train.ppo.");
  check.at_least("train.ppo.iterations", static_cast<double>(ppo.iterations), 1);
  check.within("train.ppo.minibatches", static_cast<double>(ppo.minibatches), 1,
               static_cast<double>(ppo.prompts_per_iteration * ppo.samples_per_prompt));
  check.optimizer("train.ppo.actor", ppo.actor);
  check.optimizer("train.ppo.critic", ppo.critic);
}

fs::path find_upwards(const fs::path& from, const fs::path& what) {
  for (fs::path at = fs::absolute(from);; at = at.parent_path()) {
    if (fs::exists(at / what)) return at / what;
    if (at == at.parent_path()) return {};
  }
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

}  // namespace

void validate_recipe(const Recipe& recipe, const std::string& where) {
  const Checker check(where);
  check.at_least("seed", static_cast<double>(recipe.seed), 0);
  check.within("threads", static_cast<double>(recipe.threads), 0, 4096);
  if (recipe.stages.empty()) throw data::InputError(where, "stages", "at least one", "none");
  for (const auto& stage : recipe.stages) {
    check.one_of("stages", stage,
                 {"import", "pretrain", "sft", "reward", "train", "evaluate", "report"});
  }
  for (size_t i = 0; i < recipe.data.imports.size(); ++i) {
    if (!recipe.data.imports[i].input.empty()) continue;
    throw data::InputError(where, "data.imports[" + std::to_string(i) + "].input", "a file",
                           "none");
  }
  check.at_least("data.max_tokens", static_cast<double>(recipe.data.max_tokens), 2);
  check.at_least("data.prompt_words", static_cast<double>(recipe.data.prompt_words), 0);
  check.within("tokenizer.vocab_size", static_cast<double>(recipe.tokenizer.vocab_size), 259,
               1 << 20);
  if (recipe.model.path.empty()) {
    check_model(check, recipe.model, where);
    if (recipe.data.max_tokens > recipe.model.max_positions) {
      throw data::InputError(
          where, "data.max_tokens",
          "at most model.max_positions (" + std::to_string(recipe.model.max_positions) + ")",
          std::to_string(recipe.data.max_tokens));
    }
  }
  check.lm("pretrain", recipe.pretrain);
  check.lm("sft", recipe.sft);
  check.one_of("reward.init", recipe.reward.init, {"sft", "pretrain", "random"});
  check.one_of("reward.raters", recipe.reward.raters, {"all", "even", "odd"});
  check.one_of("reward.judgements", recipe.reward.judgements,
               {"auto", "ratings", "comparisons", "all"});
  const auto& reward = recipe.reward.training;
  check.at_least("reward.training.epochs", reward.epochs, 1e-6);
  check.one_of("reward.training.loss", reward.loss, {"bradley_terry", "davidson", "rao_kupper"});
  if (reward.loss == "rao_kupper") check.at_least("reward.training.tie", reward.tie, 1);
  check.within("reward.training.lapse", reward.lapse, 0, 0.5);
  check.one_of("reward.training.raters", reward.raters, {"equal", "one_coin", "side"});
  if (reward.raters != "equal") {  // each rater's own reliability takes the place of a lapse
    check.one_of("reward.training.loss (raters = equal alone has others)", reward.loss,
                 {"bradley_terry"});
    check.within("reward.training.lapse (raters = equal alone has one)", reward.lapse, 0, 0);
  }
  check.within("reward.training.dropout", reward.dropout, 0, 0.99);
  check.at_least("reward.training.groups_per_batch", static_cast<double>(reward.groups_per_batch),
                 1);
  check.at_least("reward.training.items_per_batch", static_cast<double>(reward.items_per_batch), 2);
  check.optimizer("reward.training.optimizer", reward.optimizer);
  check.one_of("train.normalization", recipe.train.normalization,
               {"policy", "demonstrations", "none"});
  check.at_least("train.normalization_samples",
                 static_cast<double>(recipe.train.normalization_samples), 2);
  check.at_least("train.evaluate_every", static_cast<double>(recipe.train.evaluate_every), 0);
  check.one_of("train.method", recipe.train.method, {"online", "direct"});
  check_ppo(check, recipe.train.ppo, where);
  check_direct_options(recipe.train.direct, where, "train.direct.");
  check.optimizer("train.direct.optimizer", recipe.train.direct.optimizer);
  const auto& checkpoint = recipe.checkpoint;
  check.at_least("checkpoint.every_steps", static_cast<double>(checkpoint.every_steps), 0);
  check.at_least("checkpoint.every_seconds", checkpoint.every_seconds, 0);
  check.at_least("checkpoint.keep_last", static_cast<double>(checkpoint.keep_last), 1);
  check.at_least("checkpoint.keep_every", static_cast<double>(checkpoint.keep_every), 0);
  check.at_least("ranks.shards", static_cast<double>(recipe.ranks.shards), 0);
  check.within("ranks.zero", static_cast<double>(recipe.ranks.zero), 0, 3);
  check.one_of("ranks.frozen", recipe.ranks.frozen, {"auto", "whole", "parts"});
  check.at_least("ranks.bucket_megabytes", recipe.ranks.bucket_megabytes, 1e-3);
  check.at_least("ranks.silence_seconds", recipe.ranks.silence_seconds, 1);
  check.at_least("ranks.collective_seconds", recipe.ranks.collective_seconds, 1);
  check.at_least("evaluate.prompts", static_cast<double>(recipe.evaluate.prompts), 1);
}

Recipe read_recipe(const fs::path& path, const std::vector<std::string>& overrides) {
  const std::string where = path.string();
  toml::table table;
  try {
    table = toml::parse(data::read_file(path), where);
  } catch (const toml::parse_error& error) {
    throw data::InputError(where + ":" + std::to_string(error.source().begin.line),
                           std::string("not valid TOML"), "TOML 1.0",
                           std::string(error.description()));
  }
  for (const auto& assignment : overrides) set_override(table, assignment);
  Recipe recipe;
  TomlReader reader(table, where);
  recipe.visit(reader);
  reader.finish();
  validate_recipe(recipe, where);
  return recipe;
}

std::string expand_placeholders(const std::string& text, const fs::path& recipe_dir,
                                const fs::path& out) {
  std::string result = text;
  const auto from_environment = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  if (result.find("{python}") != std::string::npos) {
    std::string python = from_environment("HONE_PYTHON");
    if (python.empty()) python = find_upwards(recipe_dir, ".venv/bin/python").string();
    replace_all(result, "{python}", python.empty() ? "python3" : python);
  }
  if (result.find("{cache}") != std::string::npos) {
    std::string cache = from_environment("HONE_CACHE");
    if (cache.empty()) {
      const fs::path root = find_upwards(recipe_dir, "requirements.txt");
      cache = (root.empty() ? fs::path(".cache") : root.parent_path() / ".cache").string();
    }
    replace_all(result, "{cache}", cache);
  }
  replace_all(result, "{recipe}", recipe_dir.empty() ? "." : recipe_dir.string());
  replace_all(result, "{out}", out.string());
  return result;
}

}  // namespace hone::engine
