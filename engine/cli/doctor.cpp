#include <ATen/Parallel.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>

#include "engine/cli/command.h"
#include "engine/runtime/build_info.h"
#include "engine/runtime/device.h"

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

/// The GPUs that the driver reports, or why there are none.
std::string gpus() {
  std::string why;
  const auto gpus = driver_gpus(&why);
  if (gpus.empty()) return "none (" + why + "; everything runs on the CPU)";
  std::string text = std::to_string(gpus.size());
  for (const Gpu& gpu : gpus) {
    text += (&gpu == &gpus.front() ? ": " : ", ") + gpu.name;
    if (!gpu.supported()) text += " (too old or too new for this build's kernels)";
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
