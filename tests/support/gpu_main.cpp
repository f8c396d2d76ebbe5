// main() of the tests that need a GPU: without one they are skipped (exit code 77), not failed.

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdio>

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || devices == 0) {
    std::printf("skipped: no NVIDIA GPU on this machine (%s)\n",
                error != cudaSuccess ? cudaGetErrorString(error) : "no devices");
    return 77;
  }
  return RUN_ALL_TESTS();
}
