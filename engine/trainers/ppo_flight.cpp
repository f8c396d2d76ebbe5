#include "engine/trainers/ppo_flight.h"

#include <nlohmann/json.hpp>

#include "engine/trainers/rollout_state.h"

namespace hone::engine {
namespace {

// One list of names for both directions.
template <class Flight, class F>
void each_number(Flight& flight, F&& act) {
  auto& summary = flight.summary;
  act("reward", summary.reward);
  act("kl", summary.kl);
  act("advantage_mean", summary.advantage_mean);
  act("advantage_std", summary.advantage_std);
  act("explained_variance", summary.explained_variance);
  auto& means = flight.means;
  act("policy_loss", means.policy_loss);
  act("value_loss", means.value_loss);
  act("clip_fraction", means.clip_fraction);
  act("approx_kl", means.approx_kl);
  act("ratio_max", means.ratio_max);
  act("kl_loss", means.kl_loss);
  act("held", means.held);
  act("margin", means.margin);
  act("actor_norm", means.actor_norm);
  act("critic_norm", means.critic_norm);
  auto& first = means.first;
  act("first.loss", first.loss);
  act("first.clip_fraction", first.clip_fraction);
  act("first.approx_kl", first.approx_kl);
  act("first.ratio_error", first.ratio_error);
  act("first.entropy", first.entropy);
  act("first.mismatch", first.mismatch);
  act("kl_coef", flight.kl_coef);
  act("lr", flight.lr);
  act("sampling_rounds", flight.sampling_rounds);
  act("flat_groups", flight.flat_groups);
  act("seconds_rollout", flight.seconds_rollout);
  act("seconds_scoring", flight.seconds_scoring);
  act("seconds_update", flight.seconds_update);
}

template <class Result, class F>
void each_result_number(Result& result, F&& act) {
  act("seconds", result.seconds);
  act("seconds_rollout", result.seconds_rollout);
  act("seconds_scoring", result.seconds_scoring);
  act("seconds_update", result.seconds_update);
  act("first_ratio_error", result.first_ratio_error);
  act("first_approx_kl", result.first_approx_kl);
}

}  // namespace

void add_flight(TrainingState& state, const PpoFlight& flight) {
  add_rollout(state, flight.rollout);
  nlohmann::json object = {{"steps", flight.means.steps}};
  each_number(flight,
              [&](const char* name, double value) { object[name] = number_to_json(value); });
  state.scalars["flight"] = std::move(object);
}

PpoFlight saved_flight(const SavedState& saved, at::Device device) {
  PpoFlight flight;
  flight.rollout = saved_rollout(saved, device);
  const auto& object = saved.scalars().at("flight");
  flight.means.steps = object.at("steps").get<int64_t>();
  each_number(flight,
              [&](const char* name, double& value) { value = number_from_json(object.at(name)); });
  return flight;
}

nlohmann::json to_json(const PpoResult& result) {
  nlohmann::json object = {{"iterations", result.iterations}, {"tokens", result.tokens}};
  each_result_number(result,
                     [&](const char* name, double value) { object[name] = number_to_json(value); });
  return object;
}

PpoResult ppo_result_from_json(const nlohmann::json& object) {
  PpoResult result;
  result.iterations = object.at("iterations").get<int64_t>();
  result.tokens = object.at("tokens").get<int64_t>();
  each_result_number(
      result, [&](const char* name, double& value) { value = number_from_json(object.at(name)); });
  return result;
}

}  // namespace hone::engine
