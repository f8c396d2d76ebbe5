// What ranks cost and save, measured on the machine's own: started by any launcher, e.g.
//
//   torchrun --no-python --nproc-per-node 2 build/bin/ranks_bench collectives
//   torchrun --no-python --nproc-per-node 2 build/bin/ranks_bench overlap
//   torchrun --no-python --nproc-per-node 2 build/bin/ranks_bench train --zero 2
//
// collectives: seconds and bus bandwidth by size (as nccl-tests count it: all_reduce 2 (W-1)/W of
// the bytes, the others (W-1)/W). overlap: the share of a slow link's reduction time that the
// backward pass hides, and of its gathering of parameters that the next forward pass does; the link
// is a communicator that holds every exchange back by bytes / bandwidth, one after another. train:
// tokens a second, share of the machine's peak and peak memory of each rank. JSON, from rank 0.

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "engine/distributed/rank_group.h"
#include "engine/models/causal_lm.h"
#include "engine/optim/gradient_exchange.h"
#include "engine/optim/optimizer.h"
#include "engine/trainers/lm_trainer.h"
#include "engine/trainers/step_figures.h"
#include "engine/trainers/utilization.h"

namespace {

using namespace hone::engine;
using Clock = std::chrono::steady_clock;
using nlohmann::json;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// A link of so many bytes a second that carries one exchange at a time, its duplicates' too.
class SlowLink : public Communicator {
 public:
  SlowLink(Communicator& ranks, double bandwidth)
      : ranks_(ranks), link_(std::make_shared<Link>(bandwidth)) {}
  int64_t rank() const override { return ranks_.rank(); }
  int64_t world() const override { return ranks_.world(); }
  Pending all_reduce(const at::Tensor& v, Reduction r, const char* w) override {
    return ranks_.all_reduce(v, r, w);
  }
  Pending reduce_scatter(const at::Tensor& o, const at::Tensor& i, const char* w) override {
    return ranks_.reduce_scatter(o, i, w);
  }
  Pending all_gather(const at::Tensor& o, const at::Tensor& i, const char* w) override {
    return late(ranks_.all_gather(o, i, w), (world() - 1) * static_cast<int64_t>(i.nbytes()));
  }
  Pending broadcast(const at::Tensor& v, int64_t root, const char* w) override {
    return ranks_.broadcast(v, root, w);
  }
  Pending all_to_all(const at::Tensor& o, const at::Tensor& i, const char* w) override {
    return late(ranks_.all_to_all(o, i, w),
                (world() - 1) * static_cast<int64_t>(i.nbytes()) / world());
  }
  void barrier(const char* w, bool patient) override { ranks_.barrier(w, patient); }
  std::unique_ptr<Communicator> duplicate(const std::string& name) override {
    auto own = ranks_.duplicate(name);
    auto copy = std::make_unique<SlowLink>(*own, 0.0);
    copy->link_ = link_;
    copy->owned_ = std::move(own);
    return copy;
  }
  /// Seconds that the link was busy since the last call.
  double busy() { return std::exchange(link_->total, 0.0); }

 private:
  struct Link {
    explicit Link(double bandwidth) : bandwidth(bandwidth) {}
    double bandwidth, total = 0;
    Clock::time_point free = Clock::now();
  };
  Pending late(Pending inner, int64_t bytes) {
    const std::chrono::duration<double> busy(static_cast<double>(bytes) / link_->bandwidth);
    link_->free =
        std::max(link_->free, Clock::now()) + std::chrono::duration_cast<Clock::duration>(busy);
    link_->total += busy.count();
    return Pending(std::make_unique<Late>(std::move(inner), link_->free));
  }
  class Late : public Pending::Work {
   public:
    Late(Pending inner, Clock::time_point arrival) : inner_(std::move(inner)), arrival_(arrival) {}
    void wait() override {
      inner_.wait();
      std::this_thread::sleep_until(arrival_);
    }

   private:
    Pending inner_;
    Clock::time_point arrival_;
  };
  Communicator& ranks_;
  std::unique_ptr<Communicator> owned_;  // of a duplicate
  std::shared_ptr<Link> link_;
};

struct Options {
  int64_t hidden = 256, layers = 8, vocabulary = 512, tokens = 1024, steps = 5, zero = 0;
  double bucket_megabytes = 1, link_share = 0.6;
};

CausalLM make_model(const Options& options) {
  ModelConfig config;
  config.vocab_size = options.vocabulary;
  config.hidden_size = options.hidden;
  config.intermediate_size = options.hidden * 11 / 4;
  config.layers = options.layers;
  config.heads = config.kv_heads = 4;
  config.head_dim = options.hidden / 4;
  config.max_positions = 256;
  config.tie_embeddings = true;
  return CausalLM(config, HeadKind::kLanguageModel);
}

std::vector<TrainingText> make_texts(const Options& options, int64_t tokens) {
  std::vector<TrainingText> texts;
  for (int64_t made = 0; made < tokens; made += 128) {
    TrainingText text;
    for (int64_t i = 0; i < 129; ++i) {
      text.tokens.push_back(static_cast<int32_t>((made * 7 + i * i) % options.vocabulary));
    }
    texts.push_back(std::move(text));
  }
  return texts;
}

json collectives(Communicator& ranks) {
  json rows = json::array();
  const auto world = static_cast<double>(ranks.world());
  const auto part = (world - 1) / world;
  for (int64_t bytes = 1 << 12; bytes <= 1 << 26; bytes <<= 2) {
    const int64_t elements = bytes / 4 / ranks.world() * ranks.world();
    const auto whole = at::full({elements}, 1.0, at::kFloat), other = at::empty_like(whole);
    const auto piece = at::full({elements / ranks.world()}, 1.0, at::kFloat);
    const auto measure = [&](const char* name, double factor, const std::function<Pending()>& act) {
      const int repeats = bytes <= 1 << 20 ? 20 : 4;
      act().wait();
      ranks.barrier(name);
      const auto start = Clock::now();
      for (int i = 0; i < repeats; ++i) act().wait();
      const double seconds = seconds_since(start) / repeats;
      rows.push_back({{"collective", name},
                      {"bytes", elements * 4},
                      {"seconds", seconds},
                      {"bus_gigabytes_per_second",
                       factor * static_cast<double>(elements * 4) / seconds / 1e9}});
    };
    measure("all_reduce", 2 * part, [&] { return ranks.all_reduce(whole, Reduction::kMax, "a"); });
    measure("reduce_scatter", part, [&] { return ranks.reduce_scatter(piece, whole, "r"); });
    measure("all_gather", part, [&] { return ranks.all_gather(other, piece, "g"); });
    measure("all_to_all", part, [&] { return ranks.all_to_all(other, whole, "x"); });
    measure("broadcast", 1.0, [&] { return ranks.broadcast(whole, 0, "b"); });
  }
  return rows;
}

/// Share of the link's time for parameters that the forward pass after a step hides.
json gather_overlap(Communicator& ranks, const Options& options,
                    const std::vector<const TrainingText*>& texts) {
  auto model = make_model(options);
  model.initialize(1);
  const auto forward = [&] {
    const auto start = Clock::now();
    Clock::time_point end;
    accumulate_lm_gradients(model, texts, 0, 0, [&] { end = Clock::now(); });
    return std::chrono::duration<double>(end - start).count();
  };
  model.parameters().enable_grad();
  forward();
  double plain = 1e9;
  for (int64_t i = 0; i < options.steps; ++i) plain = std::min(plain, forward());
  auto slowest = at::full({1}, plain, at::kDouble);
  ranks.all_reduce(slowest, Reduction::kMax, "forward seconds").wait();
  const double share = static_cast<double>(ranks.world() - 1) / static_cast<double>(ranks.world());
  const double bytes = static_cast<double>(model.parameters().data().nbytes()) * share;
  SlowLink link(ranks, bytes / (options.link_share * slowest.item<double>()));
  const RankPlan plan{&link, ranks.world(), 1,
                      static_cast<int64_t>(options.bucket_megabytes * (1 << 20))};
  json found = {{"forward_seconds", plain}};
  for (const bool overlapped : {false, true}) {
    ParameterGather gather(model.parameters(), plan, /*in_parts=*/false);
    double waited = 0, busy = 0;
    for (int64_t i = -1; i < options.steps; ++i) {
      ranks.barrier("step");
      link.busy();
      gather.waited();
      gather.send_changes();
      if (!overlapped) gather.hold_whole();
      forward();
      const double step_waited = gather.waited(), step_busy = link.busy();
      if (i < 0) continue;
      waited += step_waited;
      busy += step_busy;
    }
    found[overlapped ? "overlapped" : "before_forward"] = {
        {"link_seconds", busy},
        {"waited_seconds", waited},
        {"hidden_share", 1.0 - std::min(1.0, waited / busy)}};
  }
  return found;
}

/// Share of the link's time that backward passes hide.
json overlap(Communicator& ranks, const Options& options) {
  auto model = make_model(options);
  model.initialize(1);
  model.parameters().enable_grad();
  const auto texts = make_texts(options, options.tokens);
  std::vector<const TrainingText*> mine;
  for (const auto& text : texts) mine.push_back(&text);
  Clock::time_point backward;
  const auto pass = [&](GradientExchange* exchange) {
    accumulate_lm_gradients(model, mine, 0, 0, [&] {
      if (exchange) exchange->expect_last_backward();
      backward = Clock::now();
    });
    return seconds_since(backward);
  };
  pass(nullptr);
  double plain = 1e9;
  for (int64_t i = 0; i < options.steps; ++i) plain = std::min(plain, pass(nullptr));
  auto slowest = at::full({1}, plain, at::kDouble);
  ranks.all_reduce(slowest, Reduction::kMax, "backward seconds").wait();
  const double share = static_cast<double>(ranks.world() - 1) / static_cast<double>(ranks.world());
  const double bytes = static_cast<double>(model.parameters().data().nbytes()) * share;
  const double bandwidth = bytes / (options.link_share * slowest.item<double>());
  SlowLink link(ranks, bandwidth);
  const RankPlan plan{&link, ranks.world(), 0,
                      static_cast<int64_t>(options.bucket_megabytes * (1 << 20))};
  json found = {{"backward_seconds", plain},
                {"link_bytes_per_second", bandwidth},
                {"parameters", model.parameters().data().numel()}};
  for (const bool overlapped : {false, true}) {
    GradientExchange exchange(model.parameters(), plan);
    double waited = 0, busy = 0;
    for (int64_t i = -1; i < options.steps; ++i) {  // the first agrees on the order
      ranks.barrier("step");
      pass(overlapped ? &exchange : nullptr);
      exchange.end_shard();
      exchange.finish();
      model.parameters().zero_grad();
      const double step_waited = exchange.waited(), step_busy = link.busy();
      if (i < 0) continue;
      waited += step_waited;
      busy += step_busy;
    }
    found[overlapped ? "overlapped" : "after_backward"] = {
        {"link_seconds", busy},
        {"waited_seconds", waited},
        {"hidden_share", 1.0 - std::min(1.0, waited / busy)}};
  }
  found["parameters_gathered"] = gather_overlap(ranks, options, mine);
  return found;
}

json train(Communicator& ranks, const Options& options) {
  auto model = make_model(options);
  model.initialize(1);
  const double peak_flops = measured_matrix_flops();
  const RankPlan plan{&ranks, ranks.world(), options.zero,
                      static_cast<int64_t>(options.bucket_megabytes * (1 << 20))};
  if (options.zero == 3) keep_own_part(model.parameters(), plan);
  reset_peak_memory();
  const double before = peak_memory_bytes();
  const auto texts = make_texts(options, options.tokens / ranks.world());
  std::vector<const TrainingText*> mine;
  for (const auto& text : texts) mine.push_back(&text);
  Optimizer optimizer(model.parameters(), {}, options.steps + 1, plan);
  Clock::time_point start;
  for (int64_t step = -1; step < options.steps; ++step) {
    if (step == 0) start = Clock::now();  // the first touches all memory
    accumulate_lm_gradients(model, mine, 0, 0, [&] { optimizer.expect_last_backward(); });
    optimizer.end_shard();
    optimizer.step();
  }
  const double seconds = seconds_since(start);
  auto memory = at::zeros({2 * ranks.world()}, at::kDouble);
  memory[2 * ranks.rank()].fill_(before);
  memory[2 * ranks.rank() + 1].fill_(peak_memory_bytes());
  ranks.all_reduce(memory, Reduction::kSum, "memory").wait();
  json peaks = json::array(), befores = json::array();
  for (int64_t rank = 0; rank < ranks.world(); ++rank) {
    befores.push_back(memory[2 * rank].item<double>());
    peaks.push_back(memory[2 * rank + 1].item<double>());
  }
  const auto tokens = static_cast<double>(mine.size()) * 128;  // of a rank, in a step
  const double speed = tokens * static_cast<double>(options.steps) / seconds;
  return {{"parameters", model.parameters().data().numel()},
          {"zero", options.zero},
          {"ranks", ranks.world()},
          {"seconds", seconds},
          {"tokens_per_second", speed * static_cast<double>(ranks.world())},
          {"rank_tokens_per_second", speed},
          {"rank_peak_flops", peak_flops},
          {"mfu", speed * training_flops(model, 128) / peak_flops},
          {"memory_before", befores},
          {"memory_peak", peaks}};
}

int run(int argc, char** argv) {
  CLI::App app{"Collectives, overlap and training of several ranks"};
  app.require_subcommand(1);
  Options options;
  std::function<json(Communicator&)> work;
  const auto add = [&](const char* name, const char* what, std::function<json(Communicator&)> act) {
    auto* command = app.add_subcommand(name, what);
    command->add_option("--hidden", options.hidden, "Width");
    command->add_option("--layers", options.layers, "Blocks");
    command->add_option("--vocabulary", options.vocabulary, "Tokens known");
    command->add_option("--tokens", options.tokens, "Tokens of a step");
    command->add_option("--steps", options.steps, "Steps measured");
    command->add_option("--zero", options.zero, "0 | 1 | 2 | 3");
    command->add_option("--bucket-megabytes", options.bucket_megabytes, "Size of a bucket");
    command->add_option("--link-share", options.link_share, "Link time over backward time");
    command->callback([&work, act = std::move(act)] { work = act; });
  };
  add("collectives", "Bus bandwidth by size", collectives);
  add("overlap", "Reduction hidden by backward",
      [&](Communicator& r) { return overlap(r, options); });
  add("train", "Tokens a second, peak memory", [&](Communicator& r) { return train(r, options); });
  CLI11_PARSE(app, argc, argv);
  RankGroup group(rank_environment(), "ranks_bench");
  const json found = work(group.communicator());
  group.communicator().barrier("end");
  if (group.communicator().leads()) std::cout << found.dump(1) << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "ranks_bench: " << error.what() << "\n";
    return 1;
  }
}
