#include <memory>
#include <string>

#include "data/error.h"
#include "engine/cli/command.h"
#include "engine/cli/line_output.h"
#include "engine/cli/selection_options.h"
#include "engine/cli/weight_type.h"
#include "engine/collect/policy_questions.h"

namespace hone::engine {
namespace {

struct SelectArguments {
  SelectionArguments selection;
  PolicyQuestionOptions policy;
  std::string input, output = "-";
};

void run_select(const SelectArguments& arguments) {
  const auto fail = [](const char* option, const char* expected, const char* got) {
    throw data::InputError("hone select", option, expected, got);
  };
  const auto& policy = arguments.policy;
  if (arguments.selection.reward.empty()) fail("--reward", "a reward model's directory", "nothing");
  if (policy.policy.empty() != policy.prompts.empty()) {
    fail("--policy and --prompts", "both or neither", "one");
  }
  if (policy.policy.empty() == arguments.input.empty()) {
    fail("answers", "--policy and --prompts, or --input",
         arguments.input.empty() ? "neither" : "both");
  }
  const auto options = arguments.selection.resolve("hone select", policy.seed);
  auto writer = policy;
  writer.device = options.device;
  const auto answers = arguments.input.empty() ? questions_from_policy(writer, "default")
                                               : answers_from_file(arguments.input);
  const auto questions = select_questions(answers, options, "default");
  LineOutput output(arguments.output);
  for (const auto& question : questions) output.write(data::question_json(question));
}

}  // namespace

void add_select_command(CLI::App& app) {
  auto arguments = std::make_shared<SelectArguments>();
  arguments->policy.candidates = 4;
  arguments->selection.device = "auto";
  auto* command = app.add_subcommand("select", "Choose the pairs that people should compare next");
  command->add_option("--policy", arguments->policy.policy,
                      "Hugging Face directory that writes answers");
  command->add_option("--prompts", arguments->policy.prompts,
                      R"(JSONL of {"prompt": ...} or {"messages": [...]} for --policy)");
  command
      ->add_option("--candidates", arguments->policy.candidates,
                   "Answers of --policy to each prompt, all pairs of which may be asked")
      ->check(CLI::Range(2, 255))
      ->capture_default_str();
  command->add_option("--max-new-tokens", arguments->policy.max_new_tokens, "Of an answer, at most")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command->add_option("--temperature", arguments->policy.temperature, "Of --policy")
      ->capture_default_str();
  command->add_option("--top-p", arguments->policy.top_p, "Of --policy")->capture_default_str();
  command->add_option(
      "--input", arguments->input,
      R"(Answers that there are, JSONL of {"prompt", "candidates": [...]}, {"prompt", "response"} )"
      R"(or {"text"}; pairs are of one prompt)");
  add_selection_options(*command, arguments->selection, "--rule");
  command->add_option("--seed", arguments->policy.seed, "Of the answers and of what is drawn")
      ->capture_default_str();
  command->add_option("--output", arguments->output, "JSONL of questions; - is standard output")
      ->capture_default_str();
  add_device_option(*command, arguments->selection.device);
  command->footer(
      "A line is a question for `hone collect --questions`: the pair, its priority, the "
      "probability\n"
      "with which it was selected, the rule with the model's prediction, and the model's hash. "
      "The\n"
      "same arguments write the same bytes.\n\n"
      "Examples:\n"
      "  hone select --reward runs/quickstart/reward --policy runs/quickstart/policy \\\n"
      "      --prompts prompts.jsonl --count 200 --output questions.jsonl\n"
      "  hone select --reward runs/quickstart/reward --input answers.jsonl --rule bald\n"
      "  hone collect --store feedback --questions questions.jsonl\n"
      "  hone inspect feedback        # how often the model was right about all pairs");
  command->callback([arguments] { run_select(*arguments); });
}

}  // namespace hone::engine
