# Every outside library, once. LibTorch comes from the torch wheel of the virtual environment;
# plain imported targets, because find_package(Torch) runs a program on a GPU and adds flags.

set(HONE_PYTHON ${PROJECT_SOURCE_DIR}/.venv/bin/python CACHE FILEPATH
    "Python that has torch 2.11 installed")
execute_process(
  COMMAND ${HONE_PYTHON} -c
    "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
  OUTPUT_VARIABLE HONE_TORCH_DIR OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE torch_missing)
if(torch_missing)
  message(FATAL_ERROR "torch: expected in ${HONE_PYTHON}, not found. Run scripts/build, or set "
                      "-DHONE_PYTHON=/path/to/python with torch 2.11 installed.")
endif()

foreach(lib c10 torch_cpu torch c10_cuda torch_cuda)
  if(EXISTS ${HONE_TORCH_DIR}/lib/lib${lib}.so)
    add_library(torch::${lib} SHARED IMPORTED)
    set_target_properties(torch::${lib} PROPERTIES
      IMPORTED_LOCATION ${HONE_TORCH_DIR}/lib/lib${lib}.so
      IMPORTED_NO_SONAME ON)
  endif()
endforeach()

# What C++ code that uses tensors links: the CPU libraries only. The CUDA half is a library of its
# own that is loaded when a GPU is asked for, so that `hone --help` does not load 1 GB.
add_library(hone_torch INTERFACE)
target_include_directories(hone_torch SYSTEM INTERFACE
  ${HONE_TORCH_DIR}/include ${HONE_TORCH_DIR}/include/torch/csrc/api/include)
target_link_libraries(hone_torch INTERFACE torch::torch_cpu torch::c10)
target_link_options(hone_torch INTERFACE -Wl,-rpath,${HONE_TORCH_DIR}/lib)

set(CMAKE_THREAD_PREFER_PTHREAD ON)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(ZLIB REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto SSL)
find_package(nlohmann_json 3.10 REQUIRED)
find_package(HDF5 REQUIRED COMPONENTS C)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)
pkg_check_modules(SQLITE3 REQUIRED IMPORTED_TARGET sqlite3)
pkg_check_modules(SODIUM REQUIRED IMPORTED_TARGET libsodium)
pkg_check_modules(TOMLPP REQUIRED IMPORTED_TARGET tomlplusplus)
find_package(CLI11 REQUIRED)
if(HONE_TESTS)
  find_package(GTest REQUIRED)
endif()
if(HONE_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()

add_library(hone_hdf5 INTERFACE)
target_include_directories(hone_hdf5 SYSTEM INTERFACE ${HDF5_C_INCLUDE_DIRS})
target_link_libraries(hone_hdf5 INTERFACE ${HDF5_C_LIBRARIES})

if(HONE_CUDA)
  # The machine's own toolkit, else the compiler from PyPI in the virtual environment.
  if(NOT CMAKE_CUDA_COMPILER)
    find_program(HONE_NVCC nvcc PATHS /usr/local/cuda/bin
      ${HONE_TORCH_DIR}/../nvidia/cu13/bin)
    if(NOT HONE_NVCC)
      message(FATAL_ERROR "nvcc: expected on PATH, in /usr/local/cuda or in the virtual "
                          "environment, not found. Run scripts/build, or pass -DHONE_CUDA=OFF.")
    endif()
    set(CMAKE_CUDA_COMPILER ${HONE_NVCC})
  endif()
  # From PyPI, nvcc looks for libraries in lib64 and CMake for libcudart.so; the packages have lib
  # and libcudart.so.13.
  cmake_path(GET CMAKE_CUDA_COMPILER PARENT_PATH cuda_root)
  cmake_path(GET cuda_root PARENT_PATH cuda_root)
  if(cuda_root MATCHES "/nvidia/cu13$")
    if(NOT EXISTS ${cuda_root}/lib64)
      file(CREATE_LINK lib ${cuda_root}/lib64 SYMBOLIC)
    endif()
    if(NOT EXISTS ${cuda_root}/lib/libcudart.so)
      file(CREATE_LINK libcudart.so.13 ${cuda_root}/lib/libcudart.so SYMBOLIC)
    endif()
  endif()
  set(CMAKE_CUDA_ARCHITECTURES ${HONE_CUDA_ARCHITECTURES})
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  find_package(CUDAToolkit REQUIRED)
endif()
