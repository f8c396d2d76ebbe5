#pragma once

// The shared memory of one block with a record of who touched what since when.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace hone::fiber {

/// When an access happened: barriers of the block and of the thread's warp count up.
struct Moment {
  int thread;
  uint32_t block_epoch;
  uint32_t warp_epoch;
};

/// Atomic additions race with reads and writes, not with one another.
enum class Access { kRead, kWrite, kAtomic };

class SharedMemory {
 public:
  static constexpr size_t kLimit = 227 * 1024;  // what a block may have on sm_90
  static constexpr size_t kStaticLimit = 48 * 1024;

  /// A new block: nothing is written yet. `dynamic_bytes` come first.
  void start(size_t dynamic_bytes, uint32_t epoch);

  /// Position of the static array with this tag, or a message.
  size_t place(const void* tag, size_t bytes, std::string& error);
  size_t dynamic_bytes() const { return dynamic_bytes_; }

  /// Null, or what is wrong with the access ("race", "never written").
  std::optional<std::string> note(size_t offset, size_t bytes, Access access, const Moment& now);
  /// From here to the call with false, whatever touches the bytes is wrong.
  void set_awaited(size_t offset, size_t bytes, bool awaited);
  unsigned char* data() { return bytes_.data(); }

 private:
  struct Touch {
    uint32_t block_epoch = 0, warp_epoch = 0;
    int thread = -1;
  };
  // Accesses are kept for every two bytes. Of the readers of one epoch three are enough to find any
  // conflict: the last, another lane of its warp, and one of another warp.
  struct Cell {
    uint32_t written_since = 0;  // the epoch that the block started at, when written in this block
    uint32_t awaited_since = 0;  // likewise, when an asynchronous copy is under way
    Touch writer, reader, reader_in_warp, reader_elsewhere;
    Touch adder, adder_in_warp, adder_elsewhere;  // the same of atomic additions
  };
  static bool conflicts(const Touch& before, const Moment& now);
  static void remember(const Touch& touch, Touch& last, Touch& in_warp, Touch& elsewhere);

  std::vector<unsigned char> bytes_;
  std::vector<Cell> cells_;
  std::map<const void*, size_t> placed_;
  size_t dynamic_bytes_ = 0, used_ = 0;
  uint32_t start_epoch_ = 0;
};

}  // namespace hone::fiber
