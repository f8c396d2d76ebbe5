#include <iostream>
#include <memory>

#include "data/error.h"
#include "data/exchange.h"
#include "engine/cli/command.h"
#include "engine/runtime/progress.h"
#include "engine/runtime/signals.h"

namespace hone::engine {
namespace {

struct ImportArguments {
  data::ImportOptions options;
  std::string store;
  std::vector<std::string> fields;
};

/// "group=debate" -> fields["group"] = "debate"
void read_fields(const std::vector<std::string>& texts, data::ImportOptions& options) {
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == text.size()) {
      throw data::InputError("import", "--field", "FIELD=KEY", text);
    }
    options.fields[text.substr(0, equals)] = text.substr(equals + 1);
  }
}

void run_import(ImportArguments arguments) {
  data::ImportOptions& options = arguments.options;
  read_fields(arguments.fields, options);
  data::check_import(options);  // a mistyped word must not leave an empty store behind
  std::unique_ptr<Progress> progress;
  options.progress = [&](uint64_t read, uint64_t total) {
    constexpr uint64_t kMegabyte = 1000000;
    check_interrupted();
    if (!progress) progress = std::make_unique<Progress>("import", total / kMegabyte, "MB");
    progress->update(read / kMegabyte);
  };
  data::Store store = data::Store::open(arguments.store, true);
  const data::ImportReport report = data::import_file(store, options);
  progress.reset();
  std::cerr << options.input.string() << ": " << report.lines << " lines: " << report.added
            << " added, " << report.duplicates << " known already, " << report.rejected
            << " rejected";
  if (report.partial > 0) std::cerr << ", of " << report.partial << " a part was left out";
  if (!report.rejects_file.empty())
    std::cerr << " (reasons in " << report.rejects_file.string() << ")";
  std::cerr << "\n";
}

std::string import_footer() {
  std::string text = "Formats, each with an example line (more in data/FORMAT.md):\n";
  for (const data::FormatInfo& format : data::import_formats()) {
    text += "  " + format.name + ": " + format.summary + "\n      " + format.example + "\n";
  }
  return text +
         "Examples:\n"
         "  hone import --format hh --input pairs.jsonl.gz --store feedback\n"
         "  hone import --format texts-jsonl --input arguments.jsonl --field group=debate "
         "--store feedback\n"
         "  hone import --format votes-tsv --input votes.tsv --store feedback\n"
         "  hone import --format label-studio --input project.json --field left=text1 "
         "--field right=text2 --store feedback\n"
         "A line that cannot be used is left out and listed, with its number and the reason, in "
         "STORE/rejects.\n"
         "Importing the same file again adds nothing.";
}

}  // namespace

void add_import_command(CLI::App& app) {
  auto arguments = std::make_shared<ImportArguments>();
  auto* command = app.add_subcommand("import", "Read feedback from a file into a store");
  data::ImportOptions& options = arguments->options;
  command->add_option("--format", options.format, "Format of the file; they are listed below")
      ->required();
  command->add_option("--input", options.input, "The file, plain or .gz; - is standard input")
      ->required();
  command->add_option("--store", arguments->store, "Directory of the store; made when absent")
      ->required();
  command->add_option("--field", arguments->fields,
                      "FIELD=KEY: where a JSON line has the field under another key");
  command
      ->add_option("--split", options.split,
                   "Split of records whose line names none: group-hash, train, validation or test")
      ->capture_default_str();
  command
      ->add_option("--validation", options.validation_fraction,
                   "Fraction of groups for validation (group-hash)")
      ->capture_default_str();
  command->add_option("--test", options.test_fraction, "Fraction of groups for test (group-hash)")
      ->capture_default_str();
  command->add_option("--max-line-bytes", options.max_line_bytes, "Longer lines are rejected")
      ->capture_default_str();
  command->footer(import_footer());
  command->callback([arguments] { run_import(*arguments); });
}

}  // namespace hone::engine
