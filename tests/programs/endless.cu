// Works until something goes wrong: takes as many MiB as the first argument says, prints `ready`, and launches kernels
// in a loop. Ends with 3 and the name of the error when CUDA reports one, with 4 after a minute without.
// builds: static-ptx
// paths:
#include "check.h"

#include <chrono>

__global__ void add(unsigned *values, unsigned long long count) {
    for (unsigned long long i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) values[i] += 1;
}

int main(int argc, char **argv) {
    size_t megabytes = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 64;
    size_t count = 1 << 16;
    void *memory;
    CUDA(cudaMalloc(&memory, megabytes << 20));
    CUDA(cudaMemset(memory, 0, count * 4));
    auto start = std::chrono::steady_clock::now();
    std::vector<unsigned> host(count);
    for (unsigned round = 1;; round++) {
        add<<<16, 128>>>((unsigned *)memory, count);
        cudaError_t status = cudaGetLastError();
        if (status == cudaSuccess) status = cudaMemcpy(host.data(), memory, count * 4, cudaMemcpyDeviceToHost);
        if (status != cudaSuccess) {
            std::printf("%s\n", cudaGetErrorName(status));
            return 3;
        }
        REQUIRE(host[0] == round && host[count - 1] == round, "after %u rounds the values are %u and %u", round, host[0], host[count - 1]);
        if (round == 3) {
            std::printf("ready\n");
            std::fflush(stdout);
        }
        if (round % 20 == 0) {
            std::printf("alive\n");
            std::fflush(stdout);
        }
        if (std::chrono::steady_clock::now() - start > std::chrono::seconds(60)) return 4;
    }
}
