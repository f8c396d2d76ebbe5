#include "engine/report/html.h"
#include "engine/report/sections.h"

namespace hone::engine::report {
namespace {

std::string table_row(const std::string& key, const std::string& value) {
  return "<tr><th scope=\"row\">" + escape(key) + "</th><td>" + escape(value) + "</td></tr>\n";
}

std::string table(const std::string& rows) {
  return "<div class=\"scroll\"><table class=\"facts\"><tbody>" + rows + "</tbody></table></div>";
}

std::string facts(const RunFiles& run) {
  std::string rows;
  for (const auto& [key, text, number] : run.provenance.entries()) rows += table_row(key, text);
  for (const auto& [key, text, number] : run.summary.entries()) {
    const bool told = key.starts_with("data.") || key.starts_with("versions.") ||
                      key == "policy.parameters" || key == "policy.vocabulary";
    if (told && run.provenance.text(key).empty()) {
      rows += table_row(key, number ? figure(number) : text);
    }
  }
  return rows.empty() ? "" : table(rows);
}

std::string stage_records(const RunFiles& run) {
  std::string rows;
  for (const Stage& stage : run.stages) {
    std::string figures;
    for (const auto& [key, text, number] : stage.figures.entries()) {
      figures += (figures.empty() ? "" : ", ") + key + " " + (number ? figure(number) : text);
    }
    rows += "<tr><th scope=\"row\">" + escape(stage.name) + "</th><td>" + escape(stage.started) +
            "</td><td><code>" + escape(stage.hash.substr(0, 12)) + "</code></td><td>" +
            escape(figures) + "</td></tr>\n";
  }
  if (rows.empty()) return "";
  return folded("Stages: started, hash of what they depend on, figures",
                "<div class=\"scroll\"><table class=\"facts\"><thead><tr><th>stage</th><th>started"
                "</th><th>hash</th><th>figures</th></tr></thead><tbody>" +
                    rows + "</tbody></table></div>");
}

std::string whole_summary(const RunFiles& run) {
  std::string rows;
  for (const auto& [key, text, number] : run.summary.entries()) rows += table_row(key, text);
  return rows.empty() ? "" : folded("Every figure of summary.json", table(rows));
}

}  // namespace

std::string provenance_section(const RunFiles& run) {
  std::string out = facts(run) + stage_records(run) + whole_summary(run);
  if (!run.config.empty()) {
    out += folded("The recipe, as it ran (config.toml)",
                  "<pre tabindex=\"0\">" + escape(run.config) + "</pre>");
  }
  if (!run.unreadable.empty()) {
    out += "<p class=\"note\">Left out because it could not be read:</p><ul class=\"note\">";
    for (const std::string& piece : run.unreadable) out += "<li>" + escape(piece) + "</li>";
    out += "</ul>";
  }
  if (out.empty()) return "";
  return "<section id=\"provenance\"><h2>Where it comes from</h2>" + out + "</section>\n";
}

}  // namespace hone::engine::report
