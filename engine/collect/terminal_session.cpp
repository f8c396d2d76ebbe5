#include "engine/collect/terminal_session.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <optional>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/sha256.h"
#include "engine/collect/key_reader.h"
#include "engine/collect/questions.h"
#include "engine/run/finished_run.h"
#include "engine/run/reward_files.h"
#include "engine/trainers/reward_trainer.h"

namespace hone::engine {
namespace {

// Few judgements: enough passes to be seen, a rate that does not forget the others.
constexpr double kUpdateEpochs = 8, kUpdateRate = 2e-4;

int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// What a key says about the pair as shown; nothing for keys that are no answer.
struct Answer {
  data::Outcome outcome = data::Outcome::kOrdered;
  uint8_t ranks[2] = {0, 0};
  int8_t strength = 0;
};

std::optional<Answer> answer_of(char key) {
  switch (key) {
    case '1':
      return Answer{.ranks = {0, 1}, .strength = 3};
    case '2':
      return Answer{.ranks = {0, 1}, .strength = 1};
    case '3':
      return Answer{.ranks = {1, 0}, .strength = 1};
    case '4':
      return Answer{.ranks = {1, 0}, .strength = 3};
    case '=':
      return Answer{};
    case '0':
      return Answer{.outcome = data::Outcome::kBothBad};
    case 's':
      return Answer{.outcome = data::Outcome::kSkipped};
    default:
      return std::nullopt;
  }
}

void show(const Question& question, size_t index, size_t count) {
  std::cout << "\n(" << index + 1 << "/" << count << ")  " << question.prompt << " ...\n\n"
            << "  A  " << question.prompt << question.answers[0] << "\n\n"
            << "  B  " << question.prompt << question.answers[1] << "\n\n"
            << (question.why.empty() ? "" : "Why this pair: " + question.why + ".\n\n")
            << "1 A much better  2 A  3 B  4 B much better  = tie  0 both bad  s skip  u undo  q "
               "quit: "
            << std::flush;
}

struct Answered {
  size_t question;
  Answer answer;
  std::string id;
};

class Session {
 public:
  Session(Workspace& workspace, const TerminalSessionOptions& options)
      : workspace_(workspace),
        options_(options),
        store_(data::Store::open(workspace.run().feedback())),
        policy_hash_(data::sha256_file(workspace.run().policy() / "model.safetensors")),
        sft_hash_(data::sha256_file(workspace.run().sft() / "model.safetensors")),
        reward_hash_(data::sha256_file(workspace.run().reward() / "model.safetensors")) {
    for (const auto& comparison : workspace.records().comparisons) {
      if (comparison.rater == options.rater) ++answered_before_;
    }
    const int64_t seed = options.seed >= 0 ? options.seed : answered_before_;
    questions_ = make_questions(workspace, options.pairs, seed);
  }

  bool has_questions() const { return !questions_.empty(); }
  void ask();
  void update_reward_model();
  void tell_verdict() const;

 private:
  void store(const Question& question, const Answer& answer, int64_t served_us,
             const std::string& supersedes);

  Workspace& workspace_;
  const TerminalSessionOptions& options_;
  data::Store store_;
  std::string policy_hash_, sft_hash_, reward_hash_;
  std::vector<Question> questions_;
  std::vector<Answered> answered_;
  int64_t answered_before_ = 0, answers_stored_ = 0;
};

void Session::store(const Question& question, const Answer& answer, int64_t served_us,
                    const std::string& supersedes) {
  data::StoreWriter writer(store_);
  data::Comparison comparison;
  for (int side = 0; side < 2; ++side) {
    data::Item item;
    item.prompt = question.prompt;
    item.text = question.answers[side];
    item.id = "collect-" + data::sha256_hex(question.prompt + "\n" + item.text).substr(0, 24);
    item.group = "collect-" + data::sha256_hex(question.prompt).substr(0, 12);
    item.source = "policy";
    item.policy_hash = question.trained[side] ? policy_hash_ : sft_hash_;
    comparison.items.push_back(writer.add_item(std::move(item)));
  }
  comparison.id = "collect-" + options_.rater + "-" + std::to_string(served_us) + "-" +
                  std::to_string(answers_stored_++);
  comparison.outcome = answer.outcome;
  if (answer.outcome == data::Outcome::kOrdered) {
    comparison.ranks = {answer.ranks[0], answer.ranks[1]};
  }
  comparison.shown = {0, 1};
  comparison.strength = answer.strength;
  comparison.rater = options_.rater;
  comparison.provenance.source = "collect";
  comparison.provenance.kind = "same-person";
  comparison.provenance.reward_hash = reward_hash_;
  comparison.provenance.propensity = question.propensity;
  comparison.provenance.served_us = served_us;
  comparison.provenance.answered_us = now_us();
  comparison.provenance.supersedes = supersedes;
  answered_.back().id = comparison.id;
  writer.add_comparison(std::move(comparison));
  writer.seal();
}

void Session::ask() {
  KeyReader keys;
  std::string supersedes;
  size_t index = 0;
  while (index < questions_.size()) {
    const int64_t served = now_us();
    show(questions_[index], index, questions_.size());
    std::optional<Answer> answer;
    while (!answer) {
      const char key = keys.read();
      if (key == 0 || key == 'q') {
        std::cout << "\n";
        return;
      }
      if (key == 'u' && !answered_.empty()) break;
      answer = answer_of(key);
    }
    if (!answer) {  // undo: the question comes again, its new answer supersedes the old one
      supersedes = answered_.back().id;
      index = answered_.back().question;
      answered_.pop_back();
      continue;
    }
    answered_.push_back({index, *answer, ""});
    store(questions_[index], *answer, served, supersedes);
    supersedes.clear();
    ++index;
    std::cout << "saved\n";
  }
}

void Session::tell_verdict() const {
  int64_t trained = 0, before = 0, neither = 0;
  for (const auto& a : answered_) {
    if (a.answer.outcome != data::Outcome::kOrdered || a.answer.ranks[0] == a.answer.ranks[1]) {
      ++neither;
    } else {
      const int better = a.answer.ranks[0] < a.answer.ranks[1] ? 0 : 1;
      (questions_[a.question].trained[better] ? trained : before) += 1;
    }
  }
  std::cout << "\nOf " << answered_.size() << " pairs you put the trained policy first " << trained
            << " times, the one before training " << before << " times, neither " << neither
            << " times.\n";
}

void Session::update_reward_model() {
  data::Records mine;
  std::vector<TokenIds> tokens;
  std::vector<size_t> used;
  for (const auto& a : answered_) {
    if (a.answer.outcome != data::Outcome::kOrdered) continue;
    data::Comparison comparison;
    for (int side = 0; side < 2; ++side) {
      data::Item item;
      item.id = std::to_string(tokens.size());
      item.group = std::to_string(a.question);
      comparison.items.push_back(static_cast<int64_t>(tokens.size()));
      mine.items.push_back(item);
      tokens.push_back(questions_[a.question].tokens[side]);
    }
    comparison.ranks = {a.answer.ranks[0], a.answer.ranks[1]};
    comparison.rater = options_.rater;
    mine.comparisons.push_back(std::move(comparison));
    used.push_back(a.question);
  }
  if (mine.comparisons.empty()) {
    std::cout << "No ordered pair to learn from.\n";
    return;
  }
  const auto& run = workspace_.run();
  const auto model = load_model(run.reward(), HeadKind::kScalar);
  const auto file = read_reward_file(run.reward());
  const auto preference = [&](const std::vector<float>& scores, size_t pair) {
    const double temperature = file.temperature > 0 ? file.temperature : 1.0;
    return 1.0 / (1.0 + std::exp(-(scores[2 * pair] - scores[2 * pair + 1]) / temperature));
  };
  const auto before = score_sequences(*model, tokens);
  RewardTrainingOptions training;
  training.epochs = kUpdateEpochs;
  training.dropout = 0.0;
  training.optimizer.lr = kUpdateRate;
  training.optimizer.schedule = "constant";
  Metrics silent("", true);
  train_reward(*model, reward::PreferenceData(mine, {}), tokens, training, workspace_.seed(),
               silent);
  const auto after = score_sequences(*model, tokens);
  std::cout
      << "\nThe reward model's probability that A is better, before and after your answers:\n";
  for (size_t p = 0; p < used.size(); ++p) {
    const auto& ranks = mine.comparisons[p].ranks;
    const char* yours = ranks[0] < ranks[1] ? "A" : ranks[0] > ranks[1] ? "B" : "tie";
    std::printf("  pair %2zu  you: %-3s  %.2f -> %.2f\n", used[p] + 1, yours, preference(before, p),
                preference(after, p));
  }
  const auto directory = run.root / "reward-mine";
  copy_tokenizer(run.reward(), directory);
  save_model(*model, directory);
  write_reward_file(directory, file);
  std::cout << "Updated reward model: " << directory.string() << "\n";
}

}  // namespace

void run_terminal_session(const TerminalSessionOptions& options) {
  FinishedRun finished(options.run, {"import", "sft", "reward", "train"});
  Workspace& workspace = finished.workspace();
  Session session(workspace, options);
  if (!session.has_questions()) {
    std::cout << "Nothing to compare: the policy answers every held-out prompt as it did before "
                 "training.\n";
    return;
  }
  session.ask();
  session.tell_verdict();
  session.update_reward_model();
  std::cout << "Your answers are in " << workspace.run().feedback().string()
            << " (hone inspect shows them).\n";
}

}  // namespace hone::engine
