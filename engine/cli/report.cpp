#include "engine/report/report.h"

#include <iostream>
#include <memory>
#include <string>

#include "engine/cli/command.h"

namespace hone::engine {

void add_report_command(CLI::App& app) {
  auto run = std::make_shared<std::string>();
  auto* command = app.add_subcommand("report", "Write a run's report: one self-contained page");
  command->add_option("RUN", *run, "Run directory")->required();
  command->footer(
      "Examples:\n"
      "  hone report runs/quickstart\n"
      "  xdg-open \"$(hone report runs/quickstart)\"");
  command->callback([run] {
    write_report(*run);
    std::cout << (std::filesystem::path(*run) / "report.html").string() << "\n";
  });
}

}  // namespace hone::engine
