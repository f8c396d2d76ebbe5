#include "engine/report/run_files.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "data/error.h"

namespace hone::engine::report {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr uintmax_t kLargestFile = 64u << 20;  // bytes of a JSON or TOML file
constexpr size_t kLongestLine = 4u << 20;      // bytes of a JSONL line

// Absent when it is no number, or beyond what arithmetic on it (ranges, sums, squares) can bear.
std::optional<double> number_of(const Json& value) {
  if (!value.is_number()) return std::nullopt;
  const auto number = value.get<double>();
  return std::abs(number) < 1e100 ? std::optional(number) : std::nullopt;
}

std::optional<double> number_in(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? std::nullopt : number_of(*found);
}

std::string text_in(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return "";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

// Nested objects become dotted keys; lists are left out (the calibration bins have a reader).
void flatten(const Json& value, const std::string& key, Figures& out) {
  if (value.is_object()) {
    for (const auto& [name, inner] : value.items()) {
      flatten(inner, key.empty() ? name : key + "." + name, out);
    }
  } else if (value.is_string()) {
    out.set({key, value.get<std::string>(), std::nullopt});
  } else if (value.is_number()) {
    out.set({key, value.dump(), number_of(value)});
  } else if (value.is_boolean()) {
    out.set({key, value.get<bool>() ? "yes" : "no", std::nullopt});
  }
}

class Reader {
 public:
  Reader(fs::path run, RunFiles& out) : run_(std::move(run)), out_(out) {}

  std::optional<std::string> whole(const fs::path& path) {
    std::error_code error;
    const auto size = fs::file_size(run_ / path, error);
    if (error) return std::nullopt;
    if (size > kLargestFile) return refuse(path, "larger than 64 MiB");
    std::ifstream in(run_ / path, std::ios::binary);
    std::string text(size, '\0');
    in.read(text.data(), static_cast<std::streamsize>(size));
    if (in.gcount() != static_cast<std::streamsize>(size)) return refuse(path, "cannot be read");
    found_ = true;
    return text;
  }

  std::optional<Json> object(const fs::path& path) {
    const auto text = whole(path);
    if (!text) return std::nullopt;
    Json value = Json::parse(*text, nullptr, false);
    if (!value.is_object()) {
      refuse(path, "not a JSON object");
      return std::nullopt;
    }
    return value;
  }

  void lines(const fs::path& path, const std::function<void(const Json&)>& take) {
    std::ifstream in(run_ / path, std::ios::binary);
    if (!in) return;
    found_ = true;
    size_t bad = 0, first_bad = 0, number = 0;
    for (std::string line; std::getline(in, line);) {
      ++number;
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      const Json value = line.size() > kLongestLine ? Json() : Json::parse(line, nullptr, false);
      if (value.is_object()) {
        take(value);
      } else if (bad++ == 0) {
        first_bad = number;
      }
    }
    if (bad > 0) {
      refuse(path, std::to_string(bad) + " line(s) are not JSON objects, the first is line " +
                       std::to_string(first_bad));
    }
  }

  bool found() const { return found_; }

 private:
  std::nullopt_t refuse(const fs::path& path, const std::string& reason) {
    out_.unreadable.push_back(path.string() + ": " + reason);
    return std::nullopt;
  }

  fs::path run_;
  RunFiles& out_;
  bool found_ = false;
};

void take_metrics(const Json& object, RunFiles& out) {
  const auto step = number_in(object, "step");
  if (!step) return;
  auto& stage = out.metrics[text_in(object, "stage")];
  for (const auto& [name, value] : object.items()) {
    if (name == "stage" || name == "step" || name == "time" || name == "seconds") continue;
    if (!value.is_number() && !value.is_null()) continue;
    Series& series = stage[name];
    // A stage that ran again takes the place of its earlier self from that step on.
    while (!series.step.empty() && series.step.back() >= *step) {
      series.step.pop_back();
      series.value.pop_back();
    }
    series.step.push_back(*step);
    series.value.push_back(number_of(value).value_or(std::numeric_limits<double>::quiet_NaN()));
  }
}

void take_sample(const Json& object, RunFiles& out) {
  Sample sample{.prompt = text_in(object, "prompt"),
                .before = text_in(object, "before"),
                .after = text_in(object, "after"),
                .judge_before = number_in(object, "judge_before"),
                .judge_after = number_in(object, "judge_after"),
                .proxy_before = number_in(object, "proxy_before"),
                .proxy_after = number_in(object, "proxy_after")};
  if (!sample.before.empty() || !sample.after.empty()) out.samples.push_back(std::move(sample));
}

std::vector<CalibrationBin> bins_in(const Json& figures, const char* key) {
  std::vector<CalibrationBin> bins;
  const auto found = figures.find(key);
  if (found == figures.end() || !found->is_array()) return bins;
  for (const Json& bin : *found) {
    if (!bin.is_object()) continue;
    const auto confidence = number_in(bin, "confidence"), accuracy = number_in(bin, "accuracy");
    const double count = number_in(bin, "count").value_or(0);
    if (confidence && accuracy && count > 0) bins.push_back({*confidence, *accuracy, count});
  }
  return bins;
}

std::vector<RaterFigures> raters_in(const Json& figures) {
  std::vector<RaterFigures> raters;
  const auto found = figures.find("raters");
  if (found == figures.end() || !found->is_array()) return raters;
  for (const Json& row : *found) {
    if (!row.is_object()) continue;
    const auto reliability = number_in(row, "reliability"), low = number_in(row, "low"),
               high = number_in(row, "high");
    if (!reliability || !low || !high) continue;
    raters.push_back({.name = text_in(row, "rater"),
                      .answers = number_in(row, "answers").value_or(0),
                      .reliability = *reliability,
                      .low = *low,
                      .high = *high,
                      .side = number_in(row, "side"),
                      .side_low = number_in(row, "side_low"),
                      .side_high = number_in(row, "side_high")});
  }
  return raters;
}

std::string when(const Json& object) {
  const auto seconds = number_in(object, "started");
  if (!seconds || !(std::abs(*seconds) < 1e11)) {
    std::string text = text_in(object, "started");  // 2026-01-31T12:00:00Z
    const bool iso = text.size() == 20 && text[10] == 'T' && text[19] == 'Z';
    return iso ? text.substr(0, 10) + " " + text.substr(11, 8) + " UTC" : text;
  }
  const auto whole = static_cast<std::time_t>(*seconds);
  std::tm utc = {};
  gmtime_r(&whole, &utc);
  char out[64];
  std::strftime(out, sizeof out, "%Y-%m-%d %H:%M:%S UTC", &utc);
  return out;
}

Stage take_stage(const Json& object, const std::string& file_name) {
  Stage stage{.name = text_in(object, "stage"),
              .hash = text_in(object, "hash"),
              .started = when(object),
              .seconds = number_in(object, "seconds"),
              .figures = {},
              .bins = {},
              .raw_bins = {},
              .raters = {}};
  if (stage.name.empty()) stage.name = file_name;
  if (const auto figures = object.find("figures");
      figures != object.end() && figures->is_object()) {
    flatten(*figures, "", stage.figures);
    stage.bins = bins_in(*figures, "calibration_bins");
    stage.raw_bins = bins_in(*figures, "calibration_bins_raw");
    stage.raters = raters_in(*figures);
  }
  return stage;
}

size_t place_in_run(const std::string& stage) {
  static constexpr std::array kOrder = {"data",   "import", "tokenizer", "pretrain", "sft",
                                        "reward", "judges", "ppo",       "train",    "evaluate"};
  return static_cast<size_t>(std::find(kOrder.begin(), kOrder.end(), stage) - kOrder.begin());
}

void read_stages(const fs::path& run, Reader& reader, RunFiles& out) {
  std::error_code error;
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(run / "stages", error)) {
    if (entry.path().extension() == ".json") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  for (const fs::path& path : paths) {
    const auto object = reader.object(fs::path("stages") / path.filename());
    if (object) out.stages.push_back(take_stage(*object, path.stem().string()));
  }
  std::stable_sort(out.stages.begin(), out.stages.end(), [](const Stage& a, const Stage& b) {
    return place_in_run(a.name) < place_in_run(b.name);
  });
}

}  // namespace

void Figures::set(Entry entry) {
  const auto [place, fresh] = places_.try_emplace(entry.key, entries_.size());
  if (fresh) {
    entries_.push_back(std::move(entry));
  } else {
    entries_[place->second] = std::move(entry);
  }
}

std::optional<double> Figures::number(const std::string& key) const {
  const auto found = places_.find(key);
  return found == places_.end() ? std::nullopt : entries_[found->second].number;
}

std::string Figures::text(const std::string& key) const {
  const auto found = places_.find(key);
  return found == places_.end() ? "" : entries_[found->second].text;
}

const Series* RunFiles::series(const std::string& stage, const std::string& name) const {
  const auto found = metrics.find(stage);
  if (found == metrics.end()) return nullptr;
  const auto series = found->second.find(name);
  return series == found->second.end() ? nullptr : &series->second;
}

const Stage* RunFiles::stage(std::string_view name) const {
  for (const Stage& stage : stages) {
    if (stage.name == name) return &stage;
  }
  return nullptr;
}

RunFiles read_run_files(const fs::path& run) {
  if (!fs::is_directory(run)) {
    throw data::InputError(run.string(), "run", "a run directory",
                           fs::exists(run) ? "a file" : "no such directory");
  }
  RunFiles out;
  out.name = fs::weakly_canonical(run).filename().string();
  Reader reader(run, out);
  if (const auto summary = reader.object("summary.json")) flatten(*summary, "", out.summary);
  if (const auto value = reader.object("provenance.json")) flatten(*value, "", out.provenance);
  out.config = reader.whole("config.toml").value_or("");
  read_stages(run, reader, out);
  reader.lines("metrics.jsonl", [&](const Json& object) { take_metrics(object, out); });
  reader.lines(fs::path("evaluation") / "samples.jsonl",
               [&](const Json& object) { take_sample(object, out); });
  if (!reader.found()) {
    throw data::InputError(run.string(), "run",
                           "config.toml, summary.json, metrics.jsonl or stages/*.json in it",
                           "none of them");
  }
  return out;
}

}  // namespace hone::engine::report
