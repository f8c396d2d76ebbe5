#pragma once

#include <string>

#include "data/records.h"

namespace hone::data {

constexpr double kValidationFraction = 0.05, kTestFraction = 0.15;

/// By a hash of the group: a group is in the same split in every store on every machine.
Split split_of_group(const std::string& group, double validation_fraction = kValidationFraction,
                     double test_fraction = kTestFraction);

}  // namespace hone::data
