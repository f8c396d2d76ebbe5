#include "engine/models/parameter_arena.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/ScalarType.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "data/error.h"

namespace hone::engine {
namespace {

constexpr int64_t kAlignment = 64;  // bytes: a cache line and a full AVX-512 vector

int64_t numel_of(const std::vector<int64_t>& shape) {
  int64_t numel = 1;
  for (const int64_t size : shape) numel *= size;
  return numel;
}

/// The whole pages of a tensor in host memory go back to the system: private anonymous memory then
/// reads as zeros, with nothing to write and nothing to hold. What lies before and after those
/// pages, in bytes from the tensor's beginning.
struct Kept {
  size_t before = 0, after = 0;  // [0, before) and [after, nbytes) are as they were
};
Kept give_back(const at::Tensor& part) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<uintptr_t>(part.mutable_data_ptr());
  const uintptr_t last = first + part.nbytes();
  const uintptr_t first_page = (first + page - 1) / page * page, last_page = last / page * page;
  if (first_page >= last_page ||
      madvise(reinterpret_cast<void*>(first_page), last_page - first_page, MADV_DONTNEED) != 0) {
    return {part.nbytes(), part.nbytes()};
  }
  return {first_page - first, last_page - first};
}

}  // namespace

int64_t ParameterArena::add_leaf(
    const std::vector<std::pair<std::string, std::vector<int64_t>>>& slices, bool decay,
    int64_t block, bool transposed) {
  const auto index = static_cast<int64_t>(leaves_.size());
  ParameterLeaf leaf;
  leaf.decay = decay;
  leaf.block = block;
  leaf.shape = slices.front().second;
  leaf.shape[0] = 0;
  leaf.offset = size_;
  for (const auto& [name, shape] : slices) {
    slices_.push_back({name, shape, size_ + leaf.numel, numel_of(shape), index, transposed});
    leaf.numel += slices_.back().numel;
    leaf.shape[0] += shape[0];
  }
  // 16 elements are 64 bytes of float32 and a multiple of 64 bytes of float64: one layout for every
  // dtype, so that offsets in checkpoints of the optimizer do not depend on it.
  constexpr int64_t kElements = kAlignment / 4;
  size_ = (size_ + leaf.numel + kElements - 1) / kElements * kElements;
  leaves_.push_back(std::move(leaf));
  return index;
}

void ParameterArena::allocate(at::ScalarType dtype, at::Device device) {
  const at::NoGradGuard no_grad;
  data_ = at::zeros({size_}, at::TensorOptions().dtype(dtype).device(device));
  grad_ = at::Tensor();
  leaves_tensors_.clear();
  for (const ParameterLeaf& leaf : leaves_) {
    // detach: a leaf of its own for autograd that shares storage and version counter, so that an
    // update between forward and backward is an error instead of a wrong gradient.
    leaves_tensors_.push_back(data_.narrow(0, leaf.offset, leaf.numel).view(leaf.shape).detach());
  }
}

void ParameterArena::enable_grad() {
  if (grad_.defined()) return;
  const at::NoGradGuard no_grad;
  grad_ = at::empty({size_}, data_.options());
  release_grad(0, size_);
  for (size_t i = 0; i < leaves_.size(); ++i) {
    const ParameterLeaf& leaf = leaves_[i];
    leaves_tensors_[i].requires_grad_(true);
    leaves_tensors_[i].mutable_grad() =
        grad_.narrow(0, leaf.offset, leaf.numel).view(leaf.shape).detach();
  }
}

void ParameterArena::zero_grad() {
  if (grad_.defined()) grad_.zero_();
}

void ParameterArena::release_grad(int64_t begin, int64_t end) {
  const at::NoGradGuard no_grad;
  at::Tensor part = grad_.narrow(0, begin, end - begin);
  if (!part.is_cpu()) {
    part.zero_();
    return;
  }
  const Kept kept = give_back(part);
  auto* bytes = static_cast<char*>(part.mutable_data_ptr());
  std::memset(bytes, 0, kept.before);
  std::memset(bytes + kept.after, 0, part.nbytes() - kept.after);
}

void ParameterArena::release_data(int64_t begin, int64_t end) {
  if (!data_.is_cpu()) {
    throw data::InputError("parameter arena", "device of parameters held in parts", "the host's",
                           data_.device().str());
  }
  give_back(data_.narrow(0, begin, end - begin));
}

void ParameterArena::require_whole(const char* where) const {
  if (keeper_ && keeper_->in_parts()) {
    throw data::Error(where, "parameters", "whole ones", "those of one rank");
  }
}

at::Tensor ParameterArena::slice(const std::string& name) const {
  for (const ParameterSlice& slice : slices_) {
    if (slice.name == name) return this->slice(slice);
  }
  throw data::InputError("parameter arena", "slice", "the name of a parameter", "'" + name + "'");
}

at::Tensor ParameterArena::slice(const ParameterSlice& slice) const {
  return data_.narrow(0, slice.offset, slice.numel).view(slice.shape);
}

void ParameterArena::copy_from(const ParameterArena& other) {
  if (other.size_ != size_) {
    throw data::InputError("parameter arena", "copy", std::to_string(size_) + " elements",
                           std::to_string(other.size_));
  }
  const at::NoGradGuard no_grad;
  data_.copy_(other.data_);
}

}  // namespace hone::engine
