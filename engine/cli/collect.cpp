#include <memory>

#include "data/error.h"
#include "engine/cli/command.h"
#include "engine/collect/terminal_session.h"

namespace hone::engine {

void add_collect_command(CLI::App& app) {
  struct Arguments {
    TerminalSessionOptions session;
    bool terminal = false;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command =
      app.add_subcommand("collect", "Compare pairs yourself; the reward model learns from it");
  command->add_flag("--terminal", arguments->terminal, "Ask here, with keys");
  command->add_option("--run", arguments->session.run, "A finished run's folder")->required();
  command->add_option("--pairs", arguments->session.pairs, "How many pairs")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  command->add_option("--rater", arguments->session.rater, "Pseudonym stored with the answers")
      ->capture_default_str();
  command->add_option("--seed", arguments->session.seed,
                      "Of the questions; by default each session goes on where the last ended");
  command->footer(
      "Example:\n"
      "  hone collect --terminal --run runs/quickstart --pairs 10\n"
      "Each pair is one answer of the policy before training and one after, in blind order. An\n"
      "answer is on disk before the next question is shown.");
  command->callback([arguments] {
    if (!arguments->terminal) {
      throw data::InputError("hone collect", "--terminal", "given (there is no page yet)", "none");
    }
    if (arguments->session.rater.empty()) {
      throw data::InputError("hone collect", "--rater", "a pseudonym", "nothing");
    }
    run_terminal_session(arguments->session);
  });
}

}  // namespace hone::engine
