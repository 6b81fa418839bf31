// One of two programs on one node: its vGPU is as large as the argument says, in bytes, and its results are its own.
// builds: static-ptx
// paths:
#include "check.h"

__global__ void mix(unsigned *values, int count, unsigned seed) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) values[i] = (values[i] ^ seed) * 2654435761u + i;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 3, "usage: tenant BYTES SEED");
    size_t limit = std::strtoull(argv[1], nullptr, 10), left, total;
    unsigned seed = (unsigned)std::strtoul(argv[2], nullptr, 10);
    CUDA(cudaMemGetInfo(&left, &total));
    REQUIRE(total == limit, "the vGPU has %zu bytes, expected %zu", total, limit);
    void *too_much;
    CUDA_FAILS(cudaMalloc(&too_much, limit + 1), cudaErrorMemoryAllocation);
    REQUIRE(cudaGetLastError() == cudaErrorMemoryAllocation, "the error is remembered once");
    const int count = 100000;
    Device<unsigned> values(count);
    values.clear();
    std::vector<unsigned> want(count, 0);
    for (int round = 0; round < 200; round++) {
        mix<<<(count + 255) / 256, 256>>>(values, count, seed + round);
        if (round % 50 == 49) require_same(values.download(), [&] {
            for (int back = 49; back >= 0; back--)
                for (int i = 0; i < count; i++) want[i] = (want[i] ^ (seed + round - back)) * 2654435761u + i;
            return want;
        }(), "values");
    }
    return passed("tenant");
}
