#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention_shape.h"
#include "kernels/checks.h"
#include "kernels/cpu/parallel_items.h"
#include "kernels/math/rope.h"

namespace hone::kernels {
namespace {

using at::Tensor;

template <typename T>
struct View {
  AttentionShape shape;
  const int64_t* cu;
  const T *qkv, *cos, *sin;

  /// Copies `length` rows of head `column` (in units of head_dim) into out [length, head_dim].
  void load(int64_t begin, int64_t length, int64_t column, bool rotate, T* out) const {
    const int64_t d = shape.head_dim, half = d / 2;
    for (int64_t t = 0; t < length; ++t, out += d) {
      const T* row = qkv + (begin + t) * shape.width + column * d;
      std::copy(row, row + d, out);
      if (!rotate) continue;
      for (int64_t i = 0; i < half; ++i) {
        math::rope_rotate(out[i], out[i + half], cos[t * half + i], sin[t * half + i]);
      }
    }
  }

  /// Writes gradients [length, head_dim] of a loaded head back, turned the other way.
  void store_gradient(T* grad, int64_t begin, int64_t length, int64_t column, bool rotate,
                      T* d_qkv) const {
    const int64_t d = shape.head_dim, half = d / 2;
    for (int64_t t = 0; t < length; ++t, grad += d) {
      for (int64_t i = 0; rotate && i < half; ++i) {
        math::rope_rotate_back(grad[i], grad[i + half], cos[t * half + i], sin[t * half + i]);
      }
      std::copy(grad, grad + d, d_qkv + (begin + t) * shape.width + column * d);
    }
  }
};

template <typename T>
T dot(const T* a, const T* b, int64_t size) {
  T sum = 0;
  for (int64_t i = 0; i < size; ++i) sum += a[i] * b[i];
  return sum;
}

template <typename T>
void add_scaled(T* out, const T* x, T scale, int64_t size) {
  for (int64_t i = 0; i < size; ++i) out[i] += scale * x[i];
}

template <typename T>
void forward_item(const View<T>& view, int64_t sequence, int64_t kv_head, T* out, T* lse,
                  int64_t tokens) {
  const AttentionShape& s = view.shape;
  const int64_t begin = view.cu[sequence], length = view.cu[sequence + 1] - begin, d = s.head_dim;
  std::vector<T> q(length * d), k(length * d), v(length * d), scores(length);
  view.load(begin, length, s.heads + kv_head, true, k.data());
  view.load(begin, length, s.heads + s.kv_heads + kv_head, false, v.data());
  for (int64_t head = kv_head * s.group; head < (kv_head + 1) * s.group; ++head) {
    view.load(begin, length, head, true, q.data());
    for (int64_t i = 0; i < length; ++i) {
      T top = -std::numeric_limits<T>::infinity();
      for (int64_t j = s.first_key(i); j <= i; ++j) {
        scores[j] = static_cast<T>(s.scale) * dot(&q[i * d], &k[j * d], d);
        top = std::max(top, scores[j]);
      }
      T sum = 0;
      T* o = out + (begin + i) * s.heads * d + head * d;
      std::fill(o, o + d, T(0));
      for (int64_t j = s.first_key(i); j <= i; ++j) {
        const T e = std::exp(scores[j] - top);
        sum += e;
        add_scaled(o, &v[j * d], e, d);
      }
      for (int64_t c = 0; c < d; ++c) o[c] /= sum;
      lse[head * tokens + begin + i] = top + std::log(sum);
    }
  }
}

template <typename T>
void backward_item(const View<T>& view, int64_t sequence, int64_t kv_head, const T* grad,
                   const T* out, const T* lse, int64_t tokens, T* d_qkv) {
  const AttentionShape& s = view.shape;
  const int64_t begin = view.cu[sequence], length = view.cu[sequence + 1] - begin, d = s.head_dim;
  const T scale = static_cast<T>(s.scale);
  std::vector<T> q(length * d), k(length * d), v(length * d), dq(length * d);
  std::vector<T> dk(length * d, T(0)), dv(length * d, T(0));
  view.load(begin, length, s.heads + kv_head, true, k.data());
  view.load(begin, length, s.heads + s.kv_heads + kv_head, false, v.data());
  for (int64_t head = kv_head * s.group; head < (kv_head + 1) * s.group; ++head) {
    view.load(begin, length, head, true, q.data());
    std::fill(dq.begin(), dq.end(), T(0));
    for (int64_t i = 0; i < length; ++i) {
      const int64_t row = (begin + i) * s.heads * d + head * d;
      const T delta = dot(grad + row, out + row, d);
      for (int64_t j = s.first_key(i); j <= i; ++j) {
        const T p = std::exp(scale * dot(&q[i * d], &k[j * d], d) - lse[head * tokens + begin + i]);
        const T ds = scale * p * (dot(grad + row, &v[j * d], d) - delta);
        add_scaled(&dv[j * d], grad + row, p, d);
        add_scaled(&dq[i * d], &k[j * d], ds, d);
        add_scaled(&dk[j * d], &q[i * d], ds, d);
      }
    }
    view.store_gradient(dq.data(), begin, length, head, true, d_qkv);
  }
  view.store_gradient(dk.data(), begin, length, s.heads + kv_head, true, d_qkv);
  view.store_gradient(dv.data(), begin, length, s.heads + s.kv_heads + kv_head, false, d_qkv);
}

struct Inputs {
  AttentionShape shape;
  Tensor qkv, cu, cos, sin;

  Inputs(const Tensor& qkv_in, const Tensor& cu_seqlens, const Tensor& cos_in, const Tensor& sin_in,
         int64_t heads, int64_t kv_heads, int64_t head_dim, double scale, int64_t window)
      : shape(attention_shape("attention", qkv_in, cos_in, sin_in, heads, kv_heads, head_dim, scale,
                              window)),
        qkv(qkv_in.contiguous()),
        cu(cu_seqlens.contiguous()),
        cos(cos_in.contiguous()),
        sin(sin_in.contiguous()) {
    check::cu_seqlens("attention", cu, qkv.size(0));
    const int64_t* bounds = cu.const_data_ptr<int64_t>();
    for (int64_t b = 0; b < sequences(); ++b) {
      HONE_CHECK(
          bounds[b + 1] - bounds[b] <= cos.size(0), "attention", "cu_seqlens",
          "sequences of at most P = " + std::to_string(cos.size(0)) + " tokens (rows of cos)",
          bounds[b + 1] - bounds[b], " tokens in sequence ", b);
    }
  }

  int64_t sequences() const { return cu.size(0) - 1; }
  int64_t items() const { return sequences() * shape.kv_heads; }

  template <typename T>
  View<T> view() const {
    return {shape, cu.const_data_ptr<int64_t>(), qkv.const_data_ptr<T>(), cos.const_data_ptr<T>(),
            sin.const_data_ptr<T>()};
  }
};

std::tuple<Tensor, Tensor> attention_forward_cpu(const Tensor& qkv, const Tensor& cu_seqlens,
                                                 const Tensor& cos, const Tensor& sin,
                                                 int64_t heads, int64_t kv_heads, int64_t head_dim,
                                                 double scale, int64_t window) {
  const Inputs in(qkv, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale, window);
  const int64_t tokens = qkv.size(0);
  Tensor out = at::empty({tokens, heads * head_dim}, qkv.options());
  Tensor lse = at::empty({heads, tokens}, qkv.options());
  AT_DISPATCH_FLOATING_TYPES(qkv.scalar_type(), "attention", [&] {
    const auto view = in.view<scalar_t>();
    parallel_items(in.items(), [&] {
      return [&](int64_t item) {
        forward_item(view, item / kv_heads, item % kv_heads, out.data_ptr<scalar_t>(),
                     lse.data_ptr<scalar_t>(), tokens);
      };
    });
  });
  return {out, lse};
}

Tensor attention_cpu(const Tensor& qkv, const Tensor& cu_seqlens, const Tensor& cos,
                     const Tensor& sin, int64_t heads, int64_t kv_heads, int64_t head_dim,
                     double scale, int64_t window) {
  return std::get<0>(
      attention_forward_cpu(qkv, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale, window));
}

Tensor attention_backward_cpu(const Tensor& grad, const Tensor& qkv, const Tensor& cu_seqlens,
                              const Tensor& cos, const Tensor& sin, const Tensor& out,
                              const Tensor& lse, int64_t heads, int64_t kv_heads, int64_t head_dim,
                              double scale, int64_t window) {
  const Inputs in(qkv, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale, window);
  const Tensor g = grad.contiguous();
  Tensor d_qkv = at::empty(qkv.sizes(), qkv.options());
  AT_DISPATCH_FLOATING_TYPES(qkv.scalar_type(), "attention", [&] {
    const auto view = in.view<scalar_t>();
    parallel_items(in.items(), [&] {
      return [&](int64_t item) {
        backward_item(view, item / kv_heads, item % kv_heads, g.const_data_ptr<scalar_t>(),
                      out.const_data_ptr<scalar_t>(), lse.const_data_ptr<scalar_t>(), qkv.size(0),
                      d_qkv.data_ptr<scalar_t>());
      };
    });
  });
  return d_qkv;
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("attention", &attention_cpu);
  m.impl("_attention_forward", &attention_forward_cpu);
  m.impl("_attention_backward", &attention_backward_cpu);
}

}  // namespace hone::kernels
