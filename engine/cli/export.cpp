#include <iostream>
#include <memory>
#include <sstream>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/exchange.h"
#include "engine/cli/command.h"

namespace hone::engine {
namespace {

struct ExportArguments {
  std::string store, format, output = "-", since, until, cohort;
  data::ExportFilter filter;
};

/// One pseudonym a line.
void read_cohort(const std::string& path, std::vector<std::string>& raters) {
  std::istringstream lines(data::read_file(path));
  const std::size_t before = raters.size();
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) raters.push_back(line);
  }
  if (raters.size() == before) {
    throw data::InputError(path, "read raters", "one pseudonym a line", "none");
  }
}

void run_export(ExportArguments arguments) {
  data::ExportFilter& filter = arguments.filter;
  if (!arguments.since.empty()) filter.since_us = data::parse_time(arguments.since, "--since");
  if (!arguments.until.empty()) filter.until_us = data::parse_time(arguments.until, "--until");
  if (!arguments.cohort.empty()) read_cohort(arguments.cohort, filter.raters);
  const data::Store store = data::Store::open(arguments.store);
  const uint64_t lines = data::export_file(store, arguments.format, arguments.output, filter);
  std::cerr << (arguments.output == "-" ? "standard output" : arguments.output) << ": " << lines
            << " lines\n";
}

std::string export_footer() {
  std::string text = "Formats, each with an example line:\n";
  for (const data::FormatInfo& format : data::export_formats()) {
    text += "  " + format.name + ": " + format.summary + "\n      " + format.example + "\n";
  }
  return text +
         "Examples:\n"
         "  hone export feedback --format trl-preference --split train --output train.jsonl\n"
         "  hone export feedback --format trl-sft | head -3\n"
         "  hone export feedback --format csv --since 2026-11-01 --kind pairwise --output "
         "week.csv\n"
         "  hone export feedback --format trl-kto --source collect --cohort experts.txt "
         "--output experts.jsonl\n"
         "Several filters must all fit; of one that is given several times, any.";
}

}  // namespace

void add_export_command(CLI::App& app) {
  auto arguments = std::make_shared<ExportArguments>();
  auto* command =
      app.add_subcommand("export", "Write a store's feedback as JSON lines, CSV or TSV");
  command->add_option("store", arguments->store, "Directory of the store")->required();
  command->add_option("--format", arguments->format, "Format; they are listed below")->required();
  command->add_option("--output", arguments->output, "File to write; - is standard output")
      ->capture_default_str();
  data::ExportFilter& filter = arguments->filter;
  command->add_option("--split", filter.split, "Only train, validation or test");
  command->add_option(
      "--source", filter.source,
      "Only answers of this source, or about items of it (hone inspect lists them)");
  command->add_option("--project", filter.project, "Only answers collected in this project");
  command->add_option("--kind", filter.kinds,
                      "Only pairwise, ranking, rating, demonstration, review, same-person or "
                      "across-people; may be given several times");
  command->add_option("--since", arguments->since,
                      "Only answers given at or after this time: 2026-11-25 or "
                      "2026-11-25T19:50:00Z");
  command->add_option("--until", arguments->until, "Only answers given before this time");
  command->add_option("--rater", filter.raters,
                      "Only this rater's answers; may be given several times");
  command->add_option("--cohort", arguments->cohort,
                      "Only answers of the raters in this file, one pseudonym a line");
  command->footer(export_footer());
  command->callback([arguments] { run_export(*arguments); });
}

}  // namespace hone::engine
