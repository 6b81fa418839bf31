// A kernel that writes where nothing is: error 700 now and at every later call of this process.
// builds: static-ptx
// paths: tcp unix direct native
#include "check.h"

__global__ void write(int *where, int value) { where[threadIdx.x * 1000] = value; }

int main() {
    Device<int> fine(4);
    write<<<1, 1>>>(fine, 7);
    FINISH();
    write<<<1, 2>>>(fine.data + (1ull << 36), 8);
    CUDA_FAILS(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    CUDA_FAILS(cudaGetLastError(), cudaErrorIllegalAddress);
    int value = 0;
    CUDA_FAILS(cudaMemcpy(&value, fine, 4, cudaMemcpyDeviceToHost), cudaErrorIllegalAddress);
    void *more;
    CUDA_FAILS(cudaMalloc(&more, 100), cudaErrorIllegalAddress);
    write<<<1, 1>>>(fine, 7);
    CUDA_FAILS(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    return passed("illegal_address");
}
