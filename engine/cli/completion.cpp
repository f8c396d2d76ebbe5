#include <iostream>
#include <memory>
#include <string>

#include "data/error.h"
#include "engine/cli/command.h"

namespace hone::engine {
namespace {

std::string words_of(const CLI::App& command) {
  std::string words;
  for (const CLI::Option* option : command.get_options()) {
    for (const auto& name : option->get_lnames()) words += " --" + name;
  }
  return words.empty() ? words : words.substr(1);
}

std::string verbs_of(const CLI::App& app) {
  std::string verbs;
  for (const CLI::App* command : app.get_subcommands({})) verbs += " " + command->get_name();
  return verbs.empty() ? verbs : verbs.substr(1);
}

/// Options of a verb, and of the verbs below it.
std::string options_below(const CLI::App& command) {
  std::string words = words_of(command);
  for (const CLI::App* verb : command.get_subcommands({})) words += " " + words_of(*verb);
  return words;
}

/// Bash and zsh (through bashcompinit) read the same script.
std::string shell_script(const CLI::App& app) {
  std::string script =
      "_hone() {\n"
      "  local word=\"${COMP_WORDS[COMP_CWORD]}\"\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
      "    COMPREPLY=($(compgen -W \"" +
      verbs_of(app) +
      " --help --version\" -- \"$word\"))\n"
      "    return\n"
      "  fi\n"
      "  local options= verbs=\n"
      "  case \"${COMP_WORDS[1]}\" in\n";
  for (const CLI::App* command : app.get_subcommands({})) {
    script += "    " + command->get_name() + ") options=\"" + options_below(*command) +
              "\" verbs=\"" + verbs_of(*command) + "\" ;;\n";
  }
  script +=
      "  esac\n"
      "  case \"$word\" in\n"
      "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;;\n"
      "    *) COMPREPLY=($(compgen -W \"$verbs\" -- \"$word\") $(compgen -f -- \"$word\")) ;;\n"
      "  esac\n"
      "}\n"
      "complete -o filenames -F _hone hone\n";
  return script;
}

}  // namespace

void add_completion_command(CLI::App& app) {
  auto shell = std::make_shared<std::string>();
  auto* command = app.add_subcommand("completion", "Print a shell completion script");
  command->add_option("shell", *shell, "bash or zsh")->required();
  command->footer(
      "Examples:\n"
      "  hone completion bash > ~/.local/share/bash-completion/completions/hone\n"
      "  source <(hone completion zsh)");
  command->callback([shell, &app] {
    if (*shell == "zsh") {
      std::cout << "autoload -U +X bashcompinit && bashcompinit\n";
    } else if (*shell != "bash") {
      throw data::InputError("hone completion", "shell", "bash or zsh", "'" + *shell + "'");
    }
    std::cout << shell_script(app);
  });
}

}  // namespace hone::engine
