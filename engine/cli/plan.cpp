#include "engine/plan/plan.h"

#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/cli/command.h"

namespace hone::engine {
namespace {

struct PlanArguments {
  std::filesystem::path recipe, like;
  std::vector<std::string> overrides;
  int64_t gpus = 8, zero = -1;
  std::string gpu = "h100";
  bool json = false;
};

std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

/// What a run has measured of a planned step: seconds, and planned over measured.
nlohmann::json measured_json(const StepPlan& step, const MeasuredRun& run) {
  nlohmann::json object;
  const auto add = [&](const char* name, const std::string& key, double planned) {
    const auto found = run.seconds.find(key);
    if (found == run.seconds.end() || found->second <= 0) return;
    object[name] = {{"seconds", found->second}, {"planned_over_measured", planned / found->second}};
  };
  add("step", step.stage, step.seconds());
  if (step.stage == "train") {
    add("rollout", "rollout", step.rollout_seconds);
    add("scoring", "scoring", step.scoring_seconds);
    add("update", "update", step.compute_seconds + step.exposed_seconds);
  }
  return object;
}

nlohmann::json to_json(const StepPlan& step) {
  const auto& memory = step.memory;
  return {{"stage", step.stage},
          {"steps", step.steps},
          {"tokens_a_step", step.tokens},
          {"memory",
           {{"parameters", memory.parameters},
            {"gradients", memory.gradients},
            {"optimizer", memory.optimizer},
            {"frozen", memory.frozen},
            {"exchange", memory.exchange},
            {"activations", memory.activations},
            {"cache", memory.cache},
            {"total", memory.total()}}},
          {"bytes_sent_a_step", step.bytes_sent},
          {"seconds",
           {{"rollout", step.rollout_seconds},
            {"scoring", step.scoring_seconds},
            {"forward_backward", step.compute_seconds},
            {"communication", step.communication_seconds},
            {"exposed_communication", step.exposed_seconds},
            {"step", step.seconds()}}}};
}

void print(const ClusterPlan& plan, const Hardware& hardware, int64_t zero,
           const std::optional<MeasuredRun>& run) {
  std::cout << number("%.4g", static_cast<double>(plan.parameters)) << " parameters on "
            << plan.ranks << " x " << hardware.name << ", zero " << zero << "\n\n";
  for (const auto& step : plan.stages) {
    const auto& m = step.memory;
    const auto row = [](const std::string& name, const std::string& value) {
      std::cout << "  " << name << std::string(26 - name.size(), ' ') << value << "\n";
    };
    const auto gigabytes = [](double bytes) { return number("%.3g GB", bytes / 1e9); };
    const auto seconds = [](double value) { return number("%.3g s", value); };
    std::cout << step.stage << ": " << number("%.4g", step.tokens) << " tokens a step\n";
    row("memory of a rank",
        gigabytes(m.total()) +
            (m.total() > hardware.memory_bytes
                 ? ", MORE THAN THE " + gigabytes(hardware.memory_bytes) + " THERE ARE"
                 : " of " + gigabytes(hardware.memory_bytes)));
    row("  parameters, gradients", gigabytes(m.parameters) + ", " + gigabytes(m.gradients));
    row("  optimizer, frozen", gigabytes(m.optimizer) + ", " + gigabytes(m.frozen));
    row("  buckets, activations", gigabytes(m.exchange) + ", " + gigabytes(m.activations));
    if (m.cache > 0) row("  keys and values", gigabytes(m.cache));
    row("sent by a rank, a step", gigabytes(step.bytes_sent));
    if (step.rollout_seconds > 0) {
      row("rollout, scoring", seconds(step.rollout_seconds) + ", " + seconds(step.scoring_seconds));
    }
    row("forward and backward", seconds(step.compute_seconds));
    row("communication",
        seconds(step.communication_seconds) + ", of it exposed " + seconds(step.exposed_seconds));
    row("a step",
        seconds(step.seconds()) + ", " + number("%.4g tokens/s", step.tokens / step.seconds()));
    if (run) {
      const auto measured = measured_json(step, *run);
      for (const auto& [part, figures] : measured.items()) {
        row("  measured, " + part,
            seconds(figures["seconds"].get<double>()) + ": planned " +
                number("%.2f of it", figures["planned_over_measured"].get<double>()));
      }
    }
    std::cout << "\n";
  }
  const auto efficiency = efficiency_of(hardware);
  std::cout << "From peaks (" << hardware.source << ") times the shares that training runs reach: "
            << number("%.0f %% of matrix products, ", 100 * efficiency.training)
            << number("%.0f %% of memory bandwidth in decoding, ", 100 * efficiency.decoding)
            << number("%.0f %% of links.\n", 100 * efficiency.link);
}

void execute(const PlanArguments& arguments) {
  const auto recipe = read_recipe(arguments.recipe, arguments.overrides);
  const auto model =
      planned_model(recipe, std::filesystem::absolute(arguments.recipe).parent_path());
  const auto& hardware = find_hardware(arguments.gpu);
  const int64_t zero = arguments.zero < 0 ? recipe.ranks.zero : arguments.zero;
  auto lengths = assumed_lengths(recipe, model.max_positions);
  std::optional<MeasuredRun> run;
  if (!arguments.like.empty()) {
    run = measured_run(arguments.like, lengths);
    lengths = run->lengths;
  }
  const auto plan = plan_run(recipe, model, hardware, arguments.gpus, zero, lengths);
  if (!arguments.json) return print(plan, hardware, zero, run);
  nlohmann::json object = {{"parameters", plan.parameters},
                           {"ranks", plan.ranks},
                           {"gpu", hardware.name},
                           {"zero", zero},
                           {"lengths",
                            {{"prompt", lengths.prompt},
                             {"response", lengths.response},
                             {"reward_batch", lengths.reward_batch}}},
                           {"stages", nlohmann::json::array()}};
  for (const auto& step : plan.stages) {
    object["stages"].push_back(to_json(step));
    if (run) object["stages"].back()["measured"] = measured_json(step, *run);
  }
  std::cout << object.dump(1) << "\n";
}

}  // namespace

void add_plan_command(CLI::App& app) {
  auto arguments = std::make_shared<PlanArguments>();
  auto* command = app.add_subcommand("plan", "Memory and step time to expect on a cluster");
  command->add_option("recipe", arguments->recipe, "Recipe (TOML)")->required();
  command->add_option("--set", arguments->overrides, "Override one option (repeatable)")
      ->allow_extra_args(false);
  command->add_option("--gpus", arguments->gpus, "Ranks, one a GPU")->capture_default_str();
  std::string names;
  for (const auto& hardware : known_hardware()) {
    names += (names.empty() ? "" : ", ") + std::string(hardware.name);
  }
  command->add_option("--gpu", arguments->gpu, "One of " + names)->capture_default_str();
  command->add_option("--zero", arguments->zero, "Instead of the recipe's ranks.zero")
      ->check(CLI::Range(0, 3));
  command->add_option("--like", arguments->like,
                      "Run folder: texts as long as its were, and its seconds beside the plan's");
  command->add_flag("--json", arguments->json, "For programs");
  command->callback([arguments] { execute(*arguments); });
  command->footer(
      "Examples:\n"
      "  hone plan experiments/recipes/hh.toml --gpus 64 --gpu h100 --zero 2\n"
      "  hone plan experiments/recipes/quickstart.toml --gpus 1 --gpu cpu2 --like "
      "runs/quickstart");
}

}  // namespace hone::engine
