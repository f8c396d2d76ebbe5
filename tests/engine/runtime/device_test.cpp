#include "engine/runtime/device.h"

#include <gtest/gtest.h>

#include "data/error.h"

namespace hone::engine {
namespace {

std::string error_of(const std::string& name, int64_t local_rank = 0) {
  try {
    find_device("recipe.toml", name, local_rank);
  } catch (const data::InputError& error) {
    return error.what();
  }
  return "";
}

TEST(Device, NamesAreThree) {
  EXPECT_EQ(find_device("recipe.toml", "cpu"), at::Device(at::kCPU));
  EXPECT_EQ(error_of("gpu"), "recipe.toml: device: expected cpu, cuda or auto, got 'gpu'");
}

TEST(Device, AutoFindsSomethingAndCudaSaysWhatIsMissing) {
  std::string why;
  const auto gpus = driver_gpus(&why);
  if (gpus.empty()) {
    EXPECT_EQ(find_device("recipe.toml", "auto"), at::Device(at::kCPU));
    EXPECT_EQ(error_of("cuda"),
              "recipe.toml: device: expected a GPU for `cuda` (or device = \"cpu\"), got " + why);
  } else {
    const auto ranks = static_cast<int64_t>(gpus.size());
    EXPECT_EQ(error_of("auto", ranks),
              "recipe.toml: device: expected a GPU for each rank of this host, got " +
                  std::to_string(ranks) + " for rank " + std::to_string(ranks) + " of it");
  }
}

}  // namespace
}  // namespace hone::engine
