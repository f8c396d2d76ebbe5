#pragma once

#include <string>

namespace hone::engine {

/// "0.1.0".
std::string version();
/// Commit of the source tree at configure time; "unknown" outside git.
std::string commit();
/// Several lines: Hone, commit, compiler, LibTorch, HDF5, CUDA toolkit of the build.
std::string version_text();
/// "Intel(R) Xeon(R) Processor, 2 cores".
std::string machine();

}  // namespace hone::engine
