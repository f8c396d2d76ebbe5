#pragma once

// The options by which `hone select` and `hone collect` choose pairs.

#include <CLI/CLI.hpp>
#include <string>

#include "engine/collect/selected_questions.h"

namespace hone::engine {

struct SelectionArguments {
  std::string reward, rule = "d_optimal", device = "cpu";
  int64_t count = 200, pool = 20000;
  double random_share = 0.2;

  /// Throws data::InputError naming `where`; without a reward model only looks at the names.
  QuestionSelectionOptions resolve(const std::string& where, int64_t seed) const;
};

/// `rule`: the option that names the rule.
void add_selection_options(CLI::App& command, SelectionArguments& arguments,
                           const std::string& rule);

}  // namespace hone::engine
