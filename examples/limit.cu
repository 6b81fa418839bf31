// Takes all memory of its GPU, asks for one byte more, and goes on after the refusal.
// builds: static-ptx
#include <cstdio>

__global__ void answer(int *out) { *out = 42; }

int main() {
    size_t free_bytes, total, left, unused;
    void *everything, *more;
    if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) return 1;
    std::printf("the vGPU has %zu bytes, %zu of them free\n", total, free_bytes);
    if (cudaMalloc(&everything, free_bytes) != cudaSuccess) return 2;
    cudaMemGetInfo(&left, &unused);
    std::printf("took %zu bytes in one piece: %zu are left\n", free_bytes, left);
    cudaError_t status = cudaMalloc(&more, 1);
    std::printf("one byte more: %s\n", cudaGetErrorName(status));
    if (status != cudaErrorMemoryAllocation) return 3;
    int host = 0;
    answer<<<1, 1>>>((int *)everything);
    cudaGetLastError();
    if (cudaMemcpy(&host, everything, sizeof host, cudaMemcpyDeviceToHost) != cudaSuccess || host != 42) return 4;
    std::printf("and the program goes on: a kernel answered %d\n", host);
    return 0;
}
