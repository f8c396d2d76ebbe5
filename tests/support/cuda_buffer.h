#pragma once

// Device memory of a GPU with the interface of fiber::GlobalBuffer.

#include <cuda_runtime_api.h>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace hone::test {

/// Whether buffers from now on begin one element beyond an aligned address, as slices do.
inline bool& shifted_buffers() {
  static bool shifted = false;
  return shifted;
}

inline void check_cuda(cudaError_t error, const std::string& what) {
  if (error != cudaSuccess) throw std::runtime_error(what + ": " + cudaGetErrorString(error));
}

/// n elements of T; filled with bytes 0xFF (NaN) or from the host.
template <typename T>
class GlobalBuffer {
 public:
  GlobalBuffer(size_t n, std::string name)
      : size_(n), shift_(shifted_buffers() ? 1 : 0), name_(std::move(name)) {
    check_cuda(cudaMalloc(&base_, (n + shift_) * sizeof(T) + (n == 0)), name_);
    if (n > 0) check_cuda(cudaMemset(data(), 0xFF, n * sizeof(T)), name_);
  }
  GlobalBuffer(const T* from, size_t n, std::string name) : GlobalBuffer(n, std::move(name)) {
    if (n > 0) check_cuda(cudaMemcpy(data(), from, n * sizeof(T), cudaMemcpyHostToDevice), name_);
  }
  GlobalBuffer(const std::vector<T>& from, std::string name)
      : GlobalBuffer(from.data(), from.size(), std::move(name)) {}
  ~GlobalBuffer() { cudaFree(base_); }
  GlobalBuffer(const GlobalBuffer&) = delete;
  GlobalBuffer& operator=(const GlobalBuffer&) = delete;

  T* data() const { return static_cast<T*>(base_) + shift_; }
  size_t size() const { return size_; }
  /// After everything that was launched.
  std::vector<T> host() const {
    std::vector<T> out(size_);
    if (size_ > 0) {
      check_cuda(cudaMemcpy(out.data(), data(), size_ * sizeof(T), cudaMemcpyDeviceToHost), name_);
    }
    return out;
  }

 private:
  size_t size_, shift_;
  std::string name_;
  void* base_ = nullptr;
};

}  // namespace hone::test
