#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "engine/metrics/append_file.h"
#include "engine/metrics/metrics.h"

namespace hone::engine {

/// A TensorBoard event file with scalars, written without TensorFlow or protobuf.
///
/// Records are TFRecords (tensorflow/core/lib/io/record_writer.h): length u64, masked CRC-32C of
/// the length, payload, masked CRC-32C of the payload, little endian. A payload is an Event of
/// tensorflow/core/util/event.proto: wall_time = 1, step = 2, file_version = 3, summary = 5, whose
/// Summary.Value has tag = 1 and simple_value = 2.
class EventFile {
 public:
  /// Creates `folder`/events.out.tfevents.<time>.<host>.<pid>.<n>, one of its own.
  explicit EventFile(const std::filesystem::path& folder);
  /// One event with all values of the step; time in Unix seconds.
  void write(int64_t step, double time, const MetricValues& values);
  const std::filesystem::path& path() const { return file_.path(); }
  uint64_t size() const { return file_.size(); }

 private:
  AppendFile file_;
};

/// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78).
uint32_t crc32c(std::string_view bytes);

}  // namespace hone::engine
