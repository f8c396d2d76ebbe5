// The advantage kernels against the CPU op: both rules, packed, padded and strided rows.

#include <gtest/gtest.h>

#include <deque>
#include <random>

#include "kernels/advantage_rows.h"
#include "kernels/cuda/launchers.h"
#include "tests/kernels/advantage_reference.h"
#include "tests/kernels/cuda/device_run.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using hone::test::expect_close;
using hone::test::from_device;
using hone::test::GlobalBuffer;
using test::Case;
using test::CaseTensors;

/// Device copies of what tensors point into, gaps between rows included.
class Arena {
 public:
  template <typename T>
  math::Column<const T> column(const OptionalTensor& x, int64_t width) {
    if (!x.has_value()) return {};
    const int64_t elements = static_cast<int64_t>(x->storage().nbytes() / sizeof(T));
    const T* data = keep<T>(x->as_strided({elements}, {1}, 0));
    return {data + x->storage_offset(), x->dim() == 2 ? x->stride(0) - width : 0};
  }
  template <typename T>
  const T* array(const OptionalTensor& x) {
    return x.has_value() ? keep<T>(*x) : nullptr;
  }

 private:
  template <typename T>
  const T* keep(const Tensor& x) {
    const Tensor held = x.contiguous();
    return std::get<std::deque<GlobalBuffer<T>>>(held_)
        .emplace_back(static_cast<const T*>(held.const_data_ptr()),
                      static_cast<size_t>(held.numel()), "input")
        .data();
  }
  std::tuple<std::deque<GlobalBuffer<float>>, std::deque<GlobalBuffer<double>>,
             std::deque<GlobalBuffer<int64_t>>, std::deque<GlobalBuffer<uint8_t>>>
      held_;
};

template <typename T>
void expect_cpu_op(const Case& c, int64_t junk, double tolerance, bool every_layout = true) {
  constexpr auto kType = c10::CppTypeToScalarType<T>::value;
  const CaseTensors t(c, kType, junk);
  const Advantages want = t.run(c.options);
  const AdvantageOptions& o = c.options;
  const auto settings = advantage_settings(o.kl_coef, o.kl_estimator, o.kl_clamp, o.placement,
                                           o.estimator, o.gamma, o.lambda, o.rho_clip, o.c_clip);
  const int64_t n = t.old.numel(), sequences = static_cast<int64_t>(c.rows.size());
  std::vector<Tensor> first;
  const auto run = [&] {
    Arena in;
    const auto column = [&](const OptionalTensor& x) { return in.column<T>(x, c.width); };
    const auto size = static_cast<size_t>(n);
    const GlobalBuffer<T> advantages(size, "advantages"), returns(size, "returns"),
        rewards(size, "rewards");
    const GlobalBuffer<double> stats(4, "stats");
    const GlobalBuffer<double> workspace(cuda::advantage_workspace_bytes<T>(n) / sizeof(double) + 1,
                                         "workspace");
    const std::vector<uint64_t> zeros(static_cast<size_t>(cuda::advantage_words(n)));
    const GlobalBuffer<uint64_t> words(zeros, "words");
    const math::AdvantageRows<T> rows{column(t.old),
                                      column(t.ref),
                                      column(t.values),
                                      column(t.extras.token_rewards),
                                      column(t.extras.logp_behaviour),
                                      in.column<uint8_t>(t.mask, c.width),
                                      in.array<T>(t.scores),
                                      in.array<T>(t.extras.bootstrap_values),
                                      in.array<int64_t>(t.cu_seqlens),
                                      in.array<int64_t>(t.extras.lengths),
                                      c.width,
                                      advantages.data(),
                                      returns.data(),
                                      o.store_rewards ? rewards.data() : nullptr,
                                      n,
                                      sequences};
    const cuda::AdvantageArgs<T> args{rows,         cast<T>(settings.params), settings.vtrace,
                                      stats.data(), workspace.data(),         words.data()};
    EXPECT_EQ(cuda::launch_advantages(args, nullptr), cudaSuccess);
    EXPECT_EQ(words.host(), zeros);
    std::vector<Tensor> results{from_device(advantages), from_device(returns), from_device(stats)};
    if (first.empty()) first = results;
    for (size_t i = 0; i < results.size(); ++i) {  // whichever block was faster
      EXPECT_TRUE(at::equal(results[i], first[i])) << "bits of result " << i;
    }
    const auto close = [&](const GlobalBuffer<T>& got, const Tensor& wanted, const char* what) {
      expect_close(from_device(got), wanted.flatten(), tolerance, tolerance, what);
    };
    close(advantages, want.advantages, "advantages");
    close(returns, want.returns, "returns");
    if (o.store_rewards) close(rewards, want.rewards, "rewards");
    const double count = std::max(1.0, want.stats[2].item<double>());
    expect_close(from_device(stats) / count, want.stats / count, tolerance, tolerance, "stats");
  };
  if (!every_layout) return run();
  hone::test::on_every_layout(run);
}

TEST(CudaAdvantages, AreTheCpuOpOnRandomBatches) {
  std::mt19937 rng(1);
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE(round);
    Case c = test::random_case(rng, static_cast<int64_t>(rng() % 7), 90);
    c.options.store_rewards = round % 3 != 0;
    const int64_t junk = round % 2 ? 3 : 0;
    if (round % 4 == 0) {
      expect_cpu_op<float>(c, junk, 1e-4);
    } else {
      expect_cpu_op<double>(c, junk, 1e-10);
    }
    if (::testing::Test::HasFailure()) return;
  }
}

/// More than one tile of 2048 entries, rows that span tiles, many rows in one tile.
TEST(CudaAdvantages, AreTheCpuOpAcrossTiles) {
  std::mt19937 rng(2);
  const std::pair<int64_t, int64_t> shapes[] = {{1, 9000}, {3, 2048}, {700, 5}, {2500, 1}};
  for (const auto& [rows, length] : shapes) {
    for (const char* estimator : {"gae", "vtrace"}) {
      Case c = test::random_case(rng, 0, 0);
      c.width = length;
      c.with_lengths = c.with_lengths && c.padded;
      for (int64_t i = 0; i < rows; ++i) c.rows.push_back(test::random_row(rng, length));
      c.options.estimator = estimator;
      expect_cpu_op<double>(c, 0, 1e-9);
    }
  }
}

/// Rows that end just before, with and just after a tile, with empty ones and single entries
/// between; every entry trained, so that the plainest path runs too.
TEST(CudaAdvantages, AreTheCpuOpAtTheEdgesOfTiles) {
  std::mt19937 rng(4);
  for (const bool masked : {false, true}) {
    Case c = test::random_case(rng, 0, 0);
    c.padded = c.with_lengths = false;
    c.with_mask = masked;
    c.with_ref = c.with_values = c.with_scores = true;
    c.options.estimator = "gae";
    c.options.placement = "last";
    c.options.gamma = c.options.lambda = 0.9999;
    for (const int64_t length : {0, 2047, 1, 2048, 0, 0, 2049, 1, 1, 4095, 4096, 4097, 3, 0}) {
      c.rows.push_back(test::random_row(rng, length));
    }
    expect_cpu_op<double>(c, 0, 1e-9);
    expect_cpu_op<float>(c, 0, 1e-3, /*every_layout=*/false);  // 4000 steps of size 1
  }
}

/// More tiles than one group of tickets holds: a row that waits for the state of the group before,
/// masked from its middle on, where every tile looks for a trained entry.
TEST(CudaAdvantages, AreTheCpuOpAcrossGroupsOfTiles) {
  std::mt19937 rng(3);
  Case c = test::random_case(rng, 0, 0);
  c.padded = c.with_lengths = false;
  c.with_mask = true;
  constexpr int64_t kLength = 270000;  // 132 tiles; a group is 128
  c.rows = {test::random_row(rng, kLength), test::random_row(rng, 3)};
  for (size_t t = 0; t < kLength; ++t) c.rows[0].kept[t] = t < kLength / 2;
  c.options.estimator = "gae";
  c.options.gamma = c.options.lambda = 0.999999;  // what enters from afar counts
  expect_cpu_op<double>(c, 0, 1e-8, /*every_layout=*/false);
}

}  // namespace
}  // namespace hone::kernels
