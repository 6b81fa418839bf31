// Errors of the runtime: each is reported once by cudaGetLastError, with CUDA's code, and the program goes on.
// builds: static-ptx shared-ptx cuda12-ptx
// paths: tcp unix direct native
#include "check.h"

__global__ void fill(int *out, int value) { out[blockIdx.x * blockDim.x + threadIdx.x] = value; }
__global__ void __launch_bounds__(64) bounded(int *out) { out[threadIdx.x] = 1; }

// cudart 12 looks at sizes itself; cudart 13 passes on what the driver says, and cuLaunchKernel says INVALID_VALUE.
static const cudaError_t BAD_SIZE = CUDART_VERSION < 13000 ? cudaErrorInvalidConfiguration : cudaErrorInvalidValue;

int main() {
    Device<int> out(1024);
    fill<<<1, 1025>>>(out, 1);
    REQUIRE(cudaPeekAtLastError() == BAD_SIZE, "peek");
    CUDA_FAILS(cudaGetLastError(), BAD_SIZE);
    CUDA_FAILS(cudaGetLastError(), cudaSuccess);
    fill<<<0, 32>>>(out, 1);
    CUDA_FAILS(cudaGetLastError(), BAD_SIZE);
    fill<<<dim3(1, 65536), 1>>>(out, 1);
    CUDA_FAILS(cudaGetLastError(), BAD_SIZE);
    fill<<<1, dim3(1, 1, 65)>>>(out, 1);
    CUDA_FAILS(cudaGetLastError(), BAD_SIZE);
    fill<<<1, 32, 1 << 20>>>(out, 1);
    CUDA_FAILS(cudaGetLastError(), cudaErrorInvalidValue);

    void *pointer = nullptr;
    size_t free_bytes, total;
    CUDA(cudaMemGetInfo(&free_bytes, &total));
    CUDA_FAILS(cudaMalloc(&pointer, total + 1), cudaErrorMemoryAllocation);
    CUDA_FAILS(cudaMalloc(&pointer, (size_t)1 << 62), cudaErrorMemoryAllocation);
    CUDA_FAILS(cudaGetLastError(), cudaErrorMemoryAllocation);
    CUDA(cudaMalloc(&pointer, 0));
    CUDA_FAILS(cudaMalloc(nullptr, 10), cudaErrorInvalidValue);

    int host[4] = {};
    CUDA_FAILS(cudaMemcpy(out, host, sizeof host, (cudaMemcpyKind)77), cudaErrorInvalidMemcpyDirection);
    CUDA_FAILS(cudaMemcpy(out.data + 1023, host, sizeof host, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    CUDA_FAILS(cudaMemcpy(host, (void *)64, sizeof host, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    CUDA_FAILS(cudaMemset(out, 0, 1025 * sizeof(int)), cudaErrorInvalidValue);
    CUDA_FAILS(cudaFree((void *)(out.data + 1)), cudaErrorInvalidValue);
    CUDA(cudaFree(nullptr));
    CUDA_FAILS(cudaSetDevice(99), cudaErrorInvalidDevice);
    cudaDeviceProp properties;
    CUDA_FAILS(cudaGetDeviceProperties(&properties, 5), cudaErrorInvalidDevice);
    CUDA_FAILS(cudaEventQuery(nullptr), cudaErrorInvalidResourceHandle);
    cudaGetLastError();

    REQUIRE(std::strcmp(cudaGetErrorName(cudaErrorMemoryAllocation), "cudaErrorMemoryAllocation") == 0, "a name");
    REQUIRE(std::strlen(cudaGetErrorString(cudaErrorIllegalAddress)) > 5, "a text");

    fill<<<4, 256>>>(out, 9);
    FINISH();
    require_same(out.download(), std::vector<int>(1024, 9), "after all errors");
    bounded<<<1, 64>>>(out);
    FINISH();
    return passed("errors");
}
