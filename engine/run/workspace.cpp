#include "engine/run/workspace.h"

#include <chrono>
#include <unordered_set>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/journal/journal.h"
#include "engine/run/preconditions.h"
#include "engine/runtime/iso_time.h"

namespace hone::engine {

Workspace::Workspace(Recipe recipe, std::filesystem::path recipe_dir, RunDirectory run,
                     Metrics& metrics, Communicator& communicator, at::Device device)
    : recipe_(std::move(recipe)),
      recipe_dir_(std::move(recipe_dir)),
      run_(std::move(run)),
      metrics_(metrics),
      communicator_(communicator),
      device_(device) {}

std::unique_ptr<CausalLM> Workspace::load(const std::filesystem::path& directory,
                                          HeadKind head) const {
  return load_model(directory, head, at::kFloat, device_);
}

void Workspace::lead(const std::function<void()>& work) {
  if (communicator_.leads()) work();
  communicator_.barrier("work of rank 0", /*patient=*/true);
}

std::string Workspace::led(const std::function<std::string()>& make) {
  std::string text;
  lead([&] { text = make(); });
  return broadcast_bytes(communicator_, text, 0, "what rank 0 has made");
}

void Workspace::begin_stage(const std::string& name, const std::string& hash, bool strict,
                            bool fresh) {
  checkpointer_.reset();
  stage_ = {.folder = run_.checkpoints(name),
            .stage = name,
            .options = recipe_.checkpoint,
            .recipe = hash,
            .strict = strict,
            .fresh = fresh,
            .other_stages = {"pretrain", "sft", "reward"},
            .started = iso_time()};
  stage_.other_stages.erase(name);
}

TrainingContext Workspace::training() {
  checkpointer_ = std::make_unique<Checkpointer>(stage_, metrics_, communicator_);
  TrainingContext context(metrics_, communicator_);
  context.shards = recipe_.ranks.shards_of(communicator_.world());
  context.zero = recipe_.ranks.zero;
  context.frozen_in_parts = recipe_.ranks.frozen_in_parts();
  context.bucket_bytes = static_cast<int64_t>(recipe_.ranks.bucket_megabytes * (1 << 20));
  context.checkpointer = checkpointer_.get();
  return context;
}

void Workspace::end_stage(const std::string& name) {
  checkpointer_.reset();
  if (!communicator_.leads()) return;
  try {
    Checkpointer::clear(run_.checkpoints(name), recipe_.checkpoint);
  } catch (const std::exception& error) {  // what the stage has made is whole: the next run clears
    metrics_.warn("[" + name + "] its checkpoints stay: " + error.what());
  }
}

std::string Workspace::stage_started() const {
  return checkpointer_ ? checkpointer_->started() : stage_.started;
}

double Workspace::stage_seconds() const {
  const auto here = std::chrono::steady_clock::now() - stage_.begin;
  return (checkpointer_ ? checkpointer_->seconds_before() : 0.0) +
         std::chrono::duration<double>(here).count();
}

std::string Workspace::expand(const std::string& text) const {
  return expand_placeholders(text, recipe_dir_, run_.root);
}

std::vector<std::string> Workspace::expand(const std::vector<std::string>& command) const {
  std::vector<std::string> expanded;
  for (const auto& argument : command) expanded.push_back(expand(argument));
  return expanded;
}

const data::Records& Workspace::records() {
  if (!records_) records_ = data::read_feedback(run_.feedback());
  return *records_;
}

const TextCodec& Workspace::codec() {
  if (!codec_) {
    const auto config_path = run_.pretrain() / "config.json";
    const auto config = ModelConfig::from_json(data::read_file(config_path), config_path.string());
    codec_.emplace(TextCodec::load(run_.pretrain(), config, recipe_.data.max_tokens));
  }
  return *codec_;
}

void Workspace::use_codec(TextCodec codec) {
  codec_.emplace(std::move(codec));
  item_tokens_.clear();
}

std::vector<int64_t> Workspace::items_of(data::Split split) {
  std::vector<int64_t> found;
  const auto& items = records().items;
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].split == split) found.push_back(static_cast<int64_t>(i));
  }
  return found;
}

std::pair<std::string, std::string> Workspace::parts(int64_t item) {
  return codec().prompt_and_answer(records().items[static_cast<size_t>(item)],
                                   recipe_.data.prompt_words);
}

std::string Workspace::whole_text(int64_t item) {
  const auto [prompt, answer] = parts(item);
  return prompt + answer;
}

const std::vector<TokenIds>& Workspace::item_tokens() {
  if (item_tokens_.empty()) {
    item_tokens_.reserve(records().items.size());
    for (size_t i = 0; i < records().items.size(); ++i) {
      const auto [prompt, answer] = parts(static_cast<int64_t>(i));
      item_tokens_.push_back(codec().text(prompt, answer).tokens);
    }
  }
  return item_tokens_;
}

std::vector<Workspace::Prompt> Workspace::prompts(data::Split split) {
  std::vector<Prompt> found;
  std::unordered_set<std::string> seen;
  const auto add = [&](const std::string& group, const std::string& text) {
    if (text.empty() || !seen.insert(group + '\n' + text).second) return;
    found.push_back({text, codec().prompt(text, recipe_.train.sampling().max_new_tokens)});
  };
  for (const int64_t item : items_of(split)) {
    add(records().items[static_cast<size_t>(item)].group, parts(item).first);
  }
  if (found.empty()) {
    for (const auto& demonstration : records().demonstrations) {
      if (demonstration.split != split) continue;
      add(demonstration.group,
          codec().prompt_text(demonstration.prompt, demonstration.prompt_is_messages));
    }
  }
  if (found.empty()) throw no_prompts(run_, split);
  return found;
}

void copy_tokenizer(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::filesystem::create_directories(to);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                           "chat_template.jinja"}) {
    if (!std::filesystem::exists(from / name)) continue;
    data::write_file_atomically(to / name, data::read_file(from / name));
  }
}

}  // namespace hone::engine
