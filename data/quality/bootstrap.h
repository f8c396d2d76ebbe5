#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "data/quality/intervals.h"

namespace hone::data::quality {

/// Percentile bootstrap (Efron 1979), 95 %: `statistic` is asked with how often each of `units`
/// units was drawn, `resamples` times (fewer, at least 50, where `cost` steps of work for each
/// unit would make it long); what is NaN is left out. NaN without draws. The same seed gives the
/// same interval with every standard library.
Interval bootstrap_interval(int64_t units, int resamples, uint64_t seed,
                            const std::function<double(const std::vector<int64_t>&)>& statistic,
                            int64_t cost = 1);

}  // namespace hone::data::quality
