#include <iostream>
#include <memory>

#include "data/exchange.h"
#include "engine/cli/command.h"

namespace hone::engine {
namespace {

struct ExportArguments {
  std::string store, format, output = "-", split;
};

void run_export(const ExportArguments& arguments) {
  const data::Store store = data::Store::open(arguments.store);
  const uint64_t lines =
      data::export_file(store, arguments.format, arguments.output, arguments.split);
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
         "  hone export feedback --format trl-sft | head -3";
}

}  // namespace

void add_export_command(CLI::App& app) {
  auto arguments = std::make_shared<ExportArguments>();
  auto* command = app.add_subcommand("export", "Write a store's feedback as JSON lines");
  command->add_option("store", arguments->store, "Directory of the store")->required();
  command->add_option("--format", arguments->format, "Format; they are listed below")->required();
  command->add_option("--output", arguments->output, "File to write; - is standard output")
      ->capture_default_str();
  command->add_option("--split", arguments->split, "Only train, validation or test");
  command->footer(export_footer());
  command->callback([arguments] { run_export(*arguments); });
}

}  // namespace hone::engine
