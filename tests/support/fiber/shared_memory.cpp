#include "tests/support/fiber/shared_memory.h"

namespace hone::fiber {
namespace {

constexpr size_t kCell = 2;
constexpr int kWarp = 32;

size_t rounded_up(size_t n) { return (n + 15) / 16 * 16; }

}  // namespace

void SharedMemory::start(size_t dynamic_bytes, uint32_t epoch) {
  bytes_.resize(kLimit);
  cells_.resize(kLimit / kCell);
  placed_.clear();
  dynamic_bytes_ = dynamic_bytes;
  used_ = rounded_up(dynamic_bytes);
  start_epoch_ = epoch;
}

size_t SharedMemory::place(const void* tag, size_t bytes, std::string& error) {
  const auto found = placed_.find(tag);
  if (found != placed_.end()) return found->second;
  const size_t offset = used_;
  if (offset + bytes > kLimit || offset - rounded_up(dynamic_bytes_) + bytes > kStaticLimit) {
    error = "shared memory: more than a block may have";
    return 0;
  }
  used_ = rounded_up(offset + bytes);
  placed_[tag] = offset;
  return offset;
}

/// Two accesses of one block epoch by different threads, unless a barrier of their common warp
/// stands between.
bool SharedMemory::conflicts(const Touch& before, const Moment& now) {
  if (before.thread < 0 || before.thread == now.thread) return false;
  if (before.block_epoch != now.block_epoch) return false;
  return before.thread / kWarp != now.thread / kWarp || before.warp_epoch == now.warp_epoch;
}

void SharedMemory::remember(const Touch& touch, Touch& last, Touch& in_warp, Touch& elsewhere) {
  if (last.thread >= 0 && last.thread != touch.thread) {
    (last.thread / kWarp == touch.thread / kWarp ? in_warp : elsewhere) = last;
  }
  last = touch;
}

std::optional<std::string> SharedMemory::note(size_t offset, size_t bytes, Access access,
                                              const Moment& now) {
  const Touch touch{now.block_epoch, now.warp_epoch, now.thread};
  for (size_t i = offset / kCell; i < (offset + bytes + kCell - 1) / kCell; ++i) {
    Cell& cell = cells_[i];
    const auto race = [&](const Touch& other, const char* did) {
      const char* does = access == Access::kRead    ? " reads"
                         : access == Access::kWrite ? " writes"
                                                    : " adds to";
      return "race: thread " + std::to_string(other.thread) + " " + did + " it and thread " +
             std::to_string(now.thread) + does + " it with no barrier between";
    };
    if (cell.awaited_since == start_epoch_) {
      return std::string(access == Access::kRead ? "read" : "written") +
             " while a copy that thread " + std::to_string(cell.writer.thread) +
             " started is under way";
    }
    if (conflicts(cell.writer, now)) return race(cell.writer, "wrote");
    if (access != Access::kRead) {
      for (const Touch& reader : {cell.reader, cell.reader_in_warp, cell.reader_elsewhere}) {
        if (conflicts(reader, now)) return race(reader, "read");
      }
    }
    if (access != Access::kAtomic) {
      for (const Touch& adder : {cell.adder, cell.adder_in_warp, cell.adder_elsewhere}) {
        if (conflicts(adder, now)) return race(adder, "added to");
      }
    }
    if (access == Access::kWrite) {
      cell.writer = touch;
      cell.written_since = start_epoch_;
      continue;
    }
    if (cell.written_since != start_epoch_) return "read, but never written in this block";
    if (access == Access::kAtomic) {
      remember(touch, cell.adder, cell.adder_in_warp, cell.adder_elsewhere);
    } else {
      remember(touch, cell.reader, cell.reader_in_warp, cell.reader_elsewhere);
    }
  }
  return std::nullopt;
}

void SharedMemory::set_awaited(size_t offset, size_t bytes, bool awaited) {
  for (size_t i = offset / kCell; i < (offset + bytes) / kCell; ++i) {
    cells_[i].awaited_since = awaited ? start_epoch_ : 0;
  }
}

}  // namespace hone::fiber
