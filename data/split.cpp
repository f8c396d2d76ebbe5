#include "data/split.h"

#include "data/sha256.h"

namespace hone::data {

Split split_of_group(const std::string& group, double validation_fraction, double test_fraction) {
  // The first 52 bits of the hash as a number in [0, 1).
  const std::string digest = sha256_hex("split\n" + group);
  const double position =
      static_cast<double>(std::stoull(digest.substr(0, 13), nullptr, 16)) / 4503599627370496.0;
  if (position < test_fraction) return Split::kTest;
  return position < test_fraction + validation_fraction ? Split::kValidation : Split::kTrain;
}

}  // namespace hone::data
