#pragma once

// One file per verb: engine/cli/<verb>.cpp defines add_<verb>_command, which declares options on a
// subcommand and sets its callback. main.cpp lists them and maps exceptions to exit codes:
// 0 ok, 1 failed, 2 wrong usage or bad input, 128 + signal after a graceful stop.

#include <CLI/CLI.hpp>

namespace hone::engine {

void add_import_command(CLI::App& app);
void add_export_command(CLI::App& app);
void add_inspect_command(CLI::App& app);
void add_verify_command(CLI::App& app);
void add_generate_command(CLI::App& app);
void add_logprobs_command(CLI::App& app);
void add_tokenize_command(CLI::App& app);
void add_score_command(CLI::App& app);
void add_route_command(CLI::App& app);
void add_run_command(CLI::App& app);  // run, and each stage as a verb of its own
void add_collect_command(CLI::App& app);
void add_select_command(CLI::App& app);
void add_raters_command(CLI::App& app);
void add_report_command(CLI::App& app);
void add_doctor_command(CLI::App& app);
void add_plan_command(CLI::App& app);
void add_completion_command(CLI::App& app);

/// Verbs of the room above (experiments), which links itself into the binary.
void add_experiment_commands(CLI::App& app);

}  // namespace hone::engine
