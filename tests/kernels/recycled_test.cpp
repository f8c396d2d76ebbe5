// Memory of large results: used again, never twice at once, given back beyond what may wait.

#include "kernels/recycled.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace hone::kernels {
namespace {

constexpr int64_t kMegabyte = 1 << 18;  // of float32

TEST(Recycled, ABlockServesTheNextTensorOfItsSize) {
  const void* first = recycled_empty({4, kMegabyte}, at::kFloat).data_ptr();
  const at::Tensor again = recycled_empty({4 * kMegabyte - 7}, at::kFloat);
  EXPECT_EQ(again.data_ptr(), first);
  EXPECT_TRUE(again.is_contiguous());
  EXPECT_EQ(again.numel(), 4 * kMegabyte - 7);
  EXPECT_NE(recycled_empty({4, kMegabyte}, at::kFloat).data_ptr(), first) << "it is taken";
  const at::Tensor view = again.narrow(0, 5, 100);
  EXPECT_EQ(view.data_ptr(), static_cast<const float*>(first) + 5);
}

TEST(Recycled, AMuchSmallerTensorDoesNotTakeALargeBlock) {
  const void* large = recycled_empty({8 * kMegabyte}, at::kFloat).data_ptr();
  EXPECT_NE(recycled_empty({2 * kMegabyte}, at::kFloat).data_ptr(), large);
}

TEST(Recycled, AViewKeepsTheBlockAndOtherTypesAndSizesWork) {
  const at::Tensor view = recycled_empty({2 * kMegabyte}, at::kFloat).fill_(3).narrow(0, 0, 10);
  const at::Tensor other = recycled_empty({2 * kMegabyte}, at::kFloat).fill_(4);
  EXPECT_TRUE(at::equal(view, at::full({10}, 3.0f)));
  EXPECT_EQ(recycled_empty({kMegabyte}, at::kDouble).scalar_type(), at::kDouble);
  EXPECT_EQ(recycled_empty({0, 7}, at::kFloat).sizes(), (at::IntArrayRef{0, 7}));
}

TEST(Recycled, ThreadsNeverShareABlock) {
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t, &wrong] {
      for (int round = 0; round < 50; ++round) {
        const at::Tensor mine = recycled_empty({kMegabyte + round % 3}, at::kFloat);
        float* data = mine.data_ptr<float>();
        for (int64_t i = 0; i < mine.numel(); i += 1024) data[i] = static_cast<float>(t);
        for (int64_t i = 0; i < mine.numel(); i += 1024) wrong[t] += data[i] != t;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

}  // namespace
}  // namespace hone::kernels
