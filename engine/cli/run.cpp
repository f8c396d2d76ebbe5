#include "engine/run/run.h"

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "data/atomic_file.h"
#include "data/error.h"
#include "engine/cli/command.h"
#include "engine/config/toml_printer.h"
#include "engine/distributed/rank_environment.h"
#include "engine/report/findings.h"
#include "engine/report/run_files.h"
#include "engine/run/stages.h"

namespace hone::engine {
namespace {

struct RunArguments {
  RunOptions options;
  bool print_recipe = false;
};

/// runs/<name of the recipe's file>, when --out is not given.
std::filesystem::path default_out(const std::filesystem::path& recipe) {
  return std::filesystem::path("runs") / recipe.stem();
}

/// What the report says first, in a line: the verdict, and what speaks against it.
void print_verdict(const std::filesystem::path& out) {
  const auto verdict = report::judge_run(report::read_run_files(out));
  std::cout << verdict.badge;
  for (size_t i = 0; i < verdict.findings.size(); ++i) {
    std::cout << (i == 0 ? ". Findings: " : "; ") << verdict.findings[i].title;
  }
  std::cout << ".\n";
}

/// The few figures a person wants first, from whatever the run has.
void print_result(const std::filesystem::path& out) {
  const auto summary = nlohmann::json::parse(data::read_file(out / "summary.json"));
  const auto number = [&](const char* key, const char* format) {
    const auto found = summary.find(key);
    if (found == summary.end() || !found->is_number()) return std::string("unknown");
    char text[64];
    std::snprintf(text, sizeof(text), format, found->get<double>());
    return std::string(text);
  };
  std::cout << "\n";
  print_verdict(out);
  if (summary.contains("judge.after")) {
    std::cout << summary.value("judge.name", "judge") << ": " << number("judge.before", "%.3f")
              << " -> " << number("judge.after", "%.3f") << "  (standard errors "
              << number("judge.stderr_before", "%.3f") << ", "
              << number("judge.stderr_after", "%.3f") << ")\n";
  }
  if (summary.contains("proxy.after")) {
    std::cout << "reward model's own score: " << number("proxy.before", "%.2f") << " -> "
              << number("proxy.after", "%.2f") << ", KL " << number("policy.kl", "%.2f")
              << " nats a text, distinct bigrams " << number("diversity.before", "%.2f") << " -> "
              << number("diversity.after", "%.2f") << "\n";
  }
  if (summary.contains("direct.pair_accuracy")) {
    std::cout << "implicit reward: " << number("direct.pair_accuracy", "%.3f")
              << " of unseen judgements right, KL " << number("policy.kl", "%.2f")
              << " nats a text, distinct bigrams " << number("diversity.before", "%.2f") << " -> "
              << number("diversity.after", "%.2f") << "\n";
  }
  if (summary.contains("reward.pair_accuracy")) {
    std::string others;
    for (const auto& [key, name] : {std::pair{"reward.human_ceiling", "people "},
                                    std::pair{"reward.bow_accuracy", "bag of words "}}) {
      if (summary.contains(key))
        others += (others.empty() ? "" : ", ") + (name + number(key, "%.3f"));
    }
    std::cout << "reward model: " << number("reward.pair_accuracy", "%.3f")
              << " of unseen judgements right" << (others.empty() ? "" : " (" + others + ")")
              << "\n";
  }
  std::cout << "took " << number("seconds.total", "%.0f") << " s; figures in "
            << (out / "summary.json").string() << "\n";
  if (std::filesystem::exists(out / "report.html")) {
    std::cout << "report: "
              << std::filesystem::absolute(out / "report.html").lexically_normal().string() << "\n";
  }
}

void execute(const RunArguments& arguments) {
  RunOptions options = arguments.options;
  if (arguments.print_recipe) {
    const Recipe recipe =
        options.recipe.empty() ? Recipe{} : read_recipe(options.recipe, options.overrides);
    std::cout << to_toml(recipe, true);
    return;
  }
  if (options.recipe.empty() && !(options.resume && !options.out.empty())) {
    throw data::InputError("hone run", "RECIPE", "a recipe file (or --resume with --out DIR)",
                           "none");
  }
  if (options.out.empty()) options.out = default_out(options.recipe);
  run_recipe(options);
  if (options.only.empty() && !options.quiet && rank_environment().rank == 0)
    print_result(options.out);
}

void add_verb(CLI::App& app, const std::string& verb, const std::string& what,
              const std::string& stage) {
  auto arguments = std::make_shared<RunArguments>();
  arguments->options.only = stage;
  auto* command = app.add_subcommand(verb, what);
  command->add_option("recipe", arguments->options.recipe, "Recipe (TOML)");
  command
      ->add_option("--set", arguments->options.overrides,
                   "Override one option, e.g. --set train.ppo.kl_coef=0.1 (repeatable)")
      ->allow_extra_args(false);
  command->add_option("--out", arguments->options.out, "Run folder (default runs/<recipe's name>)");
  command->add_flag("--force", arguments->options.force,
                    "Run again what is already done, from its beginning");
  command->add_flag("--quiet", arguments->options.quiet, "Nothing on the terminal but errors");
  command->add_flag("--resume", arguments->options.resume,
                    "Continue the run in --out: RECIPE, when given, must be its own");
  command->add_flag("--print-recipe", arguments->print_recipe,
                    "Print the resolved recipe with a sentence an option, and stop");
  command->callback([arguments] { execute(*arguments); });
  command->footer("Several ranks: torchrun --no-python --nproc-per-node 2 hone " + verb +
                  " RECIPE (or srun, mpirun); options under [ranks].\nExamples:\n  hone " + verb +
                  " experiments/recipes/quickstart.toml --out runs/quickstart\n  hone " + verb +
                  " experiments/recipes/quickstart.toml --set seed=1 --set train.ppo.kl_coef=0\n"
                  "  hone " +
                  verb +
                  " --resume --out runs/quickstart\n"
                  "A stage that is done with the same inputs is skipped, and one that was stopped "
                  "goes on from its\nnewest whole checkpoint ([checkpoint] in the recipe) to the "
                  "same results. Ctrl-C saves first.");
}

}  // namespace

void add_run_command(CLI::App& app) {
  add_verb(app, "run", "Run every stage of a recipe, each skipped if already done", "");
  for (const auto& stage : all_stages()) {
    if (std::string(stage.name) == "import" || std::string(stage.name) == "report") continue;
    add_verb(app, stage.name, std::string("One stage of a recipe: ") + stage.what, stage.name);
  }
}

}  // namespace hone::engine
