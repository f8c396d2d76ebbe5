#pragma once

// Token buckets: each key may do `burst` things at once and `per_second` in the long run.

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

namespace hone::data::service {

class RateLimit {
 public:
  /// per_second 0: no limit.
  RateLimit(double per_second, double burst) : per_second_(per_second), burst_(burst) {}

  /// 0 when it may go on (and a token is taken), else seconds until it may.
  double take(const std::string& key, int64_t now_us);

 private:
  struct Bucket {
    double tokens;
    int64_t at_us;
  };
  double per_second_, burst_;
  std::mutex mutex_;
  std::unordered_map<std::string, Bucket> buckets_;
};

}  // namespace hone::data::service
