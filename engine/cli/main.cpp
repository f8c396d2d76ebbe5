#include <c10/util/Exception.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <new>
#include <string>

#include "data/error.h"
#include "engine/cli/command.h"
#include "engine/cli/usage_error.h"
#include "engine/distributed/rank_environment.h"
#include "engine/distributed/rank_failure.h"
#include "engine/runtime/build_info.h"
#include "engine/runtime/signals.h"
#include "kernels/threads.h"

namespace {

constexpr int kFailed = 1, kBadInput = 2;

/// One line that says who speaks, once: "hone run: ..." names itself already.
void complain(const std::string& text) {
  std::cerr << (text.starts_with("hone ") || text.starts_with("hone:") ? "" : "hone: ") << text
            << "\n";
}

int run(int argc, char** argv) {
  using namespace hone::engine;
  CLI::App app{
      "Hone: reinforcement learning from human feedback, from people's answers to a better policy.",
      "hone"};
  app.require_subcommand(1);
  app.set_version_flag("--version", version_text());
  add_run_command(app);
  add_generate_command(app);
  add_logprobs_command(app);
  add_tokenize_command(app);
  add_score_command(app);
  add_import_command(app);
  add_export_command(app);
  add_inspect_command(app);
  add_verify_command(app);
  add_collect_command(app);
  add_select_command(app);
  add_raters_command(app);
  add_route_command(app);
  add_experiment_commands(app);
  add_report_command(app);
  add_plan_command(app);
  add_doctor_command(app);
  add_completion_command(app);
  app.footer(  // last: verbs inherit what stands before them
      "Examples:\n"
      "  hone run experiments/recipes/quickstart.toml --out runs/quickstart\n"
      "  hone generate --model runs/quickstart/policy --prompt 'this film is'\n"
      "  hone collect --demo\n"
      "  hone doctor\n"
      "`hone <verb> --help` shows each verb's options and examples.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    if (argc == 1) {
      std::cerr << app.help();
    } else {
      complain(usage_error(app, error));
    }
    return kBadInput;
  }
  return 0;
}

// The loader calls this when all libraries are in place and none is initialised yet, which takes
// most of a start's 0.3 s. Before it, for about 20 ms, a signal kills as it kills any program.
void before_libraries(int, char**, char**) { hone::engine::end_on_signals(); }
__attribute__((section(".preinit_array"),
               used)) void (*const first_call)(int, char**, char**) = before_libraries;

}  // namespace

int main(int argc, char** argv) {
  hone::kernels::flush_denormals();  // before any other thread starts
  hone::engine::install_signal_handlers();
  try {
    return run(argc, argv);
  } catch (const hone::engine::Interrupted& interrupted) {
    complain("stopped by signal " + std::to_string(interrupted.signal));
    return 128 + interrupted.signal;
  } catch (const hone::engine::RankFailure& failure) {
    // One line for all ranks, and one exit code.
    if (hone::engine::rank_environment().rank == failure.speaker()) {
      complain(failure.what());
    }
    // At once: the transport's threads still wait for ranks that will not answer.
    std::fflush(nullptr);
    std::_Exit(failure.exit_code());
  } catch (const hone::data::InputError& error) {
    complain(error.what());
    return kBadInput;
  } catch (const std::bad_alloc&) {
    complain("out of memory");
  } catch (const c10::Error& error) {  // an op's: its first line, without the stack
    const std::string text = error.what_without_backtrace();
    complain(text.substr(0, text.find('\n')));
  } catch (const std::exception& error) {
    complain(error.what());
  }
  return kFailed;
}
