#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "data/journal/journal.h"
#include "data/service/accounts.h"
#include "data/store.h"
#include "engine/cli/command.h"
#include "engine/cli/line_output.h"

namespace hone::engine {
namespace {

using data::service::Accounts;
using nlohmann::json;

struct RatersArguments {
  std::filesystem::path store;
  std::string role = "rater", project, note, url = "http://127.0.0.1:8080", who, output = "-";
  std::string key_role = "loop";
  std::vector<std::string> languages;
  int64_t count = 1, days = 14;
  bool as_json = false;
};

int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string date_of(int64_t us) {
  if (us == 0) return "-";
  const std::time_t seconds = us / 1000000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &parts);
  return text;
}

/// Never makes a store by a mistyped name.
Accounts open_accounts(const std::filesystem::path& store) {
  data::Store::open_unchecked(store);
  return Accounts(store);
}

void invite(const RatersArguments& arguments) {
  auto accounts = open_accounts(arguments.store);
  data::service::NewInvitation invitation;
  invitation.role = data::service::parse_role(arguments.role);
  invitation.project = arguments.project;
  invitation.note = arguments.note;
  invitation.languages = arguments.languages;
  invitation.valid_us = arguments.days * 24 * 3600 * 1000000;
  for (int64_t i = 0; i < arguments.count; ++i) {
    std::cout << arguments.url << "/join#" << accounts.invite(invitation, now_us()) << "\n";
  }
}

void list(const RatersArguments& arguments) {
  const auto accounts = open_accounts(arguments.store);
  if (arguments.as_json) {
    json all = {{"raters", json::array()}, {"invitations", json::array()}, {"keys", json::array()}};
    for (const auto& account : accounts.list()) {
      all["raters"].push_back({{"pseudonym", account.pseudonym},
                               {"name", account.name},
                               {"role", role_name(account.role)},
                               {"project", account.project},
                               {"languages", account.languages},
                               {"created_us", account.created_us},
                               {"last_seen_us", account.last_seen_us},
                               {"revoked", account.revoked_us != 0}});
    }
    for (const auto& invitation : accounts.invitations()) {
      all["invitations"].push_back({{"id", invitation.id},
                                    {"role", role_name(invitation.role)},
                                    {"note", invitation.note},
                                    {"created_us", invitation.created_us},
                                    {"expires_us", invitation.expires_us},
                                    {"used", invitation.used}});
    }
    for (const auto& key : accounts.keys()) {
      all["keys"].push_back({{"id", key.id},
                             {"role", key_role_name(key.role)},
                             {"note", key.note},
                             {"created_us", key.created_us},
                             {"revoked", key.revoked_us != 0}});
    }
    std::cout << all.dump(2) << "\n";
    return;
  }
  std::printf("%-14s %-8s %-17s %-17s %s\n", "pseudonym", "role", "joined", "last seen", "name");
  for (const auto& account : accounts.list()) {
    std::printf("%-14s %-8s %-17s %-17s %s%s\n", account.pseudonym.c_str(),
                std::string(role_name(account.role)).c_str(), date_of(account.created_us).c_str(),
                date_of(account.last_seen_us).c_str(), account.name.c_str(),
                account.revoked_us != 0 ? " (revoked)" : "");
  }
  for (const auto& invitation : accounts.invitations()) {
    if (invitation.used || invitation.expires_us < now_us()) continue;
    std::printf("%-14s %-8s invited, until %s %s\n", invitation.id.c_str(),
                std::string(role_name(invitation.role)).c_str(),
                date_of(invitation.expires_us).c_str(), invitation.note.c_str());
  }
  for (const auto& key : accounts.keys()) {
    if (key.revoked_us != 0) continue;
    std::printf("%-14s %-8s key since %s %s\n", key.id.c_str(),
                std::string(key_role_name(key.role)).c_str(), date_of(key.created_us).c_str(),
                key.note.c_str());
  }
}

void revoke(const RatersArguments& arguments) {
  if (!open_accounts(arguments.store).revoke(arguments.who, now_us())) {
    throw data::InputError("hone raters", "revoke", "a pseudonym, invitation or key in use",
                           arguments.who);
  }
  std::cout << arguments.who << " may not come back; what they answered stays\n";
}

void erase(const RatersArguments& arguments) {
  auto accounts = open_accounts(arguments.store);
  // A running server holds the journal: this then says so, and nothing has happened.
  auto journal = data::Journal::open(arguments.store);
  const bool known = accounts.find(arguments.who).has_value();
  const int64_t answers = journal.erase(arguments.who, now_us());
  accounts.erase(arguments.who);
  if (!known && answers == 0) {
    throw data::InputError("hone raters", "erase", "a rater of this store", arguments.who);
  }
  std::cout << answers << " answers and the account erased; `hone verify "
            << arguments.store.string() << "` proves it\n";
}

json provenance_json(const data::Provenance& provenance) {
  return {{"served_us", provenance.served_us},
          {"answered_us", provenance.answered_us},
          {"guideline_hash", provenance.guideline_hash},
          {"source", provenance.source}};
}

/// Everything kept about people: what somebody may ask for about themselves.
void export_people(const RatersArguments& arguments) {
  const auto accounts = open_accounts(arguments.store);
  std::map<std::string, json> people;
  for (const auto& account : accounts.list()) {
    people[account.pseudonym] = {
        {"pseudonym", account.pseudonym},   {"name", account.name},
        {"role", role_name(account.role)},  {"languages", account.languages},
        {"created_us", account.created_us}, {"last_seen_us", account.last_seen_us},
        {"answers", json::array()}};
  }
  const auto records = data::read_feedback(arguments.store);
  const auto answers_of = [&](const std::string& rater) -> json& {
    auto& person = people[rater];
    if (person.is_null()) person = {{"pseudonym", rater}, {"answers", json::array()}};
    return person["answers"];
  };
  for (const auto& comparison : records.comparisons) {
    if (comparison.rater.empty()) continue;
    json texts = json::array();
    for (const int64_t item : comparison.items) {
      texts.push_back(records.items[static_cast<size_t>(item)].text);
    }
    auto answer = provenance_json(comparison.provenance);
    answer.update({{"kind", "comparison"},
                   {"texts", texts},
                   {"ranks", comparison.ranks},
                   {"strength", comparison.strength},
                   {"rationale", comparison.rationale},
                   {"skip_reason", comparison.skip_reason}});
    answers_of(comparison.rater).push_back(std::move(answer));
  }
  for (const auto& rating : records.ratings) {
    if (rating.rater.empty()) continue;
    auto answer = provenance_json(rating.provenance);
    answer.update({{"kind", "rating"},
                   {"text", records.items[static_cast<size_t>(rating.item)].text},
                   {"dimension", rating.dimension},
                   {"value", rating.value}});
    answers_of(rating.rater).push_back(std::move(answer));
  }
  for (const auto& demonstration : records.demonstrations) {
    if (demonstration.rater.empty()) continue;
    auto answer = provenance_json(demonstration.provenance);
    answer.update({{"kind", "demonstration"},
                   {"prompt", demonstration.prompt},
                   {"text", demonstration.completion}});
    answers_of(demonstration.rater).push_back(std::move(answer));
  }
  if (!arguments.who.empty() && people.count(arguments.who) == 0) {
    throw data::InputError("hone raters", "export", "a rater of this store", arguments.who);
  }
  LineOutput output(arguments.output);
  for (const auto& [pseudonym, person] : people) {
    if (!arguments.who.empty() && pseudonym != arguments.who) continue;
    output.write(person.dump(-1, ' ', false, json::error_handler_t::replace));
  }
}

void make_key(const RatersArguments& arguments) {
  auto accounts = open_accounts(arguments.store);
  const auto role = data::service::parse_key_role(arguments.key_role);
  std::cout << accounts.create_key(role, arguments.note, now_us()) << "\n";
}

}  // namespace

void add_raters_command(CLI::App& app) {
  auto arguments = std::make_shared<RatersArguments>();
  auto* command = app.add_subcommand("raters", "Who may rate: invite, list, revoke, erase, export");
  command->require_subcommand(1);
  const auto add = [&](const char* name, const char* help, void (*run)(const RatersArguments&),
                       const std::string& examples) {
    auto* verb = command->add_subcommand(name, help);
    verb->footer("Examples:\n" + examples);
    verb->add_option("--store", arguments->store, "The store's folder")->required();
    verb->callback([arguments, run] { run(*arguments); });
    return verb;
  };
  auto* inviting =
      add("invite", "Print links that work once each", invite,
          "  hone raters invite --store feedback --count 20 --url "
          "https://rate.example.org\n"
          "  hone raters invite --store feedback --role expert --language de --days 3");
  inviting->add_option("--role", arguments->role, "rater, expert, manager or owner")
      ->capture_default_str();
  inviting->add_option("--count", arguments->count, "How many links")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  inviting->add_option("--project", arguments->project, "What they rate; none: the store's first");
  inviting->add_option("--language", arguments->languages, "Codes of the languages they judge");
  inviting->add_option("--note", arguments->note, "For you: whom it is for");
  inviting->add_option("--days", arguments->days, "How long a link works")
      ->check(CLI::Range(1, 3650))
      ->capture_default_str();
  inviting->add_option("--url", arguments->url, "Where the service is reached")
      ->capture_default_str();
  auto* listing = add("list", "People, open invitations and keys", list,
                      "  hone raters list --store feedback\n"
                      "  hone raters list --store feedback --json | jq .raters");
  listing->add_flag("--json", arguments->as_json, "As JSON");
  auto* revoking = add("revoke", "Sign a person out for good, or end a key; answers stay", revoke,
                       "  hone raters revoke --store feedback r-k3mbx7w2qd");
  revoking->add_option("who", arguments->who, "Pseudonym, or id of an invitation or key")
      ->required();
  auto* erasing = add("erase", "Remove a person and every answer of theirs, sealed ones too", erase,
                      "  hone raters erase --store feedback r-k3mbx7w2qd");
  erasing->add_option("who", arguments->who, "Pseudonym")->required();
  auto* exporting =
      add("export", "All that is kept about people, one JSON line each", export_people,
          "  hone raters export --store feedback r-k3mbx7w2qd --output about-them.jsonl");
  exporting->add_option("who", arguments->who, "Pseudonym; none: everybody");
  exporting->add_option("--output", arguments->output, "File, or - for standard output")
      ->capture_default_str();
  auto* keying = add("key", "Print a key for a program; it is shown only now", make_key,
                     "  hone raters key --store feedback --role loop --note 'the nightly loop'");
  keying->add_option("--role", arguments->key_role, "loop (questions and labels) or metrics")
      ->capture_default_str();
  keying->add_option("--note", arguments->note, "For you: what it is for");
  command->footer(
      "Examples:\n"
      "  hone raters invite --store feedback --count 20 --url https://rate.example.org\n"
      "  hone raters invite --store feedback --role expert --language de\n"
      "  hone raters list --store feedback\n"
      "  hone raters erase --store feedback r-k3mbx7w2qd\n"
      "  hone raters key --store feedback --role loop");
}

}  // namespace hone::engine
