#include "engine/checkpoint/manifest.h"

#include <cstdio>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/sha256.h"

namespace hone::engine {
namespace {

using data::CorruptError;
using nlohmann::json;
namespace fs = std::filesystem;

constexpr int kFormat = 1;

}  // namespace

std::string checkpoint_name(const TrainingPosition& position) {
  char text[64];
  std::snprintf(text, sizeof text, "step-%08lld", static_cast<long long>(position.step));
  std::string name = text;
  if (position.part > 0) {
    std::snprintf(text, sizeof text, ".%04lld", static_cast<long long>(position.part));
    name += text;
  }
  return name;
}

std::string manifest_text(const Manifest& manifest) {
  json shards = json::array();
  for (const auto& shard : manifest.shards) shards.push_back(to_json(shard));
  const json body = {{"format", kFormat},
                     {"step", manifest.position.step},
                     {"part", manifest.position.part},
                     {"identity",
                      {{"recipe", manifest.identity.recipe},
                       {"model", manifest.identity.model},
                       {"data", manifest.identity.data}}},
                     {"metrics", manifest.metrics},
                     {"seconds", manifest.seconds},
                     {"time", manifest.time},
                     {"version", manifest.version},
                     {"scalars", manifest.scalars},
                     {"shards", std::move(shards)}};
  return json({{"checkpoint", body}, {"sha256", data::sha256_hex(body.dump())}}).dump(1) + "\n";
}

Manifest read_manifest(const fs::path& checkpoint) {
  const auto path = checkpoint / "manifest.json";
  if (!fs::is_regular_file(path)) {
    throw CorruptError(checkpoint.string(), "manifest.json", "a file", "none");
  }
  try {
    const json object = json::parse(data::read_file(path));
    const json& body = object.at("checkpoint");
    if (data::sha256_hex(body.dump()) != object.at("sha256").get<std::string>()) {
      throw CorruptError(path.string(), "checksum", "the one that it names", "another");
    }
    if (body.at("format").get<int>() != kFormat) {
      throw CorruptError(path.string(), "format", std::to_string(kFormat),
                         body.at("format").dump());
    }
    Manifest manifest;
    manifest.position = {body.at("step").get<int64_t>(), body.at("part").get<int64_t>()};
    const json& identity = body.at("identity");
    manifest.identity = {identity.at("recipe").get<std::string>(),
                         identity.at("model").get<std::string>(),
                         identity.at("data").get<std::string>()};
    manifest.metrics = body.at("metrics");
    manifest.seconds = body.at("seconds").get<double>();
    manifest.time = body.at("time").get<std::string>();
    manifest.version = body.at("version").get<std::string>();
    manifest.scalars = body.at("scalars");
    for (const auto& shard : body.at("shards")) manifest.shards.push_back(shard_from_json(shard));
    return manifest;
  } catch (const json::exception&) {
    throw CorruptError(path.string(), "content", "what Hone wrote", "something else");
  }
}

void verify_shards(const fs::path& checkpoint, const Manifest& manifest) {
  for (const auto& shard : manifest.shards) {
    const auto path = checkpoint / shard.file;
    std::error_code error;
    const auto bytes = fs::file_size(path, error);
    if (error) throw CorruptError(path.string(), "shard", "a file", "none");
    if (bytes != shard.bytes) {
      throw CorruptError(path.string(), "size", std::to_string(shard.bytes) + " bytes",
                         std::to_string(bytes));
    }
    if (data::sha256_file(path) != shard.sha256) {
      throw CorruptError(path.string(), "checksum", "the manifest's", "another");
    }
  }
}

void check_identity(const fs::path& checkpoint, const Manifest& manifest,
                    const TrainingIdentity& expected) {
  const auto check = [&](const char* what, const std::string& wanted, const std::string& got) {
    if (wanted == got) return;
    throw data::InputError(checkpoint.string(), what,
                           "the one of this run (" + wanted.substr(0, 12) + ")",
                           "another (" + got.substr(0, 12) +
                               "); `--force` starts the stage again, other --out keeps both");
  };
  check("recipe", expected.recipe, manifest.identity.recipe);
  check("model", expected.model, manifest.identity.model);
  check("data", expected.data, manifest.identity.data);
}

}  // namespace hone::engine
