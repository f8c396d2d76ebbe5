#include <gtest/gtest.h>

#include "data/service/host_names.h"
#include "data/service/rate_limit.h"

namespace hone::data::service {
namespace {

constexpr int64_t kSecond = 1000000;

TEST(RateLimit, ABurstThenTheLongRun) {
  RateLimit limit(2.0, 3.0);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limit.take("a", 0), 0.0);
  EXPECT_DOUBLE_EQ(limit.take("a", 0), 0.5);
  EXPECT_EQ(limit.take("b", 0), 0.0);  // another's bucket
  EXPECT_EQ(limit.take("a", kSecond / 2), 0.0);
  EXPECT_GT(limit.take("a", kSecond / 2), 0.0);
  int taken = 0;
  for (int ms = 0; ms < 10000; ++ms) taken += limit.take("c", ms * 1000) == 0.0;
  EXPECT_EQ(taken, 3 + 2 * 10 - 1);  // the last token comes at 10 s
}

TEST(RateLimit, AClockThatGoesBackGivesNothing) {
  RateLimit limit(1.0, 1.0);
  EXPECT_EQ(limit.take("a", 100 * kSecond), 0.0);
  EXPECT_GT(limit.take("a", 50 * kSecond), 0.0);
}

TEST(RateLimit, ZeroIsNoLimit) {
  RateLimit limit(0.0, 0.0);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(limit.take("a", 0), 0.0);
}

TEST(RateLimit, ManyKeysAreForgottenWhenFull) {
  RateLimit limit(1.0, 1.0);
  for (int i = 0; i < 250000; ++i) {
    // A new key each millisecond: those of a second ago are full again.
    ASSERT_EQ(limit.take(std::to_string(i), i * 1000LL), 0.0) << i;
  }
}

TEST(HostNames, AnIpv6SubscriberIsOneNetwork) {
  EXPECT_EQ(network_of("192.168.1.5"), "192.168.1.5");
  EXPECT_EQ(network_of("2001:db8:1:2::1"), network_of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
  EXPECT_NE(network_of("2001:db8:1:2::1"), network_of("2001:db8:1:3::1"));
  EXPECT_EQ(network_of("::ffff:192.168.1.5"), "192.168.1.5");
  EXPECT_EQ(network_of("no address"), "no address");
}

TEST(HostNames, OnlyOwnNamesAndAddresses) {
  const HostNames names({"rate.example.org"},
                        [](const std::string& host) { return host == "certified.example.org"; });
  for (const char* host :
       {"localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "LOCALHOST", "192.168.1.5:8080",
        "rate.example.org", "rate.example.org.:443", "Certified.Example.org"}) {
    EXPECT_TRUE(names.allow(host)) << host;
  }
  for (const char* host : {"", "evil.example", "evil.example:8080", "localhost.evil.example",
                           "127.0.0.1.evil.example", "localhost:80:80", "localhost:x", "[::1",
                           "rate.example.org@evil", "127.0.0.1:123456", "x rate.example.org"}) {
    EXPECT_FALSE(names.allow(host)) << host;
  }
}

}  // namespace
}  // namespace hone::data::service
