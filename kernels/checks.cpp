#include "kernels/checks.h"

#include <c10/core/ScalarType.h>
#include <c10/util/StringUtil.h>

#include <sstream>

namespace hone::kernels::check {

std::string describe(const at::Tensor& x) {
  if (!x.defined()) return "an undefined tensor";
  std::ostringstream out;
  out << x.scalar_type() << " " << x.sizes() << " on " << x.device();
  return out.str();
}

void floating(const char* op, const char* argument, const at::Tensor& x) {
  HONE_CHECK(x.defined() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble), op,
             argument, "float32 or float64", describe(x));
}

void model_floating(const char* op, const char* argument, const at::Tensor& x) {
  HONE_CHECK(x.defined() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble ||
                             x.scalar_type() == at::kBFloat16),
             op, argument, "float32, float64 or bfloat16", describe(x));
}

void rank(const char* op, const char* argument, const at::Tensor& x, int64_t dim) {
  HONE_CHECK(x.defined() && x.dim() == dim, op, argument,
             c10::str(dim, dim == 1 ? " dimension" : " dimensions"), describe(x));
}

void sizes(const char* op, const char* argument, const at::Tensor& x, at::IntArrayRef sizes,
           const char* meaning) {
  HONE_CHECK(x.defined() && x.sizes() == sizes, op, argument, c10::str(meaning, " = ", sizes),
             describe(x));
}

void dtype(const char* op, const char* argument, const at::Tensor& x, at::ScalarType type) {
  HONE_CHECK(x.defined() && x.scalar_type() == type, op, argument, type, describe(x));
}

void same_device(const char* op, const char* argument, const at::Tensor& x, const char* like_name,
                 const at::Tensor& like) {
  HONE_CHECK(x.defined() && x.device() == like.device(), op, argument, like.device(), describe(x),
             " (", like_name, " is ", describe(like), ")");
}

void same_as(const char* op, const char* argument, const at::Tensor& x, const char* like_name,
             const at::Tensor& like) {
  HONE_CHECK(x.defined() && x.sizes() == like.sizes() && x.scalar_type() == like.scalar_type() &&
                 x.device() == like.device(),
             op, argument, describe(like) + " as " + like_name, describe(x));
}

void cu_seqlens(const char* op, const at::Tensor& x, int64_t tokens) {
  offsets(op, "cu_seqlens", "[B+1]", x, tokens, "tokens");
}

void offsets(const char* op, const char* argument, const char* shape, const at::Tensor& x,
             int64_t end, const char* ends_at) {
  HONE_CHECK(x.defined() && x.dim() == 1 && x.size(0) >= 1 && x.scalar_type() == at::kLong, op,
             argument, c10::str("int64 ", shape), describe(x));
  if (!x.device().is_cpu()) return;
  const at::Tensor held = x.contiguous();
  const int64_t* cu = held.const_data_ptr<int64_t>();
  const int64_t last = held.size(0) - 1;
  HONE_CHECK(cu[0] == 0, op, c10::str(argument, "[0]"), 0, cu[0]);
  for (int64_t i = 0; i < last; ++i) {
    HONE_CHECK(cu[i] <= cu[i + 1], op, argument, "values that never fall", cu[i], " then ",
               cu[i + 1], " at ", i + 1);
  }
  HONE_CHECK(cu[last] == end, op, argument, c10::str("to end at the number of ", ends_at, " ", end),
             cu[last]);
}

void mask(const char* op, const at::Tensor& x, int64_t tokens) {
  HONE_CHECK(x.defined() && x.dim() == 1 && x.size(0) == tokens &&
                 (x.scalar_type() == at::kByte || x.scalar_type() == at::kBool),
             op, "mask", c10::str("uint8 or bool [N] with N = ", tokens), describe(x));
}

}  // namespace hone::kernels::check
