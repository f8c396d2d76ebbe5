// The verbs of this room, which the `hone` binary links in.

#include <iostream>
#include <memory>

#include "data/atomic_file.h"
#include "data/error.h"
#include "engine/cli/command.h"
#include "experiments/experiment.h"

namespace hone::engine {

void add_bench_command(CLI::App& app);  // bench_command.cpp

namespace {

struct NamedExperiment {
  const char* name;
  experiments::ExperimentResult (*run)(const experiments::ExperimentOptions&);
};
constexpr NamedExperiment kExperiments[] = {
    {"exact-optimum", experiments::exact_optimum},
    {"kl-placement", experiments::kl_placement},
    {"active-selection", experiments::active_selection},
    {"selection-replay", experiments::selection_replay},
    {"routing", experiments::routing},
    {"noisy-raters", experiments::noisy_raters},
    {"frontier", experiments::frontier},
};

std::string all_names() {
  std::string names;
  for (const auto& experiment : kExperiments) {
    names += (names.empty() ? "" : ", ") + std::string(experiment.name);
  }
  return names;
}

const NamedExperiment& find_experiment(const std::string& name) {
  for (const auto& experiment : kExperiments) {
    if (name == experiment.name) return experiment;
  }
  throw data::InputError("hone experiment", "name", "one of " + all_names(), "'" + name + "'");
}

}  // namespace

void add_experiment_commands(CLI::App& app) {
  add_bench_command(app);
  struct Arguments {
    std::string name, output;
    experiments::ExperimentOptions options;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command = app.add_subcommand("experiment", "Checks against exact answers: a table, JSON");
  command->add_option("name", arguments->name, "One of " + all_names())->required();
  command->add_option("--run", arguments->options.run,
                      "selection-replay: the run whose judgements are shown again");
  command->add_option("--output", arguments->output, "Write the figures as JSON to this file");
  command->add_option("--seed", arguments->options.seed, "Of the task and of the samples")
      ->capture_default_str();
  command
      ->add_option("--scale", arguments->options.scale,
                   "Share of the full number of updates, or of seeds")
      ->check(CLI::Range(0.01, 100.0))
      ->capture_default_str();
  command->footer(
      "Examples:\n"
      "  hone experiment exact-optimum\n"
      "  hone experiment kl-placement --output kl.json\n"
      "  hone experiment active-selection\n"
      "  hone experiment selection-replay --run runs/quickstart\n"
      "  hone experiment noisy-raters\n"
      "  hone experiment frontier --seed 1\n"
      "The exit code is 1 when a pass line fails.");
  command->callback([arguments] {
    const auto result = find_experiment(arguments->name).run(arguments->options);
    std::cout << result.table();
    if (!arguments->output.empty()) {
      data::write_file_atomically(arguments->output, result.json().dump(1) + "\n");
    }
    if (!result.passed()) throw data::Error(result.name + ": a pass line failed");
  });
}

}  // namespace hone::engine
