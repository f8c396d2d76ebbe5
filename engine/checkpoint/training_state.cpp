#include "engine/checkpoint/training_state.h"

#include <array>
#include <cmath>
#include <limits>

#include "data/error.h"

namespace hone::engine {
namespace {

struct TypeName {
  const char* name;
  at::ScalarType type;
};
constexpr std::array kTypes = {TypeName{"F32", at::kFloat},     TypeName{"F64", at::kDouble},
                               TypeName{"BF16", at::kBFloat16}, TypeName{"F16", at::kHalf},
                               TypeName{"I64", at::kLong},      TypeName{"I32", at::kInt},
                               TypeName{"U8", at::kByte}};

}  // namespace

nlohmann::json number_to_json(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

double number_from_json(const nlohmann::json& value) {
  if (value.is_number()) return value.get<double>();
  const auto& text = value.get_ref<const std::string&>();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (text == "inf") return kInfinity;
  return text == "-inf" ? -kInfinity : std::numeric_limits<double>::quiet_NaN();
}

const char* stored_type_name(at::ScalarType type) {
  for (const auto& known : kTypes) {
    if (known.type == type) return known.name;
  }
  throw data::InputError("checkpoint", "type of a tensor", "a float, an integer or bytes",
                         c10::toString(type));
}

at::ScalarType type_of_stored(const std::string& name) {
  for (const auto& known : kTypes) {
    if (name == known.name) return known.type;
  }
  throw data::InputError("checkpoint", "type of a tensor", "F32, F64, BF16, F16, I64, I32 or U8",
                         "'" + name + "'");
}

}  // namespace hone::engine
