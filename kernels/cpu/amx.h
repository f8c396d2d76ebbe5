#pragma once

// Whether this process may compute bfloat16 products in the cores' matrix unit (Intel AMX).

namespace hone::kernels {

/// The machine has AMX-BF16 and AVX512-BF16 and the system lets the process use them, unless
/// `use_amx(false)` forbade it. Asks the system once.
bool amx_usable();

/// What the matrix unit's passes do where they were compiled for other instructions than AVX-512:
/// throws std::logic_error, because callers ask amx_usable() first.
[[noreturn]] void no_matrix_unit();

/// For tests and benchmarks that compare: what the whole process does from now on.
void use_amx(bool use);

}  // namespace hone::kernels
