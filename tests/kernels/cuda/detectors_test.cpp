// Each thing that the fiber runs promise to report, provoked by a kernel that does it.

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "kernels/device/collectives.h"
#include "tests/support/fiber/global_buffer.h"

namespace hone::kernels {
namespace {

using namespace device;
using fiber::GlobalBuffer;
using fiber::KernelFault;
using fiber::Placement;

/// The message of the fault that `launch` must end in.
std::string fault_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const KernelFault& fault) {
    return fault.what();
  }
  return "no fault";
}

void expect_fault(const std::function<void()>& run, const std::vector<std::string>& parts) {
  const std::string got = fault_of(run);
  for (const std::string& part : parts) {
    EXPECT_NE(got.find(part), std::string::npos) << "expected \"" << part << "\", got: " << got;
  }
}

class Detectors : public ::testing::Test {
 protected:
  void TearDown() override {
    fiber::placement() = Placement::kEnd;
    fiber::schedule() = {};
  }
};

HONE_KERNEL(64) copy_kernel(const float* x, float* y, int64_t n, int64_t shift) {
  const int64_t i = block_index() * block_threads() + thread_index();
  if (i < n) y[i] = x[i + shift];
}

TEST_F(Detectors, ReadBeyondABuffer) {
  for (const int64_t n : {1, 33, 1024, 5000}) {
    GlobalBuffer<float> x(n, "x"), y(n, "y");
    const auto run = [&](int64_t shift) {
      launch(copy_kernel, (n + 63) / 64, 64, 0, nullptr, x.data(), y.data(), n, shift);
    };
    EXPECT_EQ(fault_of([&] { run(0); }), "no fault");
    const auto where = "access at byte " + std::to_string(4 * n);
    expect_fault([&] { run(1); }, {"thread " + std::to_string((n - 1) % 64), "buffer x", where});
  }
}

TEST_F(Detectors, ReadBeforeABuffer) {
  fiber::placement() = Placement::kStart;
  GlobalBuffer<float> x(33, "x"), y(33, "y");
  expect_fault([&] { launch(copy_kernel, 1, 64, 0, nullptr, x.data(), y.data(), 33, -1); },
               {"block 0, thread 0", "buffer x", "access at byte -4"});
}

TEST_F(Detectors, WriteBeyondABuffer) {
  for (const Placement placement : {Placement::kEnd, Placement::kAlignedEnd, Placement::kStart}) {
    fiber::placement() = placement;
    GlobalBuffer<float> x(64, "x"), y(33, "y");
    expect_fault([&] { launch(copy_kernel, 1, 64, 0, nullptr, x.data(), y.data(), 34, 0); },
                 {"buffer y"});
  }
}

HONE_KERNEL(32) null_kernel(const float* x, float* y) { y[thread_index()] = x[thread_index()]; }

TEST_F(Detectors, NullPointer) {
  GlobalBuffer<float> y(32, "y");
  const float* none = nullptr;
  expect_fault([&] { launch(null_kernel, 1, 32, 0, nullptr, none, y.data()); },
               {"thread 0", "address 0", "in no buffer"});
}

HONE_KERNEL(32) vector_kernel(const float* x, float* y) {
  store_vector(y, 4 * thread_index(), load_vector<4>(x, 4 * thread_index()));
}

TEST_F(Detectors, MisalignedVector) {
  fiber::placement() = Placement::kStart;
  GlobalBuffer<float> x(129, "x"), y(128, "y");
  EXPECT_EQ(fault_of([&] { launch(vector_kernel, 1, 32, 0, nullptr, x.data(), y.data()); }),
            "no fault");
  expect_fault([&] { launch(vector_kernel, 1, 32, 0, nullptr, x.data() + 1, y.data()); },
               {"load_vector", "aligned to 16", "remainder 4"});
}

/// All threads count in one word; `also`: thread 40 reads (1) or writes (2) it in between.
HONE_KERNEL(64) counting_kernel(unsigned* y, int also) {
  HONE_SHARED(unsigned, count, 1);
  if (thread_index() == 0) count[0] = 0u;
  barrier();
  atomic_add(count, 0, 3u);
  if (also == 1 && thread_index() == 40) y[1] = count[0];
  if (also == 2 && thread_index() == 40) count[0] = 5u;
  barrier();
  if (thread_index() == 7) y[0] = count[0];
}

TEST_F(Detectors, AtomicAdditionsRaceWithReadsAndWritesOnly) {
  GlobalBuffer<unsigned> y(2, "y");
  const auto run = [&](int also) {
    return [&, also] { launch(counting_kernel, 1, 64, 0, nullptr, y.data(), also); };
  };
  EXPECT_EQ(fault_of(run(0)), "no fault");
  EXPECT_EQ(y.host()[0], 192u);
  expect_fault(run(1), {"race", "thread 40", "added to it", "no barrier between"});
  expect_fault(run(2), {"race", "thread 40", "added to it", "no barrier between"});
}

HONE_KERNEL(64) shared_bounds_kernel(int at) {
  HONE_SHARED(float, tile, 64);
  if (thread_index() == 5) tile[at] = 1.0f;
}

TEST_F(Detectors, SharedMemoryBounds) {
  EXPECT_EQ(fault_of([] { launch(shared_bounds_kernel, 1, 64, 0, nullptr, 63); }), "no fault");
  for (const int at : {-1, 64}) {
    expect_fault([&] { launch(shared_bounds_kernel, 1, 64, 0, nullptr, at); },
                 {"thread 5", "shared tile of 64", "access at " + std::to_string(at)});
  }
}

HONE_KERNEL(32) dynamic_kernel(int count) {
  const auto tile = dynamic_shared<float>(16, count);
  tile[thread_index()] = 0.0f;
}

TEST_F(Detectors, DynamicSharedMemoryBounds) {
  EXPECT_EQ(fault_of([] { launch(dynamic_kernel, 1, 32, 144, nullptr, 32); }), "no fault");
  expect_fault([] { launch(dynamic_kernel, 1, 32, 140, nullptr, 32); },
               {"dynamic shared memory", "16 to 144 of 140"});
  expect_fault([] { launch(dynamic_kernel, 1, 32, 144, nullptr, 31); },
               {"thread 31", "shared dynamic of 31"});
  expect_fault([] { launch(dynamic_kernel, 1, 32, 300000, nullptr, 32); }, {"at most 232448"});
}

HONE_KERNEL(64) uninitialised_kernel(float* y, bool all) {
  HONE_SHARED(float, tile, 64);
  if (all || thread_index() != 40) tile[thread_index()] = 1.0f;
  barrier();
  y[thread_index()] = tile[63 - thread_index()];
}

TEST_F(Detectors, SharedMemoryNeverWritten) {
  GlobalBuffer<float> y(64, "y");
  EXPECT_EQ(fault_of([&] { launch(uninitialised_kernel, 3, 64, 0, nullptr, y.data(), true); }),
            "no fault");
  // Also in a block that finds what an earlier block left there.
  expect_fault([&] { launch(uninitialised_kernel, 1, 64, 0, nullptr, y.data(), false); },
               {"thread 23", "tile", "never written", "after barrier at detectors_test.cpp:"});
}

HONE_KERNEL(64) race_kernel(float* y, int barriers) {
  HONE_SHARED(float, tile, 64);
  tile[thread_index()] = 0.0f;
  barrier();
  tile[thread_index()] = 1.0f;
  if (barriers > 0) barrier();
  y[thread_index()] = tile[(thread_index() + 1) % 64];
  if (barriers > 1) barrier();
  tile[thread_index()] = 2.0f;
}

TEST_F(Detectors, RacesWhateverTheOrder) {
  GlobalBuffer<float> y(64, "y");
  for (const bool reverse : {false, true}) {
    fiber::schedule().reverse_threads = reverse;
    const auto run = [&](int barriers) {
      return [&, barriers] { launch(race_kernel, 2, 64, 0, nullptr, y.data(), barriers); };
    };
    EXPECT_EQ(fault_of(run(2)), "no fault");
    for (const int barriers : {0, 1}) {
      expect_fault(run(barriers), {"block 0", "shared tile: race: thread", "no barrier between"});
    }
  }
}

HONE_KERNEL(64) two_writers_kernel(int first, int second) {
  HONE_SHARED(double, word, 1);
  if (thread_index() == first || thread_index() == second) word[0] = 1.0;
}

TEST_F(Detectors, TwoWriters) {
  EXPECT_EQ(fault_of([] { launch(two_writers_kernel, 1, 64, 0, nullptr, 3, 3); }), "no fault");
  expect_fault([] { launch(two_writers_kernel, 1, 64, 0, nullptr, 3, 40); },
               {"thread 40", "race: thread 3 wrote it and thread 40 writes it"});
}

HONE_KERNEL(64) warp_order_kernel(float* y, int from, bool ordered) {
  HONE_SHARED(float, tile, 64);
  tile[thread_index()] = 0.0f;
  barrier();
  tile[thread_index()] = 1.0f;
  if (ordered) warp_barrier();
  y[thread_index()] = tile[(thread_index() + from) % 64];
}

TEST_F(Detectors, WarpBarrierOrdersOneWarpOnly) {
  fiber::schedule().reverse_threads = true;
  GlobalBuffer<float> y(64, "y");
  expect_fault([&] { launch(warp_order_kernel, 1, 64, 0, nullptr, y.data(), 1, false); }, {"race"});
  expect_fault([&] { launch(warp_order_kernel, 1, 64, 0, nullptr, y.data(), 1, true); },
               {"race", "thread 63", "thread 0"});
}

HONE_KERNEL(32) one_warp_kernel(float* y) {
  HONE_SHARED(float, tile, 32);
  tile[lane()] = static_cast<float>(lane());
  warp_barrier();
  y[lane()] = tile[31 - lane()];
}

TEST_F(Detectors, WarpBarrierIsEnoughInAWarp) {
  GlobalBuffer<float> y(32, "y");
  launch(one_warp_kernel, 1, 32, 0, nullptr, y.data());
  for (int i = 0; i < 32; ++i) EXPECT_EQ(y.host()[i], 31 - i);
}

/// Copies 8 elements, and does what `wrong` names too early or not at all.
HONE_KERNEL(64) copy_async_kernel(const math::Bfloat16* x, math::Bfloat16* y, int wrong) {
  HONE_SHARED(math::Bfloat16, tile, 72);
  if (thread_index() == 0) copy_async(tile, wrong == 1 ? 4 : wrong == 2 ? 72 : 8, x, true);
  if (wrong == 3 && thread_index() == 0) tile[15] = math::Bfloat16{0};
  copy_async_commit();
  if (wrong == 4) {
    copy_async_wait<1>();
  } else if (wrong != 5) {
    copy_async_wait<0>();
  }
  if (wrong != 6) barrier();
  if (thread_index() == 40) y[0] = tile[wrong == 7 ? 16 : 15];
}

TEST_F(Detectors, AsynchronousCopies) {
  fiber::placement() = Placement::kStart;
  GlobalBuffer<math::Bfloat16> x(16, "x"), y(1, "y");
  const auto run = [&](int wrong, int shift = 0) {
    return [&, wrong, shift] {
      launch(copy_async_kernel, 1, 64, 0, nullptr, x.data() + shift, y.data(), wrong);
    };
  };
  EXPECT_EQ(fault_of(run(0)), "no fault");
  expect_fault(run(0, 1), {"thread 0", "copy_async from global memory", "remainder 2"});
  expect_fault(run(0, -8), {"thread 0", "buffer x", "access at byte -16"});
  expect_fault(run(1), {"copy_async to shared memory", "remainder 8"});
  expect_fault(run(2), {"shared tile of 72", "access at 72"});
  expect_fault(run(3), {"written while a copy that thread 0 started is under way"});
  for (const int wrong : {4, 5}) {
    expect_fault(run(wrong), {"thread 40", "read while a copy that thread 0 started is under way"});
  }
  expect_fault(run(6), {"thread 40", "race: thread 0 wrote it"});
  expect_fault(run(7), {"never written"});
}

HONE_KERNEL(32) matrices_kernel(int shift, int rows, bool ordered) {
  HONE_SHARED(math::Bfloat16, tile, 32 * 8);
  for (int i = 0; i < 8; ++i) tile[lane() * 8 + i] = math::Bfloat16{0};
  if (ordered) warp_barrier();
  load_matrices(tile, lane() % rows * 8 + shift);
}

TEST_F(Detectors, MatrixLoads) {
  const auto run = [](int shift, int rows, bool ordered) {
    return [=] { launch(matrices_kernel, 1, 32, 0, nullptr, shift, rows, ordered); };
  };
  EXPECT_EQ(fault_of(run(0, 32, true)), "no fault");
  expect_fault(run(4, 31, true), {"load_matrices", "aligned to 16", "remainder 8"});
  expect_fault(run(8, 32, true), {"thread 31", "shared tile of 256", "access at 256"});
  expect_fault(run(0, 32, false), {"shared tile: race"});
}

HONE_KERNEL(96) barrier_kernel(int missing, bool elsewhere) {
  if (thread_index() != missing) {
    barrier();
  } else if (elsewhere) {
    barrier();
  }
}

TEST_F(Detectors, BarrierNotReachedByAll) {
  EXPECT_EQ(fault_of([] { launch(barrier_kernel, 2, 96, 0, nullptr, -1, false); }), "no fault");
  expect_fault([] { launch(barrier_kernel, 2, 96, 0, nullptr, 50, false); },
               {"block 0: barrier not reached by all", "threads 0-49 at barrier", "50-50 ended",
                "51-95 at barrier detectors_test.cpp:"});
  expect_fault([] { launch(barrier_kernel, 1, 96, 0, nullptr, 50, true); },
               {"barrier not reached by all", "50-50 at barrier"});
}

HONE_KERNEL(64) divergent_kernel(float* y, int lanes, bool both) {
  float v = static_cast<float>(lane());
  if (lane() < lanes) {
    v = shuffle_down(v, 1);
  } else if (both) {
    v = shuffle_down(v, 1);
  }
  y[thread_index()] = v;
}

TEST_F(Detectors, DivergenceInAShuffle) {
  GlobalBuffer<float> y(64, "y");
  const auto run = [&](int lanes, bool both) {
    return [&, lanes, both] { launch(divergent_kernel, 1, 64, 0, nullptr, y.data(), lanes, both); };
  };
  EXPECT_EQ(fault_of(run(32, false)), "no fault");
  expect_fault(run(20, false),
               {"warp 0 diverges", "threads 0-19 at shuffle_down", "threads 20-31 ended"});
  expect_fault(run(20, true), {"warp 0 diverges", "threads 20-31 at shuffle_down"});
}

HONE_KERNEL(64) shuffle_or_barrier_kernel() {
  if (warp_index() == 1 && lane() == 0) {
    barrier();
  } else {
    ballot(true);
    barrier();
  }
}

TEST_F(Detectors, ShuffleAgainstBarrier) {
  expect_fault([] { launch(shuffle_or_barrier_kernel, 1, 64, 0, nullptr); },
               {"warp 1 diverges", "threads 32-32 at barrier", "threads 33-63 at ballot"});
}

HONE_KERNEL(32) wait_for_next_kernel(unsigned* flags, bool forward) {
  const int64_t me = block_index(), last = grid_blocks() - 1;
  const int64_t other = forward ? me + 1 : me - 1;
  if (lane() == 0 && other >= 0 && other <= last) {
    while (load_acquire(flags + other) == 0) pause();
  }
  warp_barrier();
  if (lane() == 0) store_release(flags + me, 1u);
}

TEST_F(Detectors, BlocksThatWaitForBlocksThatNeverRun) {
  const auto run = [](bool forward, bool reverse_blocks) {
    return [=] {
      fiber::schedule().reverse_blocks = reverse_blocks;
      GlobalBuffer<unsigned> flags(std::vector<unsigned>(9, 0), "flags");
      launch(wait_for_next_kernel, 9, 32, 0, nullptr, flags.data(), forward);
      for (const unsigned flag : flags.host()) EXPECT_EQ(flag, 1u);
    };
  };
  EXPECT_EQ(fault_of(run(false, false)), "no fault");  // earlier blocks start earlier
  EXPECT_EQ(fault_of(run(true, true)), "no fault");
  expect_fault(run(true, false), {"blocks wait for each other"});
  expect_fault(run(false, true), {"blocks wait for each other"});
}

HONE_KERNEL(1024) nothing_kernel() {}

TEST_F(Detectors, BlockSizes) {
  for (const int threads : {0, 1, 33, 1056}) {
    expect_fault([&] { launch(nothing_kernel, 1, threads, 0, nullptr); }, {"a multiple of 32"});
  }
  EXPECT_EQ(fault_of([] { launch(nothing_kernel, 0, 33, 0, nullptr); }), "no fault");
  EXPECT_EQ(launch(nothing_kernel, -1, 32, 0, nullptr), cudaErrorInvalidValue);
}

/// A fault must leave the machine fit for the next launch.
TEST_F(Detectors, AFaultLeavesNothingBehind) {
  for (int round = 0; round < 200; ++round) {
    expect_fault([] { launch(two_writers_kernel, 2, 64, 0, nullptr, 3, 40); }, {"race"});
    EXPECT_EQ(fault_of([] { launch(barrier_kernel, 2, 96, 0, nullptr, -1, false); }), "no fault");
  }
}

}  // namespace
}  // namespace hone::kernels
