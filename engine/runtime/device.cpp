#include "engine/runtime/device.h"

#include <ATen/Context.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <dlfcn.h>

#include "data/error.h"

namespace hone::engine {
namespace {

/// NVIDIA's driver library, by the few functions that are asked of it; none is linked.
class Driver {
 public:
  Driver() : library_(dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL)) {}
  explicit operator bool() const { return library_ != nullptr; }
  /// 0 is success. A function that the driver lacks fails.
  template <typename... Arguments>
  int call(const char* name, Arguments... arguments) const {
    const auto function = reinterpret_cast<int (*)(Arguments...)>(dlsym(library_, name));
    return function ? function(arguments...) : -1;
  }

 private:
  void* library_;
};

/// Null, or what kept the libraries from being loaded.
const char* load_cuda() {
  // LibTorch's half first and for all to see: it registers what the kernels' half relies on.
  for (const char* library : {"libtorch_cuda.so", "libhone_kernels_cuda.so"}) {
    if (!dlopen(library, RTLD_NOW | RTLD_GLOBAL)) return dlerror();
  }
  return nullptr;
}

at::Device use_gpu(int64_t index) {
  const at::Device device(at::kCUDA, static_cast<at::DeviceIndex>(index));
  c10::impl::getDeviceGuardImpl(at::kCUDA)->setDevice(device);
  auto& context = at::globalContext();
  // The same seed, the same bytes: sums by index in a fixed order. Memory that is written before it
  // is read needs no filling.
  context.setDeterministicAlgorithms(true, /*warn_only=*/true);
  context.setDeterministicFillUninitializedMemory(false);
  return device;
}

}  // namespace

std::vector<Gpu> driver_gpus(std::string* why_none) {
  const auto none = [&](const char* why) {
    if (why_none) *why_none = why;
    return std::vector<Gpu>();
  };
  const Driver driver;
  if (!driver) return none("no NVIDIA driver on this machine");
  int count = 0;
  if (driver.call("cuInit", 0u) != 0 || driver.call("cuDeviceGetCount", &count) != 0) {
    return none("a driver is installed but does not start (see nvidia-smi)");
  }
  if (count == 0) return none("the driver lists none");
  constexpr int kMajor = 75, kMinor = 76;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
  std::vector<Gpu> gpus;
  for (int device = 0; device < count; ++device) {
    Gpu gpu;
    char name[256] = {};
    if (driver.call("cuDeviceGetName", name, int{sizeof(name)}, device) == 0) gpu.name = name;
    driver.call("cuDeviceGetAttribute", &gpu.major, kMajor, device);
    driver.call("cuDeviceGetAttribute", &gpu.minor, kMinor, device);
    gpus.push_back(gpu);
  }
  return gpus;
}

std::string gpu_name(at::Device device) {
  const auto gpus = driver_gpus();
  const auto index = static_cast<size_t>(device.index());
  return index < gpus.size() ? gpus[index].name : "none";
}

at::Device find_device(const std::string& where, const std::string& name, int64_t local_rank) {
  if (name != "cpu" && name != "cuda" && name != "auto") {
    throw data::InputError(where, "device", "cpu, cuda or auto", "'" + name + "'");
  }
  if (name == "cpu") return at::kCPU;
  const bool insists = name == "cuda";
  std::string why;
  const auto gpus = driver_gpus(&why);
  if (gpus.empty()) {
    if (!insists) return at::kCPU;
    throw data::InputError(where, "device", "a GPU for `cuda` (or device = \"cpu\")", why);
  }
  if (local_rank >= static_cast<int64_t>(gpus.size())) {
    throw data::InputError(
        where, "device", "a GPU for each rank of this host",
        std::to_string(gpus.size()) + " for rank " + std::to_string(local_rank) + " of it");
  }
  const Gpu& gpu = gpus[static_cast<size_t>(local_rank)];
  if (!gpu.supported()) {
    if (!insists) return at::kCPU;
    throw data::InputError(
        where, "device", "a GPU of compute capability 8.x, 9.0 or 10.x",
        gpu.name + ", which has " + std::to_string(gpu.major) + "." + std::to_string(gpu.minor));
  }
  if (const char* error = load_cuda()) {
    if (!insists) return at::kCPU;
    throw data::InputError(where, "device", "a build with CUDA for `cuda` (scripts/build)", error);
  }
  return use_gpu(local_rank);
}

}  // namespace hone::engine
