#pragma once

// Who this process is among the ranks of a run, as its launcher says in the environment.

#include <cstdint>
#include <string>

namespace hone::engine {

struct RankEnvironment {
  int64_t rank = 0, world = 1, local_rank = 0;
  std::string launcher;  // "torchrun", "Open MPI", "Slurm"; empty: none, a world of one
  std::string address = "127.0.0.1";  // where rank 0 (or torchrun's agent) answers
  int64_t port = 0;
  bool agent_store = false;  // torchrun's agent holds the store: no rank opens the port
  std::string attempt;       // of a restarted run: keys of attempts do not mix

  bool alone() const { return world == 1; }
};

/// From RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT (torchrun, or by hand), else Open
/// MPI's OMPI_COMM_WORLD_*, else those of a Slurm step (SLURM_PROCID, SLURM_STEP_NUM_TASKS; rank 0
/// is on the first node of the step). MASTER_ADDR and MASTER_PORT hold for all three. Throws
/// data::InputError naming the variable that is missing or wrong.
RankEnvironment rank_environment();

/// First host of a Slurm list of nodes: "gpu[07-09,12],big1" -> "gpu07".
std::string first_host(const std::string& nodes);

}  // namespace hone::engine
