#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "reward/bag_of_words.h"

namespace hone::reward {

std::string BagOfWords::to_json() const {
  std::map<std::string, float> by_name;
  for (const auto& [name, index] : vocabulary_)
    by_name[name] = weights_[static_cast<size_t>(index)];
  return nlohmann::json(by_name).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

BagOfWords BagOfWords::from_json(const std::string& text, const std::string& where) {
  const auto object = nlohmann::json::parse(text, nullptr, false);
  if (!object.is_object()) {
    throw data::InputError(where, "bag of words", "{\"feature\": weight}", object.type_name());
  }
  BagOfWords bag;
  for (const auto& [name, weight] : object.items()) {
    if (!weight.is_number() || !std::isfinite(weight.get<double>())) {
      throw data::InputError(where, "weight of '" + name + "'", "a finite number", weight.dump());
    }
    bag.vocabulary_.emplace(name, static_cast<int32_t>(bag.weights_.size()));
    bag.weights_.push_back(weight.get<float>());
  }
  return bag;
}

}  // namespace hone::reward
