#include "engine/trainers/option_checks.h"

#include <cmath>
#include <sstream>

#include "data/error.h"

namespace hone::engine {

void OptionChecks::operator()(bool ok, const char* option, const std::string& expected,
                              const std::string& got) const {
  if (!ok) throw data::InputError(where_, prefix_ + option, expected, got);
}

void OptionChecks::at_least(const char* option, double got, double least) const {
  (*this)(got >= least, option, "at least " + number(least), number(got));
}

void OptionChecks::within(const char* option, double got, double low, double high) const {
  (*this)(got >= low && got <= high, option, number(low) + " to " + number(high), number(got));
}

void OptionChecks::not_negative(const char* option, double got) const {
  (*this)(std::isfinite(got) && got >= 0, option, "a finite number, 0 or more", number(got));
}

void OptionChecks::positive(const char* option, double got) const {
  (*this)(std::isfinite(got) && got > 0, option, "a finite number above 0", number(got));
}

void OptionChecks::one_of(const char* option, const std::string& got,
                          std::initializer_list<const char*> names) const {
  std::string expected;
  for (const char* name : names) {
    if (got == name) return;
    expected += (expected.empty() ? "" : " | ") + std::string(name);
  }
  (*this)(false, option, expected, "'" + got + "'");
}

std::string OptionChecks::number(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

}  // namespace hone::engine
