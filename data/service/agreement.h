#pragma once

// How far people agree, by kind of question: data/service/API.md's `agreement`.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/service/tally.h"

namespace hone::data::service {

/// `names`: of dimensions and span labels.
nlohmann::json agreement_json(const Answers& answers, const std::vector<std::string>& names);

/// A day's alpha over what most of its answers say; null with too little to say.
nlohmann::json day_alpha(const Answers& answers);

}  // namespace hone::data::service
