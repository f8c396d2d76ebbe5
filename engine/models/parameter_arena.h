#pragma once

// One copy of every parameter: a flat buffer, a gradient buffer of the same shape, and a table of
// named slices. Optimizer, clipping, checkpoints and collectives work on the flat buffers.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace hone::engine {

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
  bool decay = true;      // weight decay applies (matrices)
  bool in_block = false;  // a matrix inside a transformer block (Muon's set)
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
  /// `transposed`: checkpoints hold the slices transposed.
  int64_t add_leaf(const std::vector<std::pair<std::string, std::vector<int64_t>>>& slices,
                   bool decay, bool in_block, bool transposed = false);
  void allocate(at::ScalarType dtype, at::Device device);

  const at::Tensor& data() const { return data_; }  // [P]
  const at::Tensor& grad() const { return grad_; }  // [P], allocated on first use of gradients
  void enable_grad();  // leaves require gradients, accumulated into grad()
  void zero_grad();
  /// Zeroes elements [begin, end) of the gradients; on the CPU their whole pages go back to the
  /// system until they are written again.
  void release_grad(int64_t begin, int64_t end);
  bool grad_enabled() const { return grad_.defined(); }

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
  int64_t size_ = 0;
};

}  // namespace hone::engine
