// Control characters are refused at each door of the journal, by the field's name, and what an
// older version stored is still read.

#include "data/plain_text.h"

#include <gtest/gtest.h>

#include "data/sqlite/database.h"
#include "tests/data/journal_fixture.h"

namespace hone::data {
namespace {

using namespace std::string_literals;

const std::string kControls[] = {"\0"s,  "\x01", "\x08",   "\x0b",  "\x0c",
                                 "\x1b", "\x7f", "\u0080", "\u009f"};

/// What the call says when it refuses; empty: it does not.
template <class Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(PlainText, RefusesControlCharactersAndSaysWhere) {
  for (const auto& control : kControls) {
    for (const auto breaks : {LineBreaks::kRefused, LineBreaks::kAllowed}) {
      const auto said = refusal([&] { check_plain_text("ab" + control + "c", breaks, "w", "f"); });
      EXPECT_TRUE(said.starts_with("w: f: expected ")) << said;
      EXPECT_TRUE(said.ends_with(" at byte 2")) << said;
    }
  }
  EXPECT_NE(refusal([] {
              check_plain_text("\x1b[2J", LineBreaks::kAllowed, "w", "f");
            }).find("got U+001B at byte 0"),
            std::string::npos);
  for (const auto* text : {"", "plain", "\u00a0\u00e4\u4e2d\U0001f600", "\u202eabc"}) {
    EXPECT_NO_THROW(check_plain_text(text, LineBreaks::kRefused, "w", "f")) << text;
  }
  EXPECT_NO_THROW(check_plain_text("a\tb\r\nc\u2028d", LineBreaks::kAllowed, "w", "f"));
  for (const auto* text : {"a\tb", "a\nb", "a\rb", "a\u2028b", "a\u2029b", "a\xff", "\xc2"}) {
    EXPECT_THROW(check_plain_text(text, LineBreaks::kRefused, "w", "f"), InputError) << text;
  }
}

TEST(PlainText, ReplacesThemInWhatAModelWrote) {
  EXPECT_EQ(without_control_characters("a\0b\n\tc\u0085\x7f"s), "a\uFFFDb\n\tc\uFFFD\uFFFD");
  EXPECT_EQ(without_control_characters("\u00e4\u00a0"), "\u00e4\u00a0");
  EXPECT_EQ(without_control_characters(""), "");
}

class PlainTextDoors : public JournalFixture {
 protected:
  void SetUp() override { open(); }
};

TEST_F(PlainTextDoors, Projects) {
  const auto put = [&](const auto& change) {
    Project project = plain_project();
    change(project);
    return refusal([&] { journal().put_project(project, now_us_); });
  };
  const std::string bad = "a\0b"s;
  const auto names = [](const std::string& said, const std::string& field) {
    return said.find(": " + field + ": ") != std::string::npos;
  };
  EXPECT_TRUE(names(put([&](Project& p) { p.title = bad; }), "title"));
  EXPECT_TRUE(names(put([&](Project& p) { p.title = "two\nlines"; }), "title"));
  EXPECT_TRUE(names(put([&](Project& p) { p.guideline = bad; }), "guideline"));
  EXPECT_TRUE(names(put([&](Project& p) { p.span_labels = {"fine", bad}; }), "span_labels"));
  EXPECT_TRUE(names(put([&](Project& p) { p.flags = {bad}; }), "flags"));
  EXPECT_TRUE(names(put([&](Project& p) { p.languages = {bad}; }), "languages"));
  EXPECT_TRUE(names(put([&](Project& p) { p.scrub = {bad}; }), "scrub"));
  EXPECT_TRUE(names(put([&](Project& p) {
                      p.dimensions = {{bad, "", 1, 7, "", ""}};
                    }),
                    "dimensions.name"));
  EXPECT_TRUE(names(put([&](Project& p) {
                      p.dimensions = {{"n", "", 1, 7, "", bad}};
                    }),
                    "dimensions.low_label, high_label"));
  EXPECT_EQ(put([](Project& p) { p.guideline = "# One\r\n\n\ttwo"; }), "");
}

TEST_F(PlainTextDoors, QuestionsAndAnswers) {
  journal().put_project(plain_project(), now_us_);
  const auto add = [&](const auto& change) {
    Question question = pair("q");
    change(question);
    return refusal([&] { journal().add_questions({question}, now_us_); });
  };
  for (const auto& control : kControls) {
    EXPECT_NE(add([&](Question& q) { q.prompt += control; }).find(": prompt: "), std::string::npos);
    EXPECT_NE(add([&](Question& q) { q.candidates[1].text += control; }).find("candidates[1].text"),
              std::string::npos);
    EXPECT_NE(add([&](Question& q) { q.id += control; }), "");
    EXPECT_NE(add([&](Question& q) { q.language += control; }), "");
  }
  const std::string line = R"({"messages": [{"role": "user", "content": "a\u0000b"}],)"
                           R"( "candidates": ["x", "y"]})";
  EXPECT_TRUE(refusal([&] { parse_question(line, "line 7"); }).starts_with("line 7: messages."));
  EXPECT_EQ(journal().counts().questions, 0);
  EXPECT_EQ(add([](Question& q) { q.prompt = "several\n\tlines"; }), "");

  const auto one = next("ann");
  ASSERT_TRUE(one);
  for (const char* body : {R"({"outcome":"skipped","reason":"a\u0000b"})",
                           R"({"outcome":"ordered","ranks":[0,1],"rationale":"\u001b[2J"})"}) {
    EXPECT_NE(refusal([&] { answer("ann", *one, body); }).find("control"), std::string::npos);
  }
  answer("ann", *one, R"({"outcome":"ordered","ranks":[0,1],"rationale":"one\ntwo"})");
  EXPECT_EQ(journal().counts().answers, 1);
}

TEST_F(PlainTextDoors, WhatAnOlderVersionStoredIsRead) {
  journal().put_project(plain_project(), now_us_);
  journal().add_questions({pair("q")}, now_us_);
  journal_.reset();
  {
    auto database = sqlite::Database::open(store() / "journal.sqlite");
    database.run("UPDATE projects SET toml = replace(toml, 'title = ''''', ?)",
                 "title = \"a\\u0000b\"");
    database.run("UPDATE question_content SET content = replace(content, 'prompt of q', ?)",
                 "prompt\\u0000of q");
  }
  open();
  EXPECT_EQ(journal().project("default").title, "a\0b"s);
  const auto one = next("ann");
  ASSERT_TRUE(one);
  EXPECT_EQ(one->prompt, "prompt\0of q"s);
  answer("ann", *one, kLeft);
  now_us_ += 3600LL * 1'000'000;  // beyond the time of taking back
  EXPECT_TRUE(journal().seal(now_us_));
}

}  // namespace
}  // namespace hone::data
