#include "engine/report/report.h"

#include <array>

#include "data/atomic_file.h"
#include "engine/report/html.h"
#include "engine/report/sections.h"

namespace hone::engine {
namespace {

using namespace report;

// Nothing is fetched and no script runs, whatever a text in the page says.
constexpr const char* kHead =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
    "<meta name=\"color-scheme\" content=\"light dark\">"
    "<meta name=\"referrer\" content=\"no-referrer\">"
    "<meta http-equiv=\"Content-Security-Policy\" "
    "content=\"default-src 'none'; style-src 'unsafe-inline'\">";

std::string page(const RunFiles& run) {
  const Verdict verdict = judge_run(run);
  struct Part {
    const char *anchor, *title;
    std::string html;
  };
  const std::array parts = {
      Part{"result", "Result", result_section(run, verdict)},
      Part{"samples", "Samples", samples_section(run)},
      Part{"curves", "Curves", curves_section(run)},
      Part{"reward", "Reward model", reward_section(run)},
      Part{"raters", "Raters", raters_section(run)},
      Part{"scores", "Scores", scores_section(run, verdict)},
      Part{"time", "Time", time_section(run)},
      Part{"provenance", "Provenance", provenance_section(run)},
  };
  const std::string recipe = escape(run.provenance.text("recipe"));
  const std::string name = "Run " + escape(run.name);
  const std::string heading = recipe.empty() ? name : recipe;
  std::string links, body;
  for (const Part& part : parts) {
    if (part.html.empty()) continue;
    links += "<a href=\"#" + std::string(part.anchor) + "\">" + part.title + "</a>";
    body += part.html;
  }
  std::string started;
  for (const Stage& stage : run.stages) {
    if (!stage.started.empty()) {
      started = ", started " + escape(stage.started);
      break;
    }
  }
  return std::string(kHead) + "<title>" + escape(verdict.badge) + " – " + heading +
         "</title><style>" + kPageStyle + "</style></head>\n<body><header><h1>" + heading +
         "</h1><p>What people's judgements made of a language model. " + name + started +
         "</p></header><nav aria-label=\"Sections\"><div>" + links + "</div></nav>\n<main>" + body +
         "</main><footer>Made by <code>hone report</code> from the run's directory alone. This "
         "page loads nothing and runs no script.</footer></body></html>\n";
}

}  // namespace

void write_report(const std::filesystem::path& run) {
  data::write_file_atomically(run / "report.html", page(read_run_files(run)));
}

}  // namespace hone::engine
