#include <memory>

#include "data/error.h"
#include "engine/cli/command.h"
#include "engine/cli/router.h"
#include "engine/cli/weight_type.h"

namespace hone::engine {
namespace {

struct RouteArguments {
  RouteOptions options;
  std::string audits;
};

void run_route(const RouteArguments& arguments) {
  if (arguments.audits.empty()) return route_outputs(arguments.options);
  if (!arguments.options.input.empty()) {
    throw data::InputError("hone route", "--audits", "no --input beside it", "both");
  }
  check_audits(arguments.options, arguments.audits);
}

}  // namespace

void add_route_command(CLI::App& app) {
  auto arguments = std::make_shared<RouteArguments>();
  auto& options = arguments->options;
  auto* command = app.add_subcommand(
      "route", "What the reward model is sure of straight through, the rest to people");
  command->add_option("--run", options.run, "Folder of a run whose reward stage is done")
      ->required();
  command->add_option(
      "--input", options.input,
      R"(JSONL of {"prompt": ... or "messages": ..., "responses": ["...", "..."]}; )"
      "- is standard input. Without it the threshold is shown only");
  command->add_option("--straight", options.straight, "JSONL of the answers that go straight")
      ->capture_default_str();
  command->add_option("--people", options.people, "Questions for `hone collect --questions`")
      ->capture_default_str();
  command->add_option("--risk", options.goal.risk, "Share of what goes straight that may be wrong")
      ->capture_default_str();
  command->add_option("--failure", options.goal.failure, "Probability that it is more")
      ->capture_default_str();
  command
      ->add_option("--audit", options.audit,
                   "Share of what goes straight that people are asked about nevertheless")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--audits", arguments->audits,
                      "Store with people's answers to audits: is the promise kept?");
  command->add_option("--project", options.project, "Of the questions")->capture_default_str();
  command->add_option("--seed", options.seed, "Of the audits")->capture_default_str();
  command->add_option("--report", options.report, "Write threshold and curve as JSON to this file");
  add_device_option(*command, options.device);
  command->footer(
      "Wrong means: most people prefer another answer. The threshold is learned from pairs of the\n"
      "test split that people judged and no training saw, no two with a text in common; it holds "
      "for\n"
      "outputs like them. Where they do not show a risk below --risk, everything goes to "
      "people.\n\n"
      "Examples:\n"
      "  hone route --run runs/hh\n"
      "  hone route --run runs/hh --input outputs.jsonl --risk 0.2 --people questions.jsonl\n"
      "  hone collect --store feedback --questions questions.jsonl\n"
      "  hone route --run runs/hh --risk 0.2 --audits feedback\n"
      "The exit code is 1 when audits show that more than --risk is wrong.");
  command->callback([arguments] { run_route(*arguments); });
}

}  // namespace hone::engine
