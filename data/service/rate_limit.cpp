#include "data/service/rate_limit.h"

#include <algorithm>

namespace hone::data::service {
namespace {

constexpr size_t kMostBuckets = 100000;  // then those that are full again are forgotten

}  // namespace

double RateLimit::take(const std::string& key, int64_t now_us) {
  if (per_second_ <= 0) return 0.0;
  const std::lock_guard lock(mutex_);
  const auto level = [&](const Bucket& bucket) {
    const double seconds = std::max<double>(0.0, static_cast<double>(now_us - bucket.at_us) * 1e-6);
    return std::min(burst_, bucket.tokens + seconds * per_second_);
  };
  if (buckets_.size() >= kMostBuckets) {
    std::erase_if(buckets_, [&](const auto& entry) { return level(entry.second) >= burst_; });
    // All of them busy: so many addresses at once are an attack, and whoever is new waits.
    if (buckets_.size() >= kMostBuckets && buckets_.count(key) == 0) return 1.0;
  }
  auto& bucket = buckets_.try_emplace(key, Bucket{burst_, now_us}).first->second;
  bucket.tokens = level(bucket);
  bucket.at_us = now_us;
  if (bucket.tokens < 1.0) return (1.0 - bucket.tokens) / per_second_;
  bucket.tokens -= 1.0;
  return 0.0;
}

}  // namespace hone::data::service
