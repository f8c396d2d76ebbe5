#pragma once

// What ranks say to each other: collectives over flat tensors. A world of one needs no library;
// ranks of a launcher speak through c10d (process_group.h). Knows nothing of models or trainers.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace hone::engine {

/// A collective under way. Its tensors may not be touched before wait().
class Pending {
 public:
  class Work {
   public:
    virtual ~Work() = default;
    /// Throws RankFailure when the collective cannot end.
    virtual void wait() = 0;
  };

  Pending() = default;  // nothing under way
  explicit Pending(std::unique_ptr<Work> work) : work_(std::move(work)) {}
  Pending(Pending&&) = default;
  Pending& operator=(Pending&& other) noexcept;
  /// Waits when nobody has, and counts that: it is a mistake of the caller.
  ~Pending();

  void wait();
  bool under_way() const { return work_ != nullptr; }
  /// Handles that were dropped without wait() since the program began; tests expect none.
  static int64_t dropped();

 private:
  std::unique_ptr<Work> work_;
};

enum class Reduction { kSum, kMax };

/// The same calls in the same order on every rank. `what` names a collective in messages. Calls may
/// come from any thread, but not from two at once: threads side by side need a duplicate() each.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int64_t rank() const = 0;
  virtual int64_t world() const = 0;
  /// Rank 0 writes the run's files and speaks to people.
  bool leads() const { return rank() == 0; }

  /// In place. Sums of floats are in an order of the library's choosing: for sums with the same
  /// bits whatever the number of ranks see shard_tree.h.
  virtual Pending all_reduce(const at::Tensor& values, Reduction reduction, const char* what) = 0;
  /// input [world * n] -> output [n]: rank r gets the sum of every rank's part r.
  virtual Pending reduce_scatter(const at::Tensor& output, const at::Tensor& input,
                                 const char* what) = 0;
  /// input [n] -> output [world * n], in the order of the ranks.
  virtual Pending all_gather(const at::Tensor& output, const at::Tensor& input,
                             const char* what) = 0;
  virtual Pending broadcast(const at::Tensor& values, int64_t root, const char* what) = 0;
  /// input [world * n] -> output [world * n]: part s of rank r's output is part r of rank s's
  /// input.
  virtual Pending all_to_all(const at::Tensor& output, const at::Tensor& input,
                             const char* what) = 0;
  /// Returns when every rank has come. `patient`: however long another rank works before it comes,
  /// as long as it lives (rank 0 alone imports, judges and writes); else within the time limit of
  /// every collective.
  virtual void barrier(const char* what, bool patient = false) = 0;
  /// The same ranks once more, for collectives of another thread.
  virtual std::unique_ptr<Communicator> duplicate(const std::string& name) = 0;
};

/// The communicator of a program without a launcher.
Communicator& world_of_one();

/// Every rank's bytes, in the order of the ranks.
std::vector<std::string> all_gather_bytes(Communicator& communicator, const std::string& bytes,
                                          const char* what);
/// Rank `root`'s bytes, on every rank.
std::string broadcast_bytes(Communicator& communicator, const std::string& bytes, int64_t root,
                            const char* what);
/// True on every rank when it is on one.
bool any_rank(Communicator& communicator, bool mine, const char* what);

}  // namespace hone::engine
