#include "engine/cli/usage_error.h"

#include <gtest/gtest.h>

#include <string>

namespace hone::engine {
namespace {

/// What is said of `line`, by an application with verbs, a verb of verbs and a required option.
std::string said(const std::string& line) {
  CLI::App app{"", "hone"};
  app.require_subcommand(1);
  int count = 0;
  std::string model;
  auto* generate = app.add_subcommand("generate");
  generate->add_option("--model", model)->required();
  generate->add_option("--max-new-tokens", count);
  auto* raters = app.add_subcommand("raters");
  raters->require_subcommand(1);
  raters->add_subcommand("invite");
  raters->add_subcommand("list");
  app.add_subcommand("doctor");
  try {
    app.parse(line);
  } catch (const CLI::ParseError& error) {
    return usage_error(app, error);
  }
  return "nothing";
}

TEST(UsageError, NamesTheNearestVerb) {
  EXPECT_EQ(said("genrate --model m"),
            "hone: unknown verb 'genrate', did you mean 'generate'? (hone --help)");
  EXPECT_EQ(said("raters invit"),
            "hone raters: unknown verb 'invit', did you mean 'invite'? (hone raters --help)");
  EXPECT_EQ(said("entirely"), "hone: unknown verb 'entirely' (hone --help)");
}

TEST(UsageError, NamesTheNearestOption) {
  EXPECT_EQ(
      said("generate --modle m"),
      "hone generate: unknown option '--modle', did you mean '--model'? (hone generate --help)");
  EXPECT_EQ(said("generate --model m --max-tokens=3"),
            "hone generate: unknown option '--max-tokens', did you mean '--max-new-tokens'? "
            "(hone generate --help)");
}

TEST(UsageError, SaysWhatIsMissingOrTooMuch) {
  EXPECT_EQ(said("generate"), "hone generate: --model is required (hone generate --help)");
  EXPECT_EQ(said("raters"),
            "hone raters: expected one of invite, list, got none (hone raters --help)");
  EXPECT_EQ(said("doctor now"),
            "hone doctor: expected nothing more, got 'now' (hone doctor --help)");
  EXPECT_EQ(said("generate --model m"), "nothing");
}

}  // namespace
}  // namespace hone::engine
