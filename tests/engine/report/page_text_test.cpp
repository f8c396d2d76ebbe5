// Text and numbers on the page, and the axes of its charts.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/report/axis.h"
#include "engine/report/charts.h"
#include "engine/report/html.h"

namespace hone::engine::report {
namespace {

TEST(Escape, LeavesNothingThatIsMarkup) {
  EXPECT_EQ(escape("<script>'\"&"), "&lt;script&gt;&#39;&quot;&amp;");
  EXPECT_EQ(escape("naïve √ 漢 😀\n\t"), "naïve √ 漢 😀\n\t");
}

TEST(Escape, ReplacesControlsAndWhatIsNotUtf8) {
  const std::string mark = "\uFFFD";
  EXPECT_EQ(escape(std::string("a\0b\x1b\x7f", 5)), "a" + mark + "b" + mark + mark);
  EXPECT_EQ(escape("\xff\xc0\xaf"), mark + mark + mark);             // never a lead byte; overlong
  EXPECT_EQ(escape("\xed\xa0\x80"), mark + mark + mark);             // a surrogate
  EXPECT_EQ(escape("\xf4\x90\x80\x80"), mark + mark + mark + mark);  // beyond U+10FFFF
  EXPECT_EQ(escape("\xe2\x82"), mark + mark);                        // cut short
  EXPECT_EQ(escape("\xc2\x9b"), mark);                               // C1
}

TEST(Figure, ReadsAsPeopleWriteNumbers) {
  EXPECT_EQ(figure(0.6041), "0.604");
  EXPECT_EQ(figure(-0.12), "−0.120");
  EXPECT_EQ(figure(2.966), "2.97");
  EXPECT_EQ(figure(22.61), "22.6");
  EXPECT_EQ(figure(198810), "198,810");
  EXPECT_EQ(figure(-1234567), "−1,234,567");
  EXPECT_EQ(figure(2e-5), "2.0e-05");
  EXPECT_EQ(figure(-0.0), "0");
  EXPECT_EQ(figure(std::nullopt), "–");
  EXPECT_EQ(figure(NAN), "–");
  EXPECT_EQ(signed_figure(0.287), "+0.287");
  EXPECT_EQ(percent(0.7337), "73.4\u00A0%");
  EXPECT_EQ(duration_text(41.2), "41 s");
  EXPECT_EQ(duration_text(155), "2 min 35 s");
  EXPECT_EQ(duration_text(3725), "1 h 02 min");
}

TEST(IntervalPlot, AFigureStandsBesideItsWhiskerOrAboveOneAsLongAsTheAxis) {
  const auto anchor = [](double value, double error) {
    const auto plot =
        interval_plot("t", "u", {{"a", "after", value, error}, {"b", "after", 0, 1}}, "");
    const auto before =
        plot.substr(0, plot.find(figure(value) + " ± " + figure(error) + "</text>"));
    return before.substr(before.rfind("<text"));
  };
  EXPECT_NE(anchor(-0.8, 0.1).find("\"start\""), std::string::npos) << anchor(-0.8, 0.1);
  EXPECT_NE(anchor(0.8, 0.1).find("\"end\""), std::string::npos) << anchor(0.8, 0.1);
  EXPECT_NE(anchor(0.1, 0.9).find("\"middle\""), std::string::npos) << anchor(0.1, 0.9);
}

TEST(Axis, CoversItsValuesWithRoundTicks) {
  const std::vector<std::pair<double, double>> ranges = {
      {0, 1}, {0.317, 0.604}, {-5, 3}, {1e-7, 3e-7}, {1e6, 9e9}, {-0.002, 0.001}, {0, 41}};
  for (const auto& [low, high] : ranges) {
    const Axis axis = Axis::covering(low, high, 4);
    EXPECT_LE(axis.low(), low + 1e-12 * std::abs(high));
    EXPECT_GE(axis.high(), high - 1e-12 * std::abs(high));
    ASSERT_GE(axis.ticks().size(), 2u);
    EXPECT_LE(axis.ticks().size(), 9u);
    const double distance = axis.ticks()[1] - axis.ticks()[0];
    const double mantissa = distance / std::pow(10, std::floor(std::log10(distance * 1.0001)));
    EXPECT_TRUE(std::abs(mantissa - 1) < 1e-6 || std::abs(mantissa - 2) < 1e-6 ||
                std::abs(mantissa - 5) < 1e-6)
        << distance;
  }
}

TEST(Axis, SurvivesRangesThatAreNone) {
  for (const double value : {0.0, 5.0, -3.0, 1e300}) {
    const Axis axis = Axis::covering(value, value, 4);
    EXPECT_LT(axis.low(), axis.high());
    EXPECT_GE(axis.ticks().size(), 2u);
  }
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(Axis::covering(infinity, -infinity, 4).high(), 1);
}

TEST(LineChart, SpeaksItsFiguresAndLeavesAGap) {
  Series series{.step = {1, 2, 3}, .value = {0.5, NAN, 2.5}};
  const std::string html = metric_chart(&series, "KL", "nats", "iteration", true);
  EXPECT_NE(html.find("role=\"img\" aria-label=\"KL. from 0.500 at iteration 1"), std::string::npos)
      << html;
  EXPECT_NE(html.find("1 value(s) were not finite"), std::string::npos);
  EXPECT_EQ(metric_chart(nullptr, "KL", "", "", true), "");
  Series nothing{.step = {1}, .value = {NAN}};
  EXPECT_EQ(metric_chart(&nothing, "KL", "", "", true), "");
}

}  // namespace
}  // namespace hone::engine::report
