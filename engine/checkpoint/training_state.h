#pragma once

// Everything a resume needs, as one rank sees it.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace hone::engine {

/// A flat tensor of `size` elements over all ranks, of which this rank holds [begin, begin + n).
/// n = size: the tensor is whole on every rank, and each writes an even share of it.
struct StateTensor {
  std::string name;
  at::Tensor values;  // [n], contiguous
  int64_t size = 0, begin = 0;
};

/// What this rank alone has; it comes back by saving rank.
struct StatePart {
  std::string name;
  at::Tensor values;  // contiguous, any shape
};

/// Holds tensors by reference: taking one costs no copy, and the values are those of the moment at
/// which they are written. Nothing may change them before that (Checkpointer::await_copy).
struct TrainingState {
  std::vector<StateTensor> tensors;
  std::vector<StatePart> parts;
  nlohmann::json scalars = nlohmann::json::object();  // the same on every rank

  void add(std::string name, const at::Tensor& whole) {
    tensors.push_back({std::move(name), whole, whole.numel(), 0});
  }
  void add_interval(std::string name, const at::Tensor& values, int64_t size, int64_t begin) {
    tensors.push_back({std::move(name), values, size, begin});
  }
  void add_part(std::string name, const at::Tensor& values) {
    parts.push_back({std::move(name), values});
  }
};

/// Doubles as JSON that come back with all their bits, the infinite ones too.
nlohmann::json number_to_json(double value);
double number_from_json(const nlohmann::json& value);

/// The bits of a tensor's type as safetensors names it. Throws data::InputError for others.
const char* stored_type_name(at::ScalarType type);
at::ScalarType type_of_stored(const std::string& name);

}  // namespace hone::engine
