#include "engine/checkpoint/shard.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "data/sha256.h"
#include "engine/io/safetensors.h"

namespace hone::engine {
namespace {

constexpr int64_t kChunkBytes = 4 << 20;  // hashed while still in the cache

}  // namespace

std::string Piece::stored_name() const {
  return count == size ? name : name + "[" + std::to_string(begin) + "]";
}

nlohmann::json to_json(const ShardRecord& shard) {
  nlohmann::json pieces = nlohmann::json::array();
  for (const auto& piece : shard.pieces) {
    pieces.push_back({{"name", piece.name},
                      {"dtype", piece.type},
                      {"size", piece.size},
                      {"begin", piece.begin},
                      {"count", piece.count},
                      {"part", piece.part}});
  }
  return {{"file", shard.file},
          {"bytes", shard.bytes},
          {"sha256", shard.sha256},
          {"pieces", std::move(pieces)}};
}

ShardRecord shard_from_json(const nlohmann::json& object) {
  ShardRecord shard;
  shard.file = object.at("file").get<std::string>();
  shard.bytes = object.at("bytes").get<uint64_t>();
  shard.sha256 = object.at("sha256").get<std::string>();
  for (const auto& piece : object.at("pieces")) {
    shard.pieces.push_back({piece.at("name").get<std::string>(),
                            piece.at("dtype").get<std::string>(), piece.at("size").get<int64_t>(),
                            piece.at("begin").get<int64_t>(), piece.at("count").get<int64_t>(),
                            piece.at("part").get<bool>()});
  }
  return shard;
}

ShardData share_of(const TrainingState& state, int64_t rank, int64_t world) {
  ShardData data;
  for (const auto& tensor : state.tensors) {
    int64_t begin = tensor.begin;
    at::Tensor values = tensor.values.reshape({-1});
    if (values.numel() == tensor.size) {
      begin = tensor.size * rank / world;
      values = values.narrow(0, begin, tensor.size * (rank + 1) / world - begin);
    }
    if (values.numel() == 0) continue;
    data.pieces.push_back({tensor.name, stored_type_name(values.scalar_type()), tensor.size, begin,
                           values.numel(), false});
    data.values.push_back(values.detach());
  }
  for (const auto& part : state.parts) {
    const at::Tensor values = part.values.reshape({-1});
    data.pieces.push_back({part.name, stored_type_name(values.scalar_type()), values.numel(), 0,
                           values.numel(), true});
    data.values.push_back(values.detach());
  }
  return data;
}

std::string shard_name(int64_t rank, int64_t world) {
  char text[64];
  std::snprintf(text, sizeof text, "shard-%05lld-of-%05lld.safetensors",
                static_cast<long long>(rank), static_cast<long long>(world));
  return text;
}

ShardRecord write_shard(const std::filesystem::path& folder, const ShardData& data, int64_t rank,
                        int64_t world) {
  ShardRecord record;
  record.file = shard_name(rank, world);
  record.pieces = data.pieces;
  std::vector<TensorToStore> tensors;
  for (size_t i = 0; i < data.pieces.size(); ++i) {
    tensors.push_back({data.pieces[i].stored_name(),
                       data.pieces[i].type,
                       {data.pieces[i].count},
                       nullptr,
                       data.values[i].nbytes()});
  }
  data::Sha256 digest;
  const auto path = folder / record.file;
  SafetensorsWriter writer(path, tensors,
                           {{"format", "hone-checkpoint-1"},
                            {"rank", std::to_string(rank)},
                            {"world", std::to_string(world)}},
                           &digest);
  for (const auto& values : data.values) {
    const auto* bytes = static_cast<const char*>(values.const_data_ptr());
    const auto size = static_cast<int64_t>(values.nbytes());
    for (int64_t at = 0; at < size; at += kChunkBytes) {
      writer.write(bytes + at, static_cast<size_t>(std::min(kChunkBytes, size - at)));
    }
  }
  writer.finish();
  record.bytes = std::filesystem::file_size(path);
  record.sha256 = digest.hex();
  return record;
}

}  // namespace hone::engine
