#include <cmath>

#include "engine/report/html.h"
#include "engine/report/sections.h"

namespace hone::engine::report {
namespace {

struct Share {
  std::string name;
  double seconds = 0;
};

// Stage records know the order; the summary may know stages that have none.
std::vector<Share> stage_times(const RunFiles& run) {
  std::vector<Share> out;
  for (const Stage& stage : run.stages) {
    if (stage.seconds && *stage.seconds >= 0) out.push_back({stage.name, *stage.seconds});
  }
  const std::string prefix = "seconds.";
  for (const auto& [key, text, number] : run.summary.entries()) {
    if (!key.starts_with(prefix) || !number || !(*number >= 0)) continue;
    const std::string name = key.substr(prefix.size());
    if (name != "total" && !run.stage(name)) out.push_back({name, *number});
  }
  return out;
}

}  // namespace

std::string time_section(const RunFiles& run) {
  const std::vector<Share> times = stage_times(run);
  double total = 0;
  for (const Share& share : times) total += share.seconds;
  if (!(total > 0) || !std::isfinite(total)) return "";
  std::string bar, rows;
  for (size_t i = 0; i < times.size(); ++i) {
    const std::string color = "hue" + std::to_string(i % 8);
    char width[32];
    std::snprintf(width, sizeof width, "%.2f", 100 * times[i].seconds / total);
    const std::string name = escape(times[i].name), time = duration_text(times[i].seconds);
    bar += "<i class=\"" + color + "\" style=\"width:" + width + "%\" title=\"" + name + ": " +
           time + "\"></i>";
    rows += "<tr><th scope=\"row\"><i class=\"swatch " + color + "\"></i>" + name + "</th><td>" +
            time + "</td><td>" + percent(times[i].seconds / total) + "</td></tr>";
  }
  return "<section id=\"time\"><h2>Where the time went</h2><p class=\"lead\">" +
         duration_text(total) + " in all.</p><div class=\"bar\" aria-hidden=\"true\">" + bar +
         "</div><table class=\"narrow\"><thead><tr><th>stage</th><th>time</th><th>share</th></tr>"
         "</thead><tbody>" +
         rows + "</tbody></table></section>\n";
}

}  // namespace hone::engine::report
