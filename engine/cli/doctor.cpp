#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>

#include "engine/cli/command.h"
#include "engine/runtime/build_info.h"

namespace hone::engine {
namespace {

void row(const std::string& name, const std::string& value) {
  std::printf("%-14s %s\n", name.c_str(), value.c_str());
}

bool cpu_has(const std::string& flag) {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string line;
  while (std::getline(cpuinfo, line)) {
    if (line.rfind("flags", 0) == 0)
      return (line + " ").find(" " + flag + " ") != std::string::npos;
  }
  return false;
}

std::string gigabytes(double bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f GB", bytes / 1e9);
  return text;
}

/// Number of GPUs the driver reports, or why there is none.
std::string gpus() {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (!driver) return "none (no NVIDIA driver on this machine; everything runs on the CPU)";
  using Init = int (*)(unsigned);
  using Count = int (*)(int*);
  using Name = int (*)(char*, int, int);
  const auto init = reinterpret_cast<Init>(dlsym(driver, "cuInit"));
  const auto count = reinterpret_cast<Count>(dlsym(driver, "cuDeviceGetCount"));
  const auto name = reinterpret_cast<Name>(dlsym(driver, "cuDeviceGetName"));
  int devices = 0;
  if (!init || !count || !name || init(0) != 0 || count(&devices) != 0) {
    return "a driver is installed but does not start (see nvidia-smi)";
  }
  std::string text = std::to_string(devices);
  for (int device = 0; device < devices; ++device) {
    char model[256] = {};
    if (name(model, sizeof(model), device) == 0) text += std::string(device ? ", " : ": ") + model;
  }
  return text;
}

std::string load() {
  double average = 0;
  if (getloadavg(&average, 1) != 1) return "unknown";
  char text[96];
  std::snprintf(text, sizeof(text), "%.2f%s", average,
                average > 0.8 * at::get_num_threads() ? "  (busy: timings here mean little)" : "");
  return text;
}

void run_doctor() {
  std::cout << version_text() << "\n\n" << std::flush;
  row("processor", machine());
  row("vector code",
      std::string(cpu_has("avx512f") ? "AVX-512"
                  : cpu_has("avx2")  ? "AVX2"
                                     : "baseline") +
          (cpu_has("amx_bf16") ? ", AMX bf16" : ", no AMX (bf16 would be slower than float32)"));
  row("threads", std::to_string(at::get_num_threads()));
  row("load", load());
  row("memory", gigabytes(static_cast<double>(sysconf(_SC_PHYS_PAGES)) *
                          static_cast<double>(sysconf(_SC_PAGE_SIZE))));
  struct statvfs disk {};
  if (statvfs(".", &disk) == 0) {
    row("disk here",
        gigabytes(static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize)) +
            " free");
  }
  row("GPUs", gpus());
}

}  // namespace

void add_doctor_command(CLI::App& app) {
  auto* command = app.add_subcommand("doctor", "What this machine has, and what is missing");
  command->footer("Example:\n  hone doctor");
  command->callback([] { run_doctor(); });
}

}  // namespace hone::engine
