// A few pairs for `hone collect --demo` on a machine without a policy. Written by hand.

#include "engine/collect/policy_questions.h"

namespace hone::engine {
namespace {

struct Pair {
  const char *prompt, *a, *b;
};

constexpr Pair kPairs[] = {
    {"Explain to a child why the sky is blue.",
     "Sunlight is a mix of all colours. Tiny bits of air push blue light around far more than red "
     "light, so blue comes to your eyes from every part of the sky.",
     "The sky is blue because it mirrors the sea, and the sea is blue because water is blue when "
     "there is a lot of it."},
    {"My tea is too hot. What can I do?",
     "Pour it into a wide cup, stir it now and then, and give it five minutes.",
     "Tea is a drink that many people like. It can be black, green or white, and it can be hot or "
     "cold. If yours is hot, that is how it was made."},
    {"Write one sentence that makes somebody want to visit a library.",
     "A library has many books and is open on most days of the week.",
     "Behind one quiet door wait ten thousand people who would love to talk to you, and none of "
     "them minds being interrupted."},
    {"How many legs have four spiders and one ant?", "Thirty-eight: four times eight, and six.",
     "Spiders have eight legs and ants have six, so the answer is forty."},
    {"Give me a tip for falling asleep.",
     "Get up at the same time each day, and leave the phone in another room an hour before bed.",
     "Just close your eyes and stop thinking. It is easy if you try hard enough."},
    {"Is it safe to eat bread with a little mould on it?",
     "Cut the spot off generously and the rest is fine.",
     "Better not: in soft food like bread the threads reach further than you see. Throw the loaf "
     "away."},
    {"Say no to an invitation, kindly.",
     "Thank you for thinking of me! I can't come this time, but I hope you all have a lovely "
     "evening.",
     "No, I do not want to."},
    {"What is the capital of Australia?", "Sydney, the largest city of the country.",
     "Canberra. It was built as the capital because Sydney and Melbourne could not agree."},
    {"Summarise: 'The meeting moved from Tuesday to Thursday because the room was taken.'",
     "The meeting is now on Thursday, as the room was not free.",
     "There was a meeting. It was going to be on Tuesday. The room was taken. So the meeting was "
     "moved. It is now on Thursday instead of Tuesday."},
    {"Tell me a joke about a bicycle.", "Why did the bicycle fall over? It was two tired.",
     "A bicycle is funny because it has two wheels and no engine."},
    {"How do I apologise for being late?", "Say that it was the traffic, even when it was not.",
     "Name it, own it, and keep it short: \"I'm late, and I made you wait. I'm sorry.\""},
    {"Continue: The old lighthouse keeper climbed the stairs and",
     "found, for the first time in forty years, that somebody had lit the lamp before him.",
     "he climbed the stairs and the stairs were long and he climbed the stairs."},
};

}  // namespace

std::vector<data::Question> built_in_questions(const std::string& project) {
  std::vector<data::Question> questions;
  for (const auto& pair : kPairs) {
    data::Question question;
    question.project = project;
    question.prompt = pair.prompt;
    question.candidates = {{"", pair.a, "", ""}, {"", pair.b, "", ""}};
    questions.push_back(std::move(question));
  }
  return questions;
}

}  // namespace hone::engine
