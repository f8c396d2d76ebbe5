#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

namespace hone::test {

/// `compute` gives the same bits on one thread, on two, and when repeated.
inline void expect_same_bits_on_any_threads(const std::function<std::vector<at::Tensor>()>& compute,
                                            const std::string& what) {
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const auto one = compute();
  at::set_num_threads(2);
  const auto two = compute(), again = compute();
  at::set_num_threads(before);
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_TRUE(at::equal(one[i], two[i])) << what << ", result " << i << ": 1 and 2 threads";
    EXPECT_TRUE(at::equal(two[i], again[i])) << what << ", result " << i << ": repeated";
  }
}

}  // namespace hone::test
