#include "kernels/threads.h"

#include <gtest/gtest.h>

namespace hone::kernels {
namespace {

/// At run time: the compiler knows no modes.
float product(float a, float b) {
  volatile float x = a, y = b;
  return x * y;
}

TEST(FlushedDenormals, CountAsZeroWhileItLives) {
#ifndef __SSE__
  GTEST_SKIP() << "no such mode here";
#endif
  const float before = product(1e-30f, 1e-10f);  // of what the test was started with
  {
    const FlushedDenormals flushed;
    EXPECT_EQ(product(1e-30f, 1e-10f), 0.0f) << "a denormal result";
    EXPECT_EQ(product(1e-39f, 1e10f), 0.0f) << "a denormal operand";
    EXPECT_EQ(product(2e-38f, 1.0f), 2e-38f) << "a normal number";
  }
  EXPECT_EQ(product(1e-30f, 1e-10f), before);
}

}  // namespace
}  // namespace hone::kernels
