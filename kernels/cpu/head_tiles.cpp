#include "kernels/cpu/head_tiles.h"

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "kernels/cpu/head_tile_rows.h"
#include "kernels/cpu/parallel_items.h"
#include "kernels/gemm.h"
#include "kernels/threads.h"

namespace hone::kernels {
namespace {

// A tile's elements: 1 MB in float32, half of a second-level cache, the other half of which holds
// its part of the weight and of the hidden states.
constexpr int64_t kTileElements = 1 << 18;
constexpr int64_t kMinColumns = 256, kMaxColumns = 4096;
constexpr int64_t kGroups = 8;  // parts of d hidden: so many threads can work on the gradients

/// W: what hidden states and weight are stored in, T or c10::BFloat16.
template <typename T, typename W>
class TiledHead {
 public:
  explicit TiledHead(const HeadPass<T>& pass)
      : pass_(pass),
        tokens_(pass.in.hidden.size(0)),
        width_(pass.in.hidden.size(1)),
        vocabulary_(pass.in.weight.size(0)),
        rows_(std::min(head_chunk_rows(tokens_, vocabulary_), tokens_)),
        columns_(std::clamp(kTileElements / std::max<int64_t>(rows_, 1), kMinColumns, kMaxColumns)),
        tiles_((vocabulary_ + columns_ - 1) / columns_),
        inverse_(static_cast<T>(1.0 / pass.temperature)),
        scratch_(tensor<T>(at::get_num_threads() * rows_ * columns_)),
        sums_(static_cast<size_t>(tiles_ * rows_)),
        shares_(sums_.size()),
        row_(static_cast<size_t>(rows_)) {}

  void forward() {
    each_chunk([&](int64_t begin, int64_t n) { read_tiles(begin, n, nullptr, {}); });
  }

  HeadGradients fused(const HeadNeeds& needs, LogprobGradient<T> gradient, const T* grad_entropy) {
    start(needs);
    // The entropy's gradient takes the logits themselves.
    const auto keeps = grad_entropy ? HeadTileKeeps::kLogits : HeadTileKeeps::kExponentials;
    const at::Tensor kept = tensor<T>(tiles_ * rows_ * columns_);
    each_chunk([&](int64_t begin, int64_t n) {
      read_tiles(begin, n, kept.template mutable_data_ptr<T>(), keeps);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t token = begin + i;
        row_[i].g = static_cast<T>(gradient(token, row_[i].logprob) / pass_.temperature);
        row_[i].h = grad_entropy ? grad_entropy[token] * inverse_ : T(0);
      }
      multiply_tiles(begin, n, kept.template mutable_data_ptr<T>(), keeps);
    });
    return gradients_;
  }

  HeadGradients backward(const HeadNeeds& needs, const HeadRowGrads<T>& grads) {
    start(needs);
    each_chunk([&](int64_t begin, int64_t n) {
      for (int64_t i = 0; i < n; ++i) {
        const int64_t token = begin + i;
        row_[i] = {grads.logprob ? grads.logprob[token] * inverse_ : T(0),
                   grads.entropy ? grads.entropy[token] * inverse_ : T(0), chosen_logit(token),
                   pass_.logprobs[token], pass_.entropy[token]};
      }
      multiply_tiles(begin, n, nullptr, HeadTileKeeps::kLogits);
    });
    return gradients_;
  }

 private:
  /// What a thread of a parallel region has to itself.
  struct Worker {
    explicit Worker(T* own) : tile(own) {}

    const at::AutoDispatchBelowADInplaceOrView below{};  // worker threads do not inherit it
    const OneGemmThread one{};                           // the bits do not depend on their number
    T* tile;
    std::vector<int64_t> targets;
    std::vector<T> scales;
    std::vector<W> rounded;
  };

  template <typename E>
  static at::Tensor tensor(int64_t size) {
    return at::empty({size}, at::TensorOptions().dtype(c10::CppTypeToScalarType<E>::value));
  }

  template <typename Visit>
  void each_chunk(const Visit& visit) {
    for (int64_t begin = 0; begin < tokens_; begin += rows_) {
      visit(begin, std::min(rows_, tokens_ - begin));
    }
  }

  template <typename Visit>
  void each_item(int64_t items, const Visit& visit) {
    parallel_items(items, [&] {
      T* const tile =
          scratch_.template mutable_data_ptr<T>() + at::get_thread_num() * rows_ * columns_;
      return [&visit, worker = Worker(tile)](int64_t item) mutable { visit(worker, item); };
    });
  }

  int64_t columns_of(int64_t tile) const {
    return std::min(columns_, vocabulary_ - tile * columns_);
  }
  const W* hidden(int64_t token) const {
    return pass_.in.hidden.template const_data_ptr<W>() + token * width_;
  }
  const W* weight(int64_t id) const {
    return pass_.in.weight.template const_data_ptr<W>() + id * width_;
  }
  const W* bias() const {
    return pass_.in.bias.defined() ? pass_.in.bias.template const_data_ptr<W>() : nullptr;
  }
  int64_t target(int64_t token) const {
    return pass_.in.targets.template const_data_ptr<int64_t>()[token];
  }

  HeadTile<T> make_logits(int64_t tile, int64_t begin, int64_t n, T* out) const {
    const int64_t columns = columns_of(tile);
    gemm(Layout::kPlain, Layout::kTransposed, n, columns, width_, hidden(begin),
         weight(tile * columns_), false, out);
    if (bias() != nullptr) {
      const W* const b = bias() + tile * columns_;
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < columns; ++j) out[i * columns + j] += static_cast<T>(b[j]);
      }
    }
    return {out, n, columns, inverse_};
  }

  /// In double: what make_logits gives, up to rounding.
  T chosen_logit(int64_t token) const {
    const W *h = hidden(token), *w = weight(target(token));
    double sum = bias() != nullptr ? static_cast<double>(bias()[target(token)]) : 0.0;
    for (int64_t j = 0; j < width_; ++j)
      sum += static_cast<double>(h[j]) * static_cast<double>(w[j]);
    return static_cast<T>(sum);
  }

  /// Log-probabilities and entropy of the chunk [begin, begin + n). `kept` [tiles, rows, columns]
  /// holds what the tiles keep; null: they are not kept.
  void read_tiles(int64_t begin, int64_t n, T* kept, HeadTileKeeps keeps) {
    each_item(tiles_, [&](Worker& worker, int64_t t) {
      T* const logits = kept != nullptr ? kept + t * rows_ * columns_ : worker.tile;
      const HeadTile<T> tile = make_logits(t, begin, n, logits);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t column = target(begin + i) - t * columns_;
        if (column >= 0 && column < tile.columns)
          row_[i].chosen = logits[i * tile.columns + column];
      }
      head_tile_sums(tile, keeps, &sums_[t * rows_]);
    });
    at::parallel_for(0, n, 64, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) join_tiles(begin, i);
    });
  }

  void join_tiles(int64_t begin, int64_t i) {
    T top = sums_[i].top;
    for (int64_t t = 1; t < tiles_; ++t) top = std::max(top, sums_[t * rows_ + i].top);
    double sum = 0, weighted = 0;
    for (int64_t t = 0; t < tiles_; ++t) {
      const HeadTileSums<T>& s = sums_[t * rows_ + i];
      double& share = shares_[t * rows_ + i];
      share = 0;
      if (s.sum == 0) continue;
      const double shift = (static_cast<double>(s.top) - top) * inverse_;
      share = s.top == top ? 1.0 : std::exp(shift);
      sum += share * s.sum;
      weighted += share * (s.weighted + (share == 0 ? 0.0 : shift * s.sum));
    }
    for (int64_t t = 0; t < tiles_; ++t) shares_[t * rows_ + i] /= sum;
    const double log_sum = std::log(sum);
    const double chosen = static_cast<double>((row_[i].chosen - top) * inverse_);
    row_[i].logprob = pass_.logprobs[begin + i] = static_cast<T>(chosen - log_sum);
    row_[i].entropy = pass_.entropy[begin + i] = static_cast<T>(log_sum - weighted / sum);
  }

  void start(const HeadNeeds& needs) {
    gradients_ = empty_head_gradients(pass_.in, needs);
    needs_ = needs;
    groups_ = std::min(kGroups, tiles_);
    if (needs[0]) parts_ = tensor<T>(groups_ * rows_ * width_);
  }

  /// The chunk's share of the gradients, from what `kept` holds or from logits made again.
  void multiply_tiles(int64_t begin, int64_t n, T* kept, HeadTileKeeps keeps) {
    each_item(groups_, [&](Worker& worker, int64_t group) {
      const int64_t first = group * tiles_ / groups_, last = (group + 1) * tiles_ / groups_;
      for (int64_t t = first; t < last; ++t) {
        const HeadTile<T> tile =
            kept != nullptr ? HeadTile<T>{kept + t * rows_ * columns_, n, columns_of(t), inverse_}
                            : make_logits(t, begin, n, worker.tile);
        make_gradient(worker, tile, t, begin, keeps);
        const W* const d_logits = as_stored(worker, tile);
        if (needs_[1]) {
          gemm(Layout::kTransposed, Layout::kPlain, tile.columns, width_, n, d_logits,
               hidden(begin), begin > 0,
               gradients_.weight.template mutable_data_ptr<T>() + t * columns_ * width_);
        }
        if (needs_[2]) add_bias(tile, t, begin > 0);
        if (needs_[0]) {
          gemm(Layout::kPlain, Layout::kPlain, n, width_, tile.columns, d_logits,
               weight(t * columns_), t > first,
               parts_.template mutable_data_ptr<T>() + group * rows_ * width_);
        }
      }
    });
    if (needs_[0]) add_parts(begin, n);
  }

  void make_gradient(Worker& worker, const HeadTile<T>& tile, int64_t t, int64_t begin,
                     HeadTileKeeps keeps) const {
    worker.targets.resize(static_cast<size_t>(tile.rows));
    worker.scales.resize(static_cast<size_t>(tile.rows));
    for (int64_t i = 0; i < tile.rows; ++i) {
      worker.targets[i] = target(begin + i) - t * columns_;
      worker.scales[i] = static_cast<T>(-row_[i].g * shares_[t * rows_ + i]);
    }
    head_tile_gradient(tile, keeps, worker.targets.data(), row_.data(), worker.scales.data());
  }

  /// d logits in the type of the products' operands.
  static const W* as_stored(Worker& worker, const HeadTile<T>& tile) {
    if constexpr (std::is_same_v<T, W>) {
      return tile.logits;
    } else {
      worker.rounded.resize(static_cast<size_t>(tile.rows * tile.columns));
      std::copy(tile.logits, tile.logits + tile.rows * tile.columns, worker.rounded.begin());
      return worker.rounded.data();
    }
  }

  void add_bias(const HeadTile<T>& tile, int64_t t, bool accumulate) const {
    T* const out = gradients_.bias.template mutable_data_ptr<T>() + t * columns_;
    if (!accumulate) std::fill(out, out + tile.columns, T(0));
    for (int64_t i = 0; i < tile.rows; ++i) {
      for (int64_t j = 0; j < tile.columns; ++j) out[j] += tile.logits[i * tile.columns + j];
    }
  }

  void add_parts(int64_t begin, int64_t n) const {
    T* const out = gradients_.hidden.template mutable_data_ptr<T>() + begin * width_;
    const T* const parts = parts_.template const_data_ptr<T>();
    at::parallel_for(0, n * width_, 1 << 14, [&](int64_t first, int64_t last) {
      std::copy(parts + first, parts + last, out + first);
      for (int64_t group = 1; group < groups_; ++group) {
        const T* const part = parts + group * rows_ * width_;
        for (int64_t j = first; j < last; ++j) out[j] += part[j];
      }
    });
  }

  const HeadPass<T>& pass_;
  const int64_t tokens_, width_, vocabulary_, rows_, columns_, tiles_;
  const T inverse_;
  const at::Tensor scratch_;             // a tile a thread
  std::vector<HeadTileSums<T>> sums_;    // [tiles, rows]
  std::vector<double> shares_;           // [tiles, rows]: a tile's e^t is so much of the row's sum
  std::vector<HeadRowGradient<T>> row_;  // [rows]
  HeadGradients gradients_;
  HeadNeeds needs_{};
  int64_t groups_ = 0;
  at::Tensor parts_;  // [groups, rows, width] of d hidden
};

/// `visit` gets the TiledHead of the inputs' dtype.
template <typename T, typename Visit>
auto with_tiles(const HeadPass<T>& pass, const Visit& visit) {
  if constexpr (std::is_same_v<T, float>) {
    if (pass.in.hidden.scalar_type() == at::kBFloat16) {
      return visit(TiledHead<T, c10::BFloat16>(pass));
    }
  }
  return visit(TiledHead<T, T>(pass));
}

}  // namespace

// Up to here a block of rows of logits stays in a second-level cache between its products
// (composite/chunked_head.cpp).
bool is_tiled(const HeadInputs& in) {
  return in.weight.size(0) > 8192 && in.hidden.size(0) > 0 && in.hidden.size(1) > 0;
}

template <typename T>
void tiled_head_forward(const HeadPass<T>& pass) {
  with_tiles(pass, [](auto&& head) { head.forward(); });
}

template <typename T>
HeadGradients tiled_head_fused(const HeadPass<T>& pass, const HeadNeeds& needs,
                               LogprobGradient<T> gradient, const T* grad_entropy) {
  return with_tiles(pass, [&](auto&& head) { return head.fused(needs, gradient, grad_entropy); });
}

template <typename T>
HeadGradients tiled_head_backward(const HeadPass<T>& pass, const HeadNeeds& needs,
                                  const HeadRowGrads<T>& grads) {
  return with_tiles(pass, [&](auto&& head) { return head.backward(needs, grads); });
}

#define HONE_INSTANTIATE(T)                                                        \
  template void tiled_head_forward(const HeadPass<T>&);                            \
  template HeadGradients tiled_head_fused(const HeadPass<T>&, const HeadNeeds&,    \
                                          LogprobGradient<T>, const T*);           \
  template HeadGradients tiled_head_backward(const HeadPass<T>&, const HeadNeeds&, \
                                             const HeadRowGrads<T>&)
HONE_INSTANTIATE(float);
HONE_INSTANTIATE(double);
#undef HONE_INSTANTIATE

}  // namespace hone::kernels
