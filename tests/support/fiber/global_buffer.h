#pragma once

// Device memory of the fiber runs: a buffer between two pages that fault, so that any access of a
// kernel beyond it is a KernelFault naming the buffer, whichever way the kernel made its pointer.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace hone::fiber {

/// Which end of a buffer touches the page that faults.
enum class Placement {
  kEnd,         // the last byte; the address is aligned to the element only
  kAlignedEnd,  // at most 15 checked bytes after the last one; the address is aligned to 16
  kStart,
};

/// Of the buffers from now on.
Placement& placement();

class Region {
 public:
  Region(size_t bytes, size_t alignment, std::string name);
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  unsigned char* data() const { return data_; }
  bool holds(const void* address) const;  // the guard pages included
  std::string describe(const void* address) const;
  bool slack_untouched() const;

 private:
  size_t bytes_, mapped_;
  unsigned char *base_, *data_;
  std::string name_;
};

/// n elements of T; filled with bytes 0xFF (NaN) or from the host.
template <typename T>
class GlobalBuffer {
 public:
  GlobalBuffer(size_t n, std::string name)
      : size_(n), region_(n * sizeof(T), alignof(T), std::move(name)) {
    std::memset(region_.data(), 0xFF, n * sizeof(T));
  }
  GlobalBuffer(const T* from, size_t n, std::string name) : GlobalBuffer(n, std::move(name)) {
    if (n > 0) std::memcpy(region_.data(), from, n * sizeof(T));
  }
  GlobalBuffer(const std::vector<T>& from, std::string name)
      : GlobalBuffer(from.data(), from.size(), std::move(name)) {}

  T* data() const { return reinterpret_cast<T*>(region_.data()); }
  size_t size() const { return size_; }
  std::vector<T> host() const { return std::vector<T>(data(), data() + size_); }

 private:
  size_t size_;
  Region region_;
};

/// Throws KernelFault when a kernel wrote between the end of a buffer and its guard page.
void check_buffers();

/// While one lives, a fault inside a fiber ends the launch with a message instead of the process.
class FaultHandler {
 public:
  FaultHandler();
  ~FaultHandler();
};

}  // namespace hone::fiber
