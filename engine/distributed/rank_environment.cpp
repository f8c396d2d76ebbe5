#include "engine/distributed/rank_environment.h"

#include <charconv>
#include <cstdlib>
#include <optional>

#include "data/error.h"

namespace hone::engine {
namespace {

constexpr const char* kWhere = "ranks";

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  if (!value || !*value) return std::nullopt;
  return value;
}

std::optional<int64_t> number(const char* name, int64_t least, int64_t most) {
  const auto text = variable(name);
  if (!text) return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size() || value < least || value > most) {
    throw data::InputError(kWhere, name,
                           "a number from " + std::to_string(least) + " to " + std::to_string(most),
                           "'" + *text + "'");
  }
  return value;
}

constexpr int64_t kMost = 1 << 20;

/// A launcher's three variables; `fallback_world` serves where the first is of an older release.
std::optional<RankEnvironment> from(const char* launcher, const char* rank_name,
                                    const char* world_name, const char* local_name) {
  const auto world = number(world_name, 1, kMost);
  const auto rank = number(rank_name, 0, kMost);
  if (!world && !rank) return std::nullopt;
  const auto missing = [&](const char* absent, const char* present) {
    return data::InputError(kWhere, absent, std::string("to be set beside ") + present, "nothing");
  };
  if (!world) throw missing(world_name, rank_name);
  if (!rank) throw missing(rank_name, world_name);
  if (*rank >= *world) {
    throw data::InputError(
        kWhere, rank_name,
        std::string("a number below ") + world_name + " = " + std::to_string(*world),
        std::to_string(*rank));
  }
  RankEnvironment environment;
  environment.launcher = launcher;
  environment.rank = *rank;
  environment.world = *world;
  environment.local_rank = number(local_name, 0, kMost).value_or(*rank);
  return environment;
}

/// A port that the ranks of one job agree on and two jobs rarely share.
int64_t port_of_job(const std::string& job) {
  uint64_t hash = 0xCBF29CE484222325ull;  // FNV-1a
  for (const char c : job) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return 20000 + static_cast<int64_t>(hash % 10000);
}

}  // namespace

std::string first_host(const std::string& nodes) {
  const auto open = nodes.find_first_of("[,");
  if (open == std::string::npos || nodes[open] == ',') return nodes.substr(0, open);
  const auto end = nodes.find_first_of("-,]", open + 1);
  return nodes.substr(0, open) + nodes.substr(open + 1, end - open - 1);
}

RankEnvironment rank_environment() {
  if (auto plain = from("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK")) {
    if (plain->alone()) return *plain;
    for (const char* name : {"MASTER_ADDR", "MASTER_PORT"}) {
      if (!variable(name)) {
        throw data::InputError(kWhere, name, "to be set beside WORLD_SIZE", "nothing");
      }
    }
    plain->address = *variable("MASTER_ADDR");
    plain->port = *number("MASTER_PORT", 1, 65535);
    plain->agent_store = variable("TORCHELASTIC_USE_AGENT_STORE").value_or("") == "True";
    plain->attempt = variable("TORCHELASTIC_RUN_ID").value_or("") + "." +
                     variable("TORCHELASTIC_RESTART_COUNT").value_or("0");
    return *plain;
  }
  const auto job = variable("SLURM_JOB_ID");
  if (auto mpi = from("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                      "OMPI_COMM_WORLD_LOCAL_RANK")) {
    if (mpi->alone()) return *mpi;
    const auto here = number("OMPI_COMM_WORLD_LOCAL_SIZE", 1, kMost).value_or(0);
    if (const auto address = variable("MASTER_ADDR")) {
      mpi->address = *address;
    } else if (here != mpi->world) {
      throw data::InputError(kWhere, "MASTER_ADDR",
                             "the host of rank 0, as the ranks are on several (mpirun -x "
                             "MASTER_ADDR=...)",
                             "nothing");
    }
    mpi->port = number("MASTER_PORT", 1, 65535)
                    .value_or(port_of_job(variable("PMIX_NAMESPACE").value_or(job.value_or(""))));
    return *mpi;
  }
  // Only a step that srun started: a batch script has SLURM_PROCID too, and is alone.
  if (!variable("SLURM_STEP_NUM_TASKS")) return {};
  auto slurm = *from("Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID");
  if (slurm.alone()) return slurm;
  const auto nodes = variable("SLURM_STEP_NODELIST");
  if (const auto address = variable("MASTER_ADDR")) {
    slurm.address = *address;
  } else if (nodes) {
    slurm.address = first_host(*nodes);
  } else {
    throw data::InputError(kWhere, "SLURM_STEP_NODELIST", "to be set beside SLURM_STEP_NUM_TASKS",
                           "nothing");
  }
  slurm.port =
      number("MASTER_PORT", 1, 65535)
          .value_or(port_of_job(job.value_or("") + "." + variable("SLURM_STEP_ID").value_or("")));
  slurm.attempt = variable("SLURM_RESTART_COUNT").value_or("0");
  return slurm;
}

}  // namespace hone::engine
