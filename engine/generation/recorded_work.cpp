#include "engine/generation/recorded_work.h"

#include <dlfcn.h>

#include "data/error.h"

namespace hone::engine {

std::unique_ptr<RecordedWork> record_work(const std::function<void()>& work) {
  using Record = RecordedWork* (*)(const std::function<void()>&);
  static const auto record = [] {
    void* library = ::dlopen("libhone_cuda_graph.so", RTLD_NOW | RTLD_LOCAL);
    return reinterpret_cast<Record>(library ? ::dlsym(library, "hone_record_work") : nullptr);
  }();
  if (!record) {
    throw data::Error("generation", "CUDA graphs", "a build with CUDA (libhone_cuda_graph.so)",
                      "none");
  }
  return std::unique_ptr<RecordedWork>(record(work));
}

}  // namespace hone::engine
