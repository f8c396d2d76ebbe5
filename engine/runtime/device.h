#pragma once

// Where models and tensors live: the host's memory or a GPU. The CUDA half of the kernels and of
// LibTorch is loaded when a GPU is asked for, so that a machine without one needs neither.

#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <vector>

namespace hone::engine {

/// A GPU as NVIDIA's driver names it.
struct Gpu {
  std::string name;
  int major = 0, minor = 0;  // compute capability

  /// Whether the kernels are compiled for it: 8.x, 9.0, 10.x.
  bool supported() const { return major >= 8 && major <= 10; }
};

/// What the driver lists, without loading anything else. `why_none`, when given, says why there is
/// none.
std::vector<Gpu> driver_gpus(std::string* why_none = nullptr);

/// Of a device that find_device() gave.
std::string gpu_name(at::Device device);

constexpr const char* kDeviceHelp =
    "cpu | cuda | auto: the GPU of this rank where the machine and the build have one, else the "
    "CPU";

/// `name` as in kDeviceHelp; ranks of one host take its GPUs in turn. Before the first tensor on a
/// GPU, and before the first backward pass. Throws data::InputError naming `where` and what is
/// missing.
at::Device find_device(const std::string& where, const std::string& name, int64_t local_rank = 0);

}  // namespace hone::engine
