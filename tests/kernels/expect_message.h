#pragma once

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <string>

namespace hone::test {

/// `call` throws c10::Error whose message begins with `message`.
template <typename Call>
void expect_message(const Call& call, const std::string& message) {
  try {
    call();
    ADD_FAILURE() << "nothing thrown; expected: " << message;
  } catch (const c10::Error& error) {
    const std::string got = error.what_without_backtrace();
    EXPECT_EQ(got.substr(0, message.size()), message) << "whole message: " << got;
  }
}

}  // namespace hone::test
