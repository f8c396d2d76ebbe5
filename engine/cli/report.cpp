#include "engine/report/report.h"

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "engine/cli/command.h"

namespace hone::engine {

void add_report_command(CLI::App& app) {
  auto runs = std::make_shared<std::vector<std::string>>();
  auto* command = app.add_subcommand(
      "report", "Write the report of a run (or several): one self-contained page");
  command->add_option("RUN", *runs, "Run directories")->required();
  command->footer(
      "Examples:\n"
      "  hone report runs/quickstart\n"
      "  xdg-open \"$(hone report runs/quickstart)\"");
  command->callback([runs] {
    for (const std::filesystem::path run : *runs) {
      write_report(run);
      std::cout << (run / "report.html").string() << "\n";
    }
  });
}

}  // namespace hone::engine
