#include <memory>

#include "data/error.h"
#include "engine/cli/command.h"
#include "engine/cli/selection_options.h"
#include "engine/collect/service_session.h"
#include "engine/collect/terminal_session.h"

namespace hone::engine {
namespace {

struct Arguments {
  TerminalSessionOptions session;
  ServiceSessionOptions service;
  SelectionArguments selection;
  bool terminal = false;
};

void add_terminal_options(CLI::App& command, TerminalSessionOptions& session) {
  const auto group = "In the terminal";
  command.add_option("--run", session.run, "A finished run's folder")->group(group);
  command.add_option("--pairs", session.pairs, "How many pairs")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str()
      ->group(group);
  command.add_option("--rater", session.rater, "Pseudonym stored with the answers")
      ->capture_default_str()
      ->group(group);
}

void add_service_options(CLI::App& command, ServiceSessionOptions& service) {
  command.add_option("--store", service.store, "Folder of the store; made when it is not there");
  command.add_option("--project", service.project, "project.toml: guideline and rules");
  command.add_option("--questions", service.questions, "JSONL of questions to add");
  command.add_flag("--demo", service.demo,
                   "A ready project that anyone on this machine may rate: pairs of a finished run "
                   "(--run, by default runs/quickstart), of --policy, or a small set by hand");
  command.add_option("--policy", service.policy.policy,
                     "Hugging Face directory that writes answers");
  command.add_option("--prompts", service.policy.prompts,
                     R"(JSONL of {"prompt": ...} or {"messages": [...]} for --policy)");
  command
      .add_option("--candidates", service.policy.candidates,
                  "Answers a prompt; 2 makes pairs. With --reward: to choose pairs from")
      ->check(CLI::Range(2, 9))
      ->default_str("2, with --reward 4");
  command.add_option("--max-new-tokens", service.policy.max_new_tokens, "Of an answer, at most")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command.add_option("--temperature", service.policy.temperature, "Of --policy")
      ->capture_default_str();
  command.add_option("--top-p", service.policy.top_p, "Of --policy")->capture_default_str();
  const auto group = "Network";
  command.add_option("--listen", service.listen, "ADDRESS:PORT; port 0 takes a free one")
      ->capture_default_str()
      ->group(group);
  command.add_option("--tls-cert", service.tls_cert, "PEM certificate, with its chain")
      ->group(group);
  command.add_option("--tls-key", service.tls_key, "PEM key")->group(group);
  command
      .add_flag("--behind-proxy", service.behind_proxy,
                "A proxy in front speaks TLS and sets X-Forwarded-For")
      ->group(group);
  command.add_option("--host", service.hosts, "A name that browsers know this server by")
      ->group(group);
  command
      .add_option("--rater-rate", service.rater_rate, "Requests a second of one rater; 0: no limit")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--address-rate", service.address_rate,
                  "Requests a second of one address; 0: no limit")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--seal-minutes", service.seal_minutes, "Answers go into a segment this often")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str()
      ->group(group);
}

void collect(Arguments& arguments) {
  if (arguments.terminal) {
    if (arguments.session.run.empty()) {
      throw data::InputError("hone collect", "--run", "a finished run's folder", "nothing");
    }
    if (arguments.session.rater.empty()) {
      throw data::InputError("hone collect", "--rater", "a pseudonym", "nothing");
    }
    run_terminal_session(arguments.session);
    return;
  }
  auto& service = arguments.service;
  if (service.store.empty() && service.demo) service.store = "demo-feedback";
  if (service.store.empty()) {
    throw data::InputError("hone collect", "--store", "a folder", "nothing");
  }
  if (!arguments.session.run.empty()) service.demo_run = arguments.session.run;
  if (arguments.session.seed >= 0) service.policy.seed = arguments.session.seed;
  if (service.policy.candidates == 0) {
    service.policy.candidates = arguments.selection.reward.empty() ? 2 : 4;
  }
  service.selection = arguments.selection.resolve("hone collect", service.policy.seed);
  run_service_session(service);
}

}  // namespace

void add_collect_command(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  arguments->service.policy.candidates = 0;  // not given
  auto* command = app.add_subcommand("collect", "Ask people: serve the rater page, or ask here");
  add_service_options(*command, arguments->service);
  add_selection_options(*command, arguments->selection, "--select");
  command->add_flag("--terminal", arguments->terminal, "Ask here, with keys")
      ->group("In the terminal");
  add_terminal_options(*command, arguments->session);
  command->add_option(
      "--seed", arguments->session.seed,
      "Of the questions; in the terminal each session goes on where the last ended");
  command->footer(
      "An answer is on disk before its receipt; a kill loses nothing. Ctrl-C finishes requests,\n"
      "seals the answers into a segment and ends. Beyond this machine it needs TLS or a proxy.\n\n"
      "Examples:\n"
      "  hone collect --demo\n"
      "  hone collect --store feedback --project project.toml --questions questions.jsonl\n"
      "  hone collect --store feedback --policy runs/quickstart/policy --prompts prompts.jsonl\n"
      "  hone collect --store feedback --policy runs/quickstart/policy --reward "
      "runs/quickstart/reward \\\n"
      "      --prompts prompts.jsonl --select d_optimal --count 100\n"
      "  hone collect --store feedback --listen 0.0.0.0:443 --tls-cert chain.pem --tls-key "
      "key.pem\n"
      "  hone collect --terminal --run runs/quickstart --pairs 10\n"
      "`hone raters invite --store feedback` makes links for people.");
  command->callback([arguments] { collect(*arguments); });
}

}  // namespace hone::engine
