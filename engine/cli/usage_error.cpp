#include "engine/cli/usage_error.h"

#include <algorithm>
#include <vector>

#include "engine/config/nearest_name.h"

namespace hone::engine {
namespace {

std::vector<std::string> verbs_of(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::App* verb : command.get_subcommands({})) names.push_back(verb->get_name());
  return names;
}

std::vector<std::string> options_of(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::string unknown(const std::string& what, const std::string& name,
                    const std::vector<std::string>& names) {
  const std::string near = nearest_name(name, names);
  return "unknown " + what + " '" + name + "'" +
         (near.empty() ? "" : ", did you mean '" + near + "'?");
}

/// What of the line nobody took: a verb, else an option (a word after it is usually its value).
std::string complaint(const CLI::App& command, const std::vector<std::string>& left,
                      const CLI::ParseError& error) {
  const auto is_option = [](const std::string& word) { return word.size() > 1 && word[0] == '-'; };
  const auto verbs = verbs_of(command);
  const auto word = std::find_if_not(left.begin(), left.end(), is_option);
  if (!verbs.empty() && word != left.end()) return unknown("verb", *word, verbs);
  const auto option = std::find_if(left.begin(), left.end(), is_option);
  if (option != left.end()) {
    return unknown("option", option->substr(0, option->find('=')), options_of(command));
  }
  if (word != left.end()) return "expected nothing more, got '" + *word + "'";
  if (verbs.empty()) return error.what();
  std::string all;
  for (const auto& verb : verbs) all += (all.empty() ? "" : ", ") + verb;
  return "expected one of " + all + ", got none";
}

}  // namespace

std::string usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App* command = &app;
  std::string path = app.get_name();
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().front();
    path += " " + command->get_name();
  }
  return path + ": " + complaint(*command, app.remaining(true), error) + " (" + path + " --help)";
}

}  // namespace hone::engine
