#pragma once

// A question put to one rater: what a lease and the answer to it have in common.

#include <cstdint>
#include <string>
#include <vector>

#include "data/journal/tables.h"

namespace hone::data {

struct Asked {
  std::string rater, project;
  int64_t question = 0;  // questions.seq; 0: none
  Purpose purpose = Purpose::kOrdinary;
  int64_t row = 0;  // order shown: 2 * shift + mirrored
  std::vector<uint8_t> shown;
  std::string session;
  int64_t served_us = 0;
  std::string guideline_hash;
  int64_t supersedes = 0;  // sequence of the answer that this one replaces; 0: none
};

}  // namespace hone::data
