#include "engine/runtime/build_info.h"

#include <H5public.h>
#include <torch/headeronly/version.h>

#include <fstream>
#include <thread>

namespace hone::engine {

std::string version() { return HONE_VERSION; }

std::string commit() { return HONE_COMMIT; }

std::string version_text() {
  std::string text = "hone " + version() + " (" + commit() + ")\n";
  text += "compiler " + std::string(__VERSION__) + "\n";
  text += "LibTorch " TORCH_VERSION "\n";
  text += "HDF5 " + std::to_string(H5_VERS_MAJOR) + "." + std::to_string(H5_VERS_MINOR) + "." +
          std::to_string(H5_VERS_RELEASE) + "\n";
  text += "CUDA kernels " HONE_CUDA_VERSION;
  return text;
}

std::string machine() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string line, model = "unknown processor";
  while (std::getline(cpuinfo, line)) {
    if (line.rfind("model name", 0) != 0) continue;
    const auto colon = line.find(": ");
    if (colon != std::string::npos) model = line.substr(colon + 2);
    break;
  }
  return model + ", " + std::to_string(std::thread::hardware_concurrency()) + " cores";
}

}  // namespace hone::engine
