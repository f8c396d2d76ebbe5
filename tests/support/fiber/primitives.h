#pragma once

// kernels/device/primitives.h on fibers. Selected by
//   -DHONE_DEVICE_PRIMITIVES="tests/support/fiber/primitives.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>

#include "kernels/device/matrix.h"
#include "kernels/device/runtime.h"
#include "kernels/device/vector.h"
#include "tests/support/fiber/grid.h"

#define HONE_KERNEL(threads) void
#define HONE_KERNEL_RESIDENT(threads, blocks) void
#define HONE_DEVICE inline
#define HONE_UNROLL
#define HONE_SHARED(Type, name, count)                  \
  static char name##_tag;                               \
  const ::hone::kernels::device::SharedView<Type> name( \
      ::hone::fiber::static_shared(&name##_tag, sizeof(Type) * (count), #name), (count), #name)

namespace hone::kernels::device {

using fiber::Place;

constexpr int kWarp = 32;

/// One element of shared memory: reads and writes pass the checks.
template <typename T>
class SharedElement {
 public:
  SharedElement(size_t offset, const char* name) : offset_(offset), name_(name) {}

  void* access(fiber::Access how) const {
    return fiber::access_shared(offset_, sizeof(T), how, name_);
  }
  operator T() const {
    T v;
    std::memcpy(&v, access(fiber::Access::kRead), sizeof(T));
    return v;
  }
  const SharedElement& operator=(const T& v) const {
    std::memcpy(access(fiber::Access::kWrite), &v, sizeof(T));
    return *this;
  }
  const SharedElement& operator=(const SharedElement& other) const { return *this = T(other); }
  const SharedElement& operator+=(const T& v) const { return *this = T(*this) + v; }
  const SharedElement& operator*=(const T& v) const { return *this = T(*this) * v; }

 private:
  size_t offset_;
  const char* name_;
};

template <typename T>
class SharedView {
 public:
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % 2 == 0);

  SharedView(size_t offset, int64_t count, const char* name)
      : offset_(offset), count_(count), name_(name) {}

  SharedElement<T> operator[](int64_t i) const {
    if (i < 0 || i >= count_) {
      fiber::fail("shared " + std::string(name_) + " of " + std::to_string(count_) +
                  " elements: access at " + std::to_string(i));
    }
    return {offset_ + i * sizeof(T), name_};
  }
  SharedView operator+(int64_t n) const { return {offset_ + n * sizeof(T), count_ - n, name_}; }
  size_t offset() const { return offset_; }
  /// Element i += n; the value before.
  T add(int64_t i, T n) const {
    const SharedElement<T> element = (*this)[i];
    T* const at = static_cast<T*>(element.access(fiber::Access::kAtomic));
    const T before = *at;
    *at = before + n;
    return before;
  }
  const char* name() const { return name_; }

 private:
  size_t offset_;
  int64_t count_;
  const char* name_;
};

inline int thread_index() { return fiber::thread_id().thread; }
inline int64_t block_index() { return fiber::thread_id().block; }
inline int block_threads() { return fiber::thread_id().threads; }
inline int64_t grid_blocks() { return fiber::thread_id().blocks; }
inline int lane() { return thread_index() % kWarp; }
inline int warp_index() { return thread_index() / kWarp; }

inline void barrier(const Place& place = Place::current()) { fiber::wait_at_barrier(place); }
inline void warp_barrier(const Place& place = Place::current()) {
  fiber::wait_at_warp_barrier(place);
}

template <typename T>
T shown_by(const char* primitive, const T& v, int from, const Place& place) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= fiber::kMaxExchange);
  static_assert(sizeof(T) < 4 || sizeof(T) % 4 == 0);
  const fiber::Shown* shown = fiber::exchange(primitive, &v, sizeof(T), place);
  T out;
  std::memcpy(&out, shown[from < 0 || from >= kWarp ? lane() : from].bytes, sizeof(T));
  return out;
}

template <typename T>
T shuffle(const T& v, int from, const Place& place = Place::current()) {
  return shown_by("shuffle", v, from % kWarp, place);
}
template <typename T>
T shuffle_up(const T& v, int n, const Place& place = Place::current()) {
  return shown_by("shuffle_up", v, lane() - n, place);
}
template <typename T>
T shuffle_down(const T& v, int n, const Place& place = Place::current()) {
  return shown_by("shuffle_down", v, lane() + n, place);
}
template <typename T>
T shuffle_xor(const T& v, int n, const Place& place = Place::current()) {
  return shown_by("shuffle_xor", v, lane() ^ n, place);
}
inline int ones(unsigned word) { return std::popcount(word); }
inline unsigned ballot(bool p, const Place& place = Place::current()) {
  const unsigned char mine = p;
  const fiber::Shown* shown = fiber::exchange("ballot", &mine, 1, place);
  unsigned out = 0;
  for (int i = 0; i < kWarp; ++i) out |= static_cast<unsigned>(shown[i].bytes[0]) << i;
  return out;
}

/// The lanes show their parts; each sums its four elements of D in order of k, in float32.
inline void multiply_add(MatrixD& d, const MatrixA& a, const MatrixB& b,
                         const Place& place = Place::current()) {
  struct Operands {
    MatrixA a;
    MatrixB b;
  };
  const Operands mine{a, b};
  const fiber::Shown* shown = fiber::exchange("multiply_add", &mine, sizeof mine, place);
  const auto half = [](uint32_t word, int k) {
    return math::widen(math::Bfloat16{static_cast<uint16_t>(k % 2 == 0 ? word : word >> 16)});
  };
  const auto of = [&](int from) {
    Operands out;
    std::memcpy(&out, shown[from].bytes, sizeof out);
    return out;
  };
  for (int i = 0; i < 4; ++i) {
    const int row = lane() / 4 + i / 2 * 8, column = lane() % 4 * 2 + i % 2;
    for (int k = 0; k < 16; ++k) {
      const int pair = k % 8 / 2;
      d.value[i] += half(of(row % 8 * 4 + pair).a.word[row / 8 + k / 8 * 2], k) *
                    half(of(column * 4 + pair).b.word[k / 8], k);
    }
  }
}

inline double exp2_approximate(double x) { return std::exp2(x); }
inline float exp2_approximate(float x) {
  const float out = std::exp2(x);
  return out < std::numeric_limits<float>::min() ? 0.0f : out;  // NaN stays
}

inline void check_aligned(uintptr_t address, size_t bytes, const char* what) {
  if (address % bytes == 0) return;
  fiber::fail(std::string(what) + ": expected an address aligned to " + std::to_string(bytes) +
              ", got remainder " + std::to_string(address % bytes));
}

template <typename T>
void copy_async(const SharedView<T>& to, int64_t i, const T* from, bool there) {
  constexpr int kElements = 16 / sizeof(T);
  (void)to[i], (void)to[i + kElements - 1];  // within bounds
  check_aligned(to.offset() + i * sizeof(T), 16, "copy_async to shared memory");
  if (there) check_aligned(reinterpret_cast<uintptr_t>(from), 16, "copy_async from global memory");
  fiber::start_copy(to.offset() + i * sizeof(T), there ? from : nullptr, to.name());
}
inline void copy_async_commit() { fiber::commit_copies(); }
template <int N>
void copy_async_wait() {
  fiber::wait_for_copies(N);
}

/// Each lane shows where its row starts and reads its two elements of the four matrices.
template <typename T>
MatrixA load_matrices_of(const SharedView<T>& base, int64_t i, bool transposed,
                         const char* primitive, const Place& place) {
  static_assert(sizeof(T) == 2);
  (void)base[i], (void)base[i + 7];
  const size_t mine = base.offset() + i * sizeof(T);
  check_aligned(mine, 16, primitive);
  const fiber::Shown* shown = fiber::exchange(primitive, &mine, sizeof mine, place);
  const int g = lane() / 4, t = lane() % 4;
  MatrixA out;
  for (int m = 0; m < 4; ++m) {
    uint16_t half[2];
    for (int e = 0; e < 2; ++e) {
      const int row = transposed ? 2 * t + e : g, column = transposed ? g : 2 * t + e;
      size_t start;
      std::memcpy(&start, shown[8 * m + row].bytes, sizeof start);
      std::memcpy(&half[e],
                  fiber::access_shared(start + 2 * column, 2, fiber::Access::kRead, base.name()),
                  2);
    }
    out.word[m] = half[0] | static_cast<uint32_t>(half[1]) << 16;
  }
  return out;
}
template <typename T>
MatrixA load_matrices(const SharedView<T>& base, int64_t i, const Place& place = Place::current()) {
  return load_matrices_of(base, i, false, "load_matrices", place);
}
template <typename T>
MatrixA load_matrices_transposed(const SharedView<T>& base, int64_t i,
                                 const Place& place = Place::current()) {
  return load_matrices_of(base, i, true, "load_matrices_transposed", place);
}

template <int N, typename T>
Vector<T, N> load_vector(const T* base, int64_t i) {
  check_aligned(reinterpret_cast<uintptr_t>(base + i), sizeof(T) * N, "load_vector");
  Vector<T, N> v;
  std::memcpy(&v, base + i, sizeof v);
  return v;
}
template <typename T, int N>
void store_vector(T* base, int64_t i, const Vector<T, N>& v) {
  check_aligned(reinterpret_cast<uintptr_t>(base + i), sizeof(T) * N, "store_vector");
  std::memcpy(base + i, &v, sizeof v);
}
template <int N, typename T>
Vector<T, N> load_vector(const SharedView<T>& base, int64_t i) {
  check_aligned(base.offset() + i * sizeof(T), sizeof(T) * N, "load_vector");
  Vector<T, N> v;
  for (int k = 0; k < N; ++k) v[k] = base[i + k];
  return v;
}
template <typename T, int N>
void store_vector(const SharedView<T>& base, int64_t i, const Vector<T, N>& v) {
  check_aligned(base.offset() + i * sizeof(T), sizeof(T) * N, "store_vector");
  for (int k = 0; k < N; ++k) base[i + k] = v[k];
}

template <typename T, int N>
void forget_values(Vector<T, N>&) {}

template <typename T>
SharedView<T> dynamic_shared(size_t byte_offset, int64_t count) {
  check_aligned(byte_offset, alignof(T), "dynamic_shared");
  return {fiber::dynamic_shared_offset(byte_offset, sizeof(T) * count), count, "dynamic"};
}

template <typename T>
T load_acquire(const T* p) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  return *p;
}
template <typename T>
void store_release(T* p, const T& v) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  *p = v;
}
inline unsigned atomic_add(const SharedView<unsigned>& x, int64_t i, unsigned n) {
  return x.add(i, n);
}
inline uint64_t load_relaxed(const uint64_t* p) { return *p; }
inline void store_relaxed(uint64_t* p, uint64_t v) { *p = v; }
/// Lets other blocks go on after it (the first pause is followed by the own block's next round), so
/// that tickets change hands.
inline uint64_t atomic_add_relaxed(uint64_t* p, uint64_t n) {
  const uint64_t before = *p;
  *p += n;
  fiber::pause();
  fiber::pause();
  return before;
}
inline void fence() {}
inline unsigned atomic_add(unsigned* p, unsigned n) {
  const unsigned before = *p;
  *p += n;
  return before;
}
inline void pause() { fiber::pause(); }

template <typename... Parameters, typename... Args>
cudaError_t launch(void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared_bytes,
                   cudaStream_t, const Args&... args) {
  if (blocks == 0) return cudaSuccess;
  if (blocks < 0 || blocks > 0x7FFFFFFF) return cudaErrorInvalidValue;
  const std::tuple<Parameters...> held(static_cast<Parameters>(args)...);
  fiber::run_grid(blocks, threads, shared_bytes, [&] { std::apply(kernel, held); });
  return cudaSuccess;
}

}  // namespace hone::kernels::device
