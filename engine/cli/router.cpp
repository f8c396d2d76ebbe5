#include "engine/cli/router.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <vector>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/journal/journal.h"
#include "data/quality/intervals.h"
#include "data/sha256.h"
#include "engine/cli/line_output.h"
#include "engine/cli/sequence_lines.h"
#include "engine/run/finished_run.h"
#include "engine/run/reward_files.h"
#include "engine/run/reward_stage.h"
#include "engine/runtime/device.h"
#include "engine/runtime/progress.h"
#include "engine/trainers/reward_trainer.h"
#include "reward/random.h"

namespace hone::engine {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kLines = 256;  // read, scored and written together
constexpr const char *kUnsure = "route unsure", *kAudit = "route audit";

/// A prompt and its answers, as a line of the input has them.
struct Output {
  std::string prompt;
  bool is_messages = false;
  std::vector<std::string> responses;
};

Output read_output(const nlohmann::json& line, const std::string& where) {
  Output output;
  const bool messages = line.contains("messages") && line["messages"].is_array();
  const bool prompt = line.contains("prompt") && line["prompt"].is_string();
  const auto is_text = [](const auto& each) { return each.is_string(); };
  if (messages == prompt || !line.contains("responses") || !line["responses"].is_array() ||
      !std::all_of(line["responses"].begin(), line["responses"].end(), is_text)) {
    throw data::InputError(where, "line",
                           R"({"prompt" or "messages": ..., "responses": ["...", "..."]})",
                           line.dump().substr(0, 120));
  }
  output.is_messages = messages;
  output.prompt = messages ? line["messages"].dump() : line["prompt"].get<std::string>();
  output.responses = line["responses"].get<std::vector<std::string>>();
  if (output.responses.size() < 2) {
    throw data::InputError(where, "responses", "at least two",
                           std::to_string(output.responses.size()));
  }
  return output;
}

/// The choice that scores make: which answer, and how sure.
struct Choice {
  size_t best = 0;
  double confidence = 0.5;
};

Choice choose(const std::vector<float>& scores, double temperature) {
  Choice choice;
  choice.best =
      static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
  double second = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < scores.size(); ++i) {
    if (i != choice.best) second = std::max<double>(second, scores[i]);
  }
  choice.confidence = reward::choice_confidence(scores[choice.best] - second, temperature);
  return choice;
}

/// 1 where `item` stands before all others of an answer, -1 where another stands before it, else 0.
int verdict_on(int64_t item, const data::Comparison& answer) {
  int own = 0, best_other = std::numeric_limits<int>::max();
  for (size_t i = 0; i < answer.items.size(); ++i) {
    const int rank = answer.ranks[i];
    if (answer.items[i] == item) {
      own = rank;
    } else {
      best_other = std::min(best_other, rank);
    }
  }
  return (own < best_other) - (own > best_other);
}

class Router {
 public:
  explicit Router(const RouteOptions& options)
      : options_(options),
        run_(options.run, {"import", "reward"}, find_device("hone route", options.device)),
        model_(workspace().load(workspace().run().reward(), HeadKind::kScalar)),
        reward_hash_(data::sha256_file(workspace().run().reward() / "model.safetensors")) {
    const double fitted = read_reward_file(workspace().run().reward()).temperature;
    temperature_ = fitted > 0 ? fitted : 1.0;
  }

  void learn();
  void route();
  void check(const std::filesystem::path& store);

 private:
  Workspace& workspace() { return run_.workspace(); }
  TokenIds tokens(const std::string& prompt, bool is_messages, const std::string& response) {
    const auto& codec = workspace().codec();
    return codec.text(codec.prompt_text(prompt, is_messages), response).tokens;
  }
  void flush(std::vector<Output>& outputs);

  const RouteOptions& options_;
  FinishedRun run_;
  std::unique_ptr<CausalLM> model_;
  std::string reward_hash_;
  double temperature_ = 1.0;
  reward::RoutingRule rule_;
  std::optional<LineOutput> straight_, people_;
  uint64_t lines_ = 0, straight_lines_ = 0, people_lines_ = 0, audited_lines_ = 0;
};

/// The threshold, from pairs of the test split that people judged and no training saw.
void Router::learn() {
  const auto judged = judgements(workspace(), data::Split::kTest, reward::RaterFold::kAll);
  const auto votes = judged.consensus(static_cast<uint64_t>(options_.seed));
  std::vector<int64_t> items;
  for (const auto& vote : votes) items.insert(items.end(), {vote.first, vote.second});
  const auto choices =
      reward::judged_choices(score_items(workspace(), *model_, items), votes, temperature_);
  rule_ = reward::fit_routing(choices, options_.goal);
  const auto curve = reward::coverage_curve(choices);
  std::printf("%zu held-out pairs, no two with a text in common, and what most people said:\n",
              choices.size());
  std::printf("  straight through, most confident first");
  for (const auto& point : curve.points) std::printf(" %5.0f%%", 100 * point.coverage);
  std::printf("\n  people agree                          ");
  for (const auto& point : curve.points) std::printf(" %5.1f%%", 100 * point.accuracy);
  std::printf("\n  confidence at least                   ");
  for (const auto& point : curve.points) std::printf("  %.3f", point.confidence);
  std::printf("\n  area under risk and coverage %.3f (random order %.3f, best possible %.3f)\n",
              curve.area, curve.random_area, curve.least_area);
  if (rule_.threshold > 1) {
    std::printf(
        "No threshold: these pairs do not show that a share of at most %g would be wrong "
        "anywhere. Everything goes to people.\n",
        options_.goal.risk);
  } else {
    std::printf(
        "Threshold %.2f: %.0f %% of them go straight, %lld of %lld wrong; at most a share of "
        "%g of what goes straight is wrong, with probability %g.\n",
        rule_.threshold,
        100.0 * static_cast<double>(rule_.straight) / static_cast<double>(rule_.judged),
        static_cast<long long>(rule_.wrong), static_cast<long long>(rule_.straight),
        options_.goal.risk, 1 - options_.goal.failure);
  }
  std::fflush(stdout);
  if (options_.report.empty()) return;
  Json points = Json::array();
  for (const auto& point : curve.points) {
    points.push_back({{"coverage", point.coverage},
                      {"accuracy", point.accuracy},
                      {"confidence", point.confidence}});
  }
  const Json report = {{"risk", options_.goal.risk},
                       {"failure", options_.goal.failure},
                       {"threshold", rule_.threshold > 1 ? Json() : Json(rule_.threshold)},
                       {"judged", rule_.judged},
                       {"straight", rule_.straight},
                       {"wrong", rule_.wrong},
                       {"area", curve.area},
                       {"random_area", curve.random_area},
                       {"least_area", curve.least_area},
                       {"points", points}};
  data::write_file_atomically(options_.report, report.dump(1) + "\n");
}

void Router::flush(std::vector<Output>& outputs) {
  std::vector<TokenIds> sequences;
  for (const auto& output : outputs) {
    for (const auto& response : output.responses) {
      sequences.push_back(tokens(output.prompt, output.is_messages, response));
    }
  }
  const auto all = score_sequences(*model_, sequences);
  size_t next = 0;
  for (const auto& output : outputs) {
    const std::vector<float> scores(
        all.begin() + static_cast<int64_t>(next),
        all.begin() + static_cast<int64_t>(next + output.responses.size()));
    next += output.responses.size();
    const auto choice = choose(scores, temperature_);
    const bool straight = choice.confidence >= rule_.threshold;
    reward::Random draw(static_cast<uint64_t>(options_.seed), lines_++);
    const bool audited =
        straight && static_cast<double>(draw.below(1U << 30)) < options_.audit * (1U << 30);
    char confidence[32];
    std::snprintf(confidence, sizeof confidence, "%.4f", choice.confidence);
    if (straight) {
      Json line;
      line[output.is_messages ? "messages" : "prompt"] =
          output.is_messages ? Json::parse(output.prompt) : Json(output.prompt);
      line["response"] = output.responses[choice.best];
      line["confidence"] = choice.confidence;
      line["scores"] = scores;
      line["audited"] = audited;
      straight_->write(line.dump());
      ++straight_lines_;
    }
    if (straight && !audited) continue;
    data::Question question;
    question.project = options_.project;
    question.prompt = output.prompt;
    question.prompt_is_messages = output.is_messages;
    question.kind =
        output.responses.size() == 2 ? data::QuestionKind::kPairwise : data::QuestionKind::kRanking;
    for (const auto& response : output.responses)
      question.candidates.push_back({"", response, "", ""});
    question.acquisition = std::string(straight ? kAudit : kUnsure) + ", confidence " + confidence;
    question.propensity = straight ? options_.audit : 1.0;
    question.reward_hash = reward_hash_;
    data::complete_question(question, options_.input + ", output " + std::to_string(lines_));
    people_->write(data::question_json(question));
    ++people_lines_;
    audited_lines_ += audited;
  }
  outputs.clear();
}

void Router::route() {
  straight_.emplace(options_.straight);
  people_.emplace(options_.people);
  Progress progress("route", 0, "outputs");
  std::vector<Output> outputs;
  for_each_line(options_.input, [&](const nlohmann::json& line, const std::string& where) {
    outputs.push_back(read_output(line, where));
    if (outputs.size() < kLines) return;
    flush(outputs);
    progress.update(lines_);
  });
  flush(outputs);
  std::printf("%llu outputs: %llu straight to %s, %llu to people in %s (%llu of them audits)\n",
              static_cast<unsigned long long>(lines_),
              static_cast<unsigned long long>(straight_lines_), options_.straight.c_str(),
              static_cast<unsigned long long>(people_lines_), options_.people.c_str(),
              static_cast<unsigned long long>(audited_lines_));
}

void Router::check(const std::filesystem::path& store) {
  const auto records = data::read_feedback(store);
  std::unordered_map<std::string, const data::Comparison*> comparisons;
  for (const auto& comparison : records.comparisons) comparisons[comparison.id] = &comparison;
  std::map<std::string, std::vector<const data::Comparison*>> audits;  // answers by question
  int64_t by_others = 0;
  for (const auto& answer : records.answers) {
    const auto found = comparisons.find(answer.id);
    if (!answer.acquisition.starts_with(kAudit) || found == comparisons.end()) continue;
    if (answer.provenance.reward_hash != reward_hash_) {
      ++by_others;
    } else if (found->second->outcome == data::Outcome::kOrdered) {
      audits[answer.question].push_back(found->second);
    }
  }
  std::vector<TokenIds> sequences;
  for (const auto& [question, answers] : audits) {
    for (const int64_t item : answers.front()->items) {
      const auto& text = records.items[static_cast<size_t>(item)];
      sequences.push_back(tokens(text.prompt, text.prompt_is_messages, text.text));
    }
  }
  const auto all = score_sequences(*model_, sequences);
  auto next = all.begin();
  int64_t right = 0, wrong = 0, even = 0;
  for (const auto& [question, answers] : audits) {
    const auto& items = answers.front()->items;
    const auto end = next + static_cast<int64_t>(items.size());
    const int64_t chosen = items[choose({next, end}, temperature_).best];
    next = end;
    int64_t balance = 0;  // people for the choice, less those against it
    for (const auto* answer : answers) balance += verdict_on(chosen, *answer);
    ++(balance > 0 ? right : balance < 0 ? wrong : even);
  }
  const auto interval = data::quality::confidence_sequence(wrong, wrong + right);
  const double share =
      wrong + right == 0 ? 0.0 : static_cast<double>(wrong) / static_cast<double>(wrong + right);
  std::printf(
      "%lld audited outputs judged: people would have chosen otherwise in %lld (share %.3f; "
      "95 %% interval %.3f to %.3f, whenever it is looked at); %lld even; %lld answers about "
      "another reward model left out\n",
      static_cast<long long>(wrong + right), static_cast<long long>(wrong), share, interval.low,
      interval.high, static_cast<long long>(even), static_cast<long long>(by_others));
  std::fflush(stdout);
  if (interval.low > options_.goal.risk) {
    throw data::Error("audits: more than a share of " + std::to_string(options_.goal.risk) +
                      " of what goes straight is wrong; send everything to people and train the "
                      "reward model on the answers");
  }
}

}  // namespace

void route_outputs(const RouteOptions& options) {
  Router router(options);
  router.learn();
  if (!options.input.empty()) router.route();
}

void check_audits(const RouteOptions& options, const std::filesystem::path& store) {
  Router(options).check(store);
}

}  // namespace hone::engine
