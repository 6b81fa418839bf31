// A kernel that reads through a null pointer, and one that traps: each ends the context with its own code.
// builds: static-ptx
// paths: tcp direct
#include "check.h"

__global__ void read(const int *from, int *to) { *to = *from; }
__global__ void trap() { asm volatile("trap;"); }

int main(int argc, char **) {
    Device<int> to(1);
    if (argc > 1) {
        trap<<<1, 1>>>();
        CUDA_FAILS(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    } else {
        read<<<1, 1>>>(nullptr, to);
        CUDA_FAILS(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    }
    // Resetting the device gives a fresh context to the runtime only in a new process.
    return passed("null_pointer");
}
