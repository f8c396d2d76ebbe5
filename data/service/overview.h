#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/service/seen_answer.h"

namespace hone::data::service {

/// hours, days, agreement, raters, drift and median_seconds of data/service/API.md's `overview`,
/// from one project's answers in order (none that was taken back) and the names of its dimensions
/// and of its span labels.
nlohmann::json overview_of(const std::vector<const SeenAnswer*>& answers,
                           const std::vector<std::string>& dimensions, int64_t now_us);

}  // namespace hone::data::service
