#pragma once

// One copy of every parameter: a flat buffer, a gradient buffer of the same shape, and a table of
// named slices. Optimizer, clipping, checkpoints and collectives work on the flat buffers.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace hone::engine {

/// Brings parameters that are not all here while they are used: gathered block by block when ranks
/// hold parts of them, or on their way after an optimizer step. One thread at a time uses a model
/// that has a keeper.
class ParameterKeeper {
 public:
  enum class Pass : int64_t { kForward, kBackward };
  virtual ~ParameterKeeper() = default;
  /// Before a pass through the blocks, first to last or, backward, last to first. Afterwards what
  /// lies outside the blocks is here.
  virtual void begin(Pass pass) = 0;
  /// The pass comes to a block, whose parameters are here on return, and is done with the last one.
  virtual void enter(int64_t block) = 0;
  virtual void end() = 0;
  /// Ranks may go through different numbers of passes: every rank comes here after its last, before
  /// it waits for others in anything else.
  virtual void meet() = 0;
  /// Whether a block's parameters are here only between enter() and the next enter() or end().
  virtual bool in_parts() const = 0;
};

/// A parameter as a checkpoint names it.
struct ParameterSlice {
  std::string name;
  std::vector<int64_t> shape;
  int64_t offset = 0, numel = 0;  // in elements of the arena
  int64_t leaf = 0;               // index of the leaf that holds it
  bool transposed = false;        // the checkpoint stores the matrix as [columns, rows]
};

/// A parameter as autograd sees it: one or more adjacent slices (q, k and v are one matrix).
struct ParameterLeaf {
  std::vector<int64_t> shape;
  int64_t offset = 0, numel = 0;
  bool decay = true;   // weight decay applies (matrices)
  int64_t block = -1;  // of which transformer block it is a matrix (Muon's set); -1: of none
  bool in_block() const { return block >= 0; }
};

class ParameterArena {
 public:
  ParameterArena() = default;
  ParameterArena(ParameterArena&&) = default;
  ParameterArena& operator=(ParameterArena&&) = default;
  ParameterArena(const ParameterArena&) = delete;
  ParameterArena& operator=(const ParameterArena&) = delete;

  /// Declares a leaf made of named slices that stack along dimension 0. Leaves start at multiples
  /// of 64 bytes. Matrices should be declared before vectors so that decay is two ranges.
  /// `block`: of which transformer block it is a matrix, -1 of none. `transposed`: checkpoints hold
  /// the slices transposed.
  int64_t add_leaf(const std::vector<std::pair<std::string, std::vector<int64_t>>>& slices,
                   bool decay, int64_t block, bool transposed = false);
  void allocate(at::ScalarType dtype, at::Device device);

  const at::Tensor& data() const { return data_; }  // [P]
  const at::Tensor& grad() const { return grad_; }  // [P], allocated on first use of gradients
  void enable_grad();  // leaves require gradients, accumulated into grad()
  void zero_grad();
  /// Zeroes elements [begin, end) of the gradients; on the CPU their whole pages go back to the
  /// system until they are written again.
  void release_grad(int64_t begin, int64_t end);
  bool grad_enabled() const { return grad_.defined(); }
  /// Gives the whole pages of elements [begin, end) of the parameters back to the system. What
  /// stands there afterwards is undefined until it is written again; no view has to change. Throws
  /// data::InputError when the parameters are not in host memory.
  void release_data(int64_t begin, int64_t end);

  /// Null: everything is here.
  ParameterKeeper* keeper() const { return keeper_; }
  void set_keeper(ParameterKeeper* keeper) { keeper_ = keeper; }
  /// Throws data::Error, naming `where`, while parameters are held in parts.
  void require_whole(const char* where) const;

  at::Tensor leaf(int64_t index) const { return leaves_tensors_[static_cast<size_t>(index)]; }
  at::Tensor slice(const std::string& name) const;  // view without gradient
  at::Tensor slice(const ParameterSlice& slice) const;
  const std::vector<ParameterSlice>& slices() const { return slices_; }
  const std::vector<ParameterLeaf>& leaves() const { return leaves_; }
  void copy_from(const ParameterArena& other);  // same layout

 private:
  std::vector<ParameterSlice> slices_;
  std::vector<ParameterLeaf> leaves_;
  std::vector<at::Tensor> leaves_tensors_;
  at::Tensor data_, grad_;
  ParameterKeeper* keeper_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace hone::engine
