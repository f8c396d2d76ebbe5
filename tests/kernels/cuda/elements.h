#pragma once

// Numbers of a test as the elements that a kernel reads, and back.

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/math/bfloat16.h"
#include "tests/kernels/cuda/device_run.h"

namespace hone::test {

/// Rounded to T.
template <typename T>
std::vector<T> elements(const std::vector<double>& x) {
  std::vector<T> out(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    kernels::math::narrow(static_cast<kernels::math::Compute<T>>(x[i]), out[i]);
  }
  return out;
}

template <typename T>
std::vector<double> widened(const std::vector<T>& x) {
  std::vector<double> out(x.size());
  for (size_t i = 0; i < x.size(); ++i) out[i] = kernels::math::widen(x[i]);
  return out;
}

/// Every element within tolerance * max(1, |want|); NaN is near nothing.
inline void expect_near(const std::vector<double>& got, const std::vector<double>& want,
                        double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    const double most = tolerance * std::fmax(1.0, std::fabs(want[i]));
    ASSERT_TRUE(std::fabs(got[i] - want[i]) <= most)
        << what << "[" << i << "]: expected " << want[i] << ", got " << got[i];
  }
}

/// A buffer at a multiple of 16 bytes in every layout, for arguments that ask for it.
template <typename T>
class Aligned {
 public:
  Aligned(size_t n, const std::string& name) : size_(n), buffer_(vectors(n), name) {}
  Aligned(const std::vector<T>& from, const std::string& name)
      : size_(from.size()), buffer_(packed(from), name) {}

  T* data() const { return reinterpret_cast<T*>(buffer_.data()); }
  std::vector<T> host() const {
    const std::vector<Sixteen> held = buffer_.host();
    const T* first = reinterpret_cast<const T*>(held.data());
    return std::vector<T>(first, first + size_);
  }

 private:
  struct alignas(16) Sixteen {
    unsigned char bytes[16];
  };
  static size_t vectors(size_t n) { return (n * sizeof(T) + 15) / 16; }
  static std::vector<Sixteen> packed(const std::vector<T>& from) {
    std::vector<Sixteen> out(vectors(from.size()));
    if (!from.empty()) std::memcpy(out.data(), from.data(), from.size() * sizeof(T));
    return out;
  }

  size_t size_;
  GlobalBuffer<Sixteen> buffer_;
};

}  // namespace hone::test
