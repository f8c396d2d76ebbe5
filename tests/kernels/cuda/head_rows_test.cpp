// The head's row passes against ATen's log-softmax in double, masked logits among them.

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "kernels/cuda/model_launchers.h"
#include "tests/kernels/cuda/device_run.h"
#include "tests/support/expect_close.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using test::expect_close;
using test::from_device;
using test::GlobalBuffer;
using test::on_device;

/// What was written of rows that are `stride` elements apart.
Tensor bfloat16_rows(const GlobalBuffer<math::Bfloat16>& x, int64_t stride, int64_t width) {
  const std::vector<math::Bfloat16> held = x.host();
  const int64_t rows = static_cast<int64_t>(held.size()) / stride;
  const Tensor out = at::empty({rows, stride}, at::kBFloat16);
  std::memcpy(out.mutable_data_ptr(), held.data(), held.size() * sizeof(held[0]));
  return out.narrow(1, 0, width);
}

template <typename T>
class CudaHeadRows : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CudaHeadRows, Types);

TYPED_TEST(CudaHeadRows, ForwardAndBackwardAreTheFormulas) {
  using T = TypeParam;
  constexpr auto kType = c10::CppTypeToScalarType<T>::value;
  const double tolerance = kType == at::kFloat ? 1e-5 : 1e-12;
  at::manual_seed(1);
  for (const int64_t vocabulary : {1, 2, 31, 255, 257, 1030}) {
    for (const double temperature : {1.0, 0.6}) {
      SCOPED_TRACE("V " + std::to_string(vocabulary));
      constexpr int64_t kRows = 3;
      Tensor logits = 3 * at::randn({kRows, vocabulary}, kType);
      const Tensor targets = at::randint(vocabulary, {kRows}, at::kLong);
      if (vocabulary > 2) {
        // A masked logit, not the target's.
        logits[0][(targets[0].item<int64_t>() + 1) % vocabulary] =
            -std::numeric_limits<double>::infinity();
      }
      const Tensor g = at::randn({kRows}, kType), h = at::randn({kRows}, kType);
      const Tensor logp = at::log_softmax(logits.to(at::kDouble) / temperature, 1);
      const Tensor p = logp.exp(), held = logp.clamp_min(-1e6);
      const Tensor chosen = logp.gather(1, targets.unsqueeze(1));
      const Tensor entropy = -(p * held).sum(1, true);
      Tensor one_hot = at::zeros_like(p);
      one_hot.scatter_(1, targets.unsqueeze(1), 1.0);
      const Tensor of_logprob = g.unsqueeze(1) * (one_hot - p) / temperature;
      const Tensor of_entropy = -h.unsqueeze(1) * p * (held + entropy) / temperature;
      test::on_every_layout([&] {
        const auto ids = on_device<int64_t>(targets, "targets");
        const auto dg = on_device<T>(g, "grad"), dh = on_device<T>(h, "grad_entropy");
        for (int which = 1; which < 4; ++which) {  // g, h, both
          const auto z = on_device<T>(logits, "logits");
          const GlobalBuffer<T> logprobs(kRows, "logprobs"), got_entropy(kRows, "entropy");
          const cuda::HeadRowArgs<T> args{z.data(),        vocabulary,         ids.data(),
                                          logprobs.data(), got_entropy.data(), kRows,
                                          vocabulary,      temperature};
          const T* const of_logprobs = which & 1 ? dg.data() : nullptr;
          const T* const of_entropy_data = which & 2 ? dh.data() : nullptr;
          EXPECT_EQ(cuda::launch_head_rows_forward(args, nullptr), cudaSuccess);
          expect_close(from_device(logprobs), chosen.squeeze(1), tolerance, tolerance, "logprobs");
          expect_close(from_device(got_entropy), entropy.squeeze(1), tolerance, tolerance,
                       "entropy");
          const int64_t stride = (vocabulary + 7) / 8 * 8;
          const GlobalBuffer<math::Bfloat16> rounded(kRows * stride, "rounded");
          if constexpr (std::is_same_v<T, float>) {
            const cuda::HeadRowGradients<T, math::Bfloat16> to{rounded.data(), stride, of_logprobs,
                                                               of_entropy_data};
            EXPECT_EQ(cuda::launch_head_rows_backward(args, to, nullptr), cudaSuccess);
          }
          const cuda::HeadRowGradients<T, T> in_place{z.data(), vocabulary, of_logprobs,
                                                      of_entropy_data};
          EXPECT_EQ(cuda::launch_head_rows_backward(args, in_place, nullptr), cudaSuccess);
          Tensor want = at::zeros_like(p);
          if (which & 1) want = want + of_logprob;
          if (which & 2) want = want + of_entropy;
          const Tensor got = from_device(z).view({kRows, vocabulary});
          expect_close(got, want, tolerance, tolerance, "d logits");
          if constexpr (std::is_same_v<T, float>) {
            EXPECT_TRUE(
                at::equal(bfloat16_rows(rounded, stride, vocabulary), got.to(at::kBFloat16)));
          }
        }
      });
    }
  }
}

}  // namespace
}  // namespace hone::kernels
