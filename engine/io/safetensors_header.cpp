#include "engine/io/safetensors_header.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "data/error.h"
#include "engine/io/json.h"

namespace hone::engine {
namespace {

using data::InputError;
using nlohmann::json;

constexpr size_t kLengthBytes = 8;

// No tensor has this many dimensions; a header with more is an attack on memory.
constexpr size_t kMaxDimensions = 64;

constexpr std::array<std::pair<std::string_view, size_t>, 16> kDtypes = {{{"F64", 8},
                                                                          {"F32", 4},
                                                                          {"F16", 2},
                                                                          {"BF16", 2},
                                                                          {"F8_E4M3", 1},
                                                                          {"F8_E5M2", 1},
                                                                          {"I64", 8},
                                                                          {"I32", 4},
                                                                          {"I16", 2},
                                                                          {"I8", 1},
                                                                          {"U64", 8},
                                                                          {"U32", 4},
                                                                          {"U16", 2},
                                                                          {"U8", 1},
                                                                          {"BOOL", 1},
                                                                          {"C64", 8}}};

std::string tensor_where(const std::string& file, const std::string& name) {
  return file + ": tensor " + shown_json(name);
}

// The parser keeps the last of two equal keys and any depth of nesting; the format allows neither.
json parse_strictly(std::string_view header, const std::string& file) {
  std::unordered_set<std::string> names;
  size_t values_since_key = 0;
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > 4) {
      throw InputError(file, "safetensors header", "at most 4 levels of JSON", "deeper nesting");
    }
    if (event == json::parse_event_t::key) {
      values_since_key = 0;
      if (depth == 1 && !names.insert(parsed.get<std::string>()).second) {
        throw InputError(tensor_where(file, parsed.get<std::string>()), "name", "to be unique",
                         "it twice");
      }
    } else if (event == json::parse_event_t::value && ++values_since_key > kMaxDimensions) {
      throw InputError(file, "safetensors header",
                       "lists of at most " + std::to_string(kMaxDimensions) + " numbers",
                       "a longer one");
    }
    return true;
  };
  try {
    return json::parse(header.begin(), header.end(), check);
  } catch (const json::exception& error) {
    throw InputError(file, "safetensors header", "valid JSON", shown_error(error));
  }
}

uint64_t unsigned_of(const json& value, const std::string& where, const std::string& what) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > uint64_t{INT64_MAX}) {
    throw InputError(where, what, "an integer from 0 to 2^63-1", shown_json(value));
  }
  return value.get<uint64_t>();
}

const json& member(const json& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end()) {
    throw InputError(where, "header entry", std::string("a field '") + key + "'",
                     shown_json(object));
  }
  return *found;
}

HeaderEntry parse_entry(const std::string& name, const json& value, const std::string& file) {
  const std::string where = tensor_where(file, name);
  if (!value.is_object()) throw InputError(where, "header entry", "an object", shown_json(value));
  HeaderEntry entry;
  entry.name = name;
  const json& dtype = member(value, "dtype", where);
  if (!dtype.is_string()) throw InputError(where, "dtype", "a string", shown_json(dtype));
  entry.dtype = dtype.get<std::string>();
  const size_t element_bytes = safetensors_dtype_bytes(entry.dtype);
  if (element_bytes == 0) {
    throw InputError(where, "dtype", "F64, F32, F16, BF16, an integer type or BOOL",
                     shown_json(dtype));
  }
  const json& shape = member(value, "shape", where);
  if (!shape.is_array()) throw InputError(where, "shape", "a list of sizes", shown_json(shape));
  for (const json& size : shape) {
    entry.shape.push_back(static_cast<int64_t>(unsigned_of(size, where, "shape")));
  }
  const json& offsets = member(value, "data_offsets", where);
  if (!offsets.is_array() || offsets.size() != 2) {
    throw InputError(where, "data_offsets", "[begin, end]", shown_json(offsets));
  }
  entry.begin = unsigned_of(offsets[0], where, "data_offsets");
  entry.end = unsigned_of(offsets[1], where, "data_offsets");
  if (entry.end < entry.begin) {
    throw InputError(where, "data_offsets", "begin <= end", shown_json(offsets));
  }
  uint64_t bytes = 0;
  if (!safetensors_tensor_bytes(entry.shape, element_bytes, &bytes)) {
    throw InputError(where, "shape", "fewer than 2^63 bytes", shown_json(shape));
  }
  if (bytes != entry.end - entry.begin) {
    throw InputError(where, "data_offsets",
                     std::to_string(bytes) + " bytes for " + entry.dtype + shown_json(shape),
                     std::to_string(entry.end - entry.begin));
  }
  return entry;
}

void check_metadata(const json& metadata, const std::string& file) {
  bool valid = metadata.is_object();
  if (valid) {
    for (const json& value : metadata) valid = valid && value.is_string();
  }
  if (!valid) throw InputError(file, "__metadata__", "an object of strings", shown_json(metadata));
}

void check_tiling(const std::vector<HeaderEntry>& entries, uint64_t data_bytes,
                  const std::string& file) {
  uint64_t expected = 0;
  for (const HeaderEntry& entry : entries) {
    if (entry.begin != expected || entry.end > data_bytes) {
      throw InputError(tensor_where(file, entry.name), "data_offsets",
                       "begin " + std::to_string(expected) +
                           " (no gap, no overlap) and end <= " + std::to_string(data_bytes),
                       "[" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) + "]");
    }
    expected = entry.end;
  }
  if (expected != data_bytes) {
    throw InputError(file, "tensor data", std::to_string(expected) + " bytes by its header",
                     std::to_string(data_bytes));
  }
}

}  // namespace

size_t safetensors_dtype_bytes(std::string_view dtype) {
  for (const auto& [name, bytes] : kDtypes) {
    if (name == dtype) return bytes;
  }
  return 0;
}

bool safetensors_tensor_bytes(const std::vector<int64_t>& shape, size_t element_bytes,
                              uint64_t* bytes) {
  int64_t product = static_cast<int64_t>(element_bytes);
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(product, size, &product)) return false;
  }
  *bytes = static_cast<uint64_t>(product);
  return true;
}

std::string_view safetensors_header(std::string_view bytes, const std::string& file,
                                    uint64_t* data_bytes) {
  if (bytes.size() < kLengthBytes) {
    throw InputError(file, "safetensors file", "at least 8 bytes", std::to_string(bytes.size()));
  }
  uint64_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) length = length << 8 | static_cast<uint8_t>(bytes[i]);
  const uint64_t rest = bytes.size() - kLengthBytes;
  const uint64_t limit = std::min(rest, kMaxSafetensorsHeaderBytes);
  if (length > limit) {
    throw InputError(file, "safetensors header length", "at most " + std::to_string(limit),
                     std::to_string(length));
  }
  *data_bytes = rest - length;
  return bytes.substr(kLengthBytes, length);
}

std::vector<HeaderEntry> parse_safetensors_header(std::string_view header, uint64_t data_bytes,
                                                  const std::string& file) {
  const json parsed = parse_strictly(header, file);
  if (!parsed.is_object()) {
    throw InputError(file, "safetensors header", "a JSON object", parsed.type_name());
  }
  std::vector<HeaderEntry> entries;
  for (const auto& [name, value] : parsed.items()) {
    if (name == "__metadata__") {
      check_metadata(value, file);
    } else {
      entries.push_back(parse_entry(name, value, file));
    }
  }
  std::sort(entries.begin(), entries.end(), [](const HeaderEntry& a, const HeaderEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  check_tiling(entries, data_bytes, file);
  return entries;
}

}  // namespace hone::engine
