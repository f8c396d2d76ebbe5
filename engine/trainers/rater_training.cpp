#include "engine/trainers/rater_training.h"

#include <ATen/ops/from_blob.h>

#include <vector>

#include "data/error.h"

namespace hone::engine {
namespace {

using data::InputError;
using reward::RaterKind;
using reward::RaterModel;

constexpr const char* kWhere = "reward training";
constexpr const char* kScores = "raters/scores";
constexpr const char* kPopulation = "raters/population";

at::Tensor tensor_of(const std::vector<double>& values) {
  auto* data = const_cast<double*>(values.data());  // from_blob has no const form; cloned at once
  return at::from_blob(data, {static_cast<int64_t>(values.size())}, at::kDouble).clone();
}

std::vector<double> vector_of(const at::Tensor& tensor) {
  const at::Tensor cpu = tensor.detach().to(at::kCPU, at::kDouble).contiguous();
  const double* values = cpu.const_data_ptr<double>();
  return {values, values + cpu.numel()};
}

}  // namespace

RaterTraining::RaterTraining(const std::string& raters, const std::string& loss, double lapse,
                             const reward::PreferenceData& data, int64_t items) {
  if (raters == "equal") return;
  if (raters != "one_coin" && raters != "side") {
    throw InputError(kWhere, "raters", "equal, one_coin or side", "'" + raters + "'");
  }
  if (loss != "bradley_terry") {
    throw InputError(kWhere, "loss", "bradley_terry where raters is " + raters, "'" + loss + "'");
  }
  if (lapse != 0.0) {
    throw InputError(kWhere, "lapse", "0 where raters is " + raters + " (each rater has their own)",
                     std::to_string(lapse));
  }
  model_ = std::make_shared<RaterModel>(raters == "side" ? RaterKind::kSide : RaterKind::kOneCoin,
                                        data.answers(), data.known(), items);
}

RaterModel::Expected RaterTraining::step(const reward::PairBatch& batch, const at::Tensor& scores) {
  const auto values = vector_of(scores);
  auto expected = model_->expect(batch, values);
  model_->observe(batch.items, values);
  return expected;
}

void RaterTraining::save(TrainingState& state) const {
  if (model_ == nullptr) return;
  state.add(kScores, tensor_of(model_->state().scores));
  state.add(kPopulation, tensor_of(model_->state().population));
}

void RaterTraining::restore(const SavedState& saved) {
  if (model_ == nullptr) return;
  model_->restore({vector_of(saved.whole(kScores)), vector_of(saved.whole(kPopulation))});
}

}  // namespace hone::engine
