#include "engine/trainers/kl_controller.h"

#include <gtest/gtest.h>

#include "data/error.h"

namespace hone::engine {
namespace {

TEST(KlController, AdaptiveFollowsTheGoldenVector) {
  // shared/golden: adaptive_kl/init0.15_target6_h10000_n512_for_0_3_6.5_12_6
  KlController controller("adaptive", 0.15, 6.0, 10000.0);
  const double kl[] = {0, 3, 6.5, 12, 6};
  const double want[] = {0.14846399999999998, 0.14694372864, 0.147570688548864, 0.14908181239960436,
                         0.14908181239960436};
  for (int i = 0; i < 5; ++i) {
    controller.update(kl[i], 512);
    EXPECT_NEAR(controller.coefficient(), want[i], 1e-15) << i;
  }
}

TEST(KlController, FixedStays) {
  KlController controller("fixed", 0.2, 0.0, 0.0);
  controller.update(100.0, 512);
  EXPECT_EQ(controller.coefficient(), 0.2);
}

TEST(KlController, RefusesWhatCannotBe) {
  EXPECT_THROW(KlController("pid", 0.2, 6, 1e4), data::InputError);
  EXPECT_THROW(KlController("adaptive", 0.2, 0, 1e4), data::InputError);
  EXPECT_THROW(KlController("adaptive", 0.2, 6, 0), data::InputError);
  EXPECT_THROW(KlController("fixed", -0.2, 6, 1e4), data::InputError);
}

}  // namespace
}  // namespace hone::engine
