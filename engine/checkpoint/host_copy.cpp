#include "engine/checkpoint/host_copy.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace hone::engine {
namespace {

constexpr int64_t kChunkBytes = 16 << 20;

/// Large pages: a gigabyte of new memory is a quarter of a million page faults otherwise.
void ask_for_large_pages(const at::Tensor& memory) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(memory.data_ptr());
  const uintptr_t first = (begin + page - 1) / page * page,
                  end = (begin + memory.nbytes()) / page * page;
  if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
}

}  // namespace

HostCopy::HostCopy(const std::vector<at::Tensor>& sources) {
  const at::NoGradGuard no_grad;
  for (const auto& source : sources) {
    at::Tensor copy = at::empty(source.sizes(), source.options().device(at::kCPU));
    ask_for_large_pages(copy);
    const int64_t step = source.is_cpu() ? kChunkBytes / static_cast<int64_t>(source.element_size())
                                         : source.numel();
    for (int64_t at = 0; at < source.numel(); at += step) {
      const int64_t count = std::min(step, source.numel() - at);
      chunks_.push_back({source.narrow(0, at, count), copy.narrow(0, at, count)});
    }
    copies_.push_back(std::move(copy));
  }
}

void HostCopy::help() {
  const at::NoGradGuard no_grad;
  size_t mine = 0;
  for (size_t i = next_++; i < chunks_.size(); i = next_++) {
    const auto& [from, to] = chunks_[i];
    if (from.is_cpu()) {
      std::memcpy(to.mutable_data_ptr(), from.const_data_ptr(), from.nbytes());
    } else {
      to.copy_(from);
    }
    ++mine;
  }
  std::unique_lock lock(lock_);
  done_ += mine;
  if (done_ == chunks_.size()) all_done_.notify_all();
  all_done_.wait(lock, [&] { return done_ == chunks_.size(); });
}

}  // namespace hone::engine
