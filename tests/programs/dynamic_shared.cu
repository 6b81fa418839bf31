// Dynamic shared memory: sizes chosen at launch, several arrays in one, beside static arrays, the opt-in above 48 KiB.
// builds: static-ptx static-sass shared-ptx
// paths: tcp direct
#include "check.h"

extern __shared__ __align__(16) unsigned char dynamic[];

__global__ void reverse(int *values) {
    int *shared = (int *)dynamic;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    shared[threadIdx.x] = values[i];
    __syncthreads();
    values[i] = shared[blockDim.x - 1 - threadIdx.x];
}

__global__ void two_arrays(const double *in, double *out, int count) {
    __shared__ float fixed[64];
    double *doubles = (double *)dynamic;
    short *shorts = (short *)(doubles + count);
    fixed[threadIdx.x] = (float)threadIdx.x;
    doubles[threadIdx.x] = in[threadIdx.x];
    shorts[threadIdx.x] = (short)(threadIdx.x * 3);
    __syncthreads();
    int other = (threadIdx.x + 1) % count;
    out[threadIdx.x] = doubles[other] + shorts[other] + fixed[other];
}

__global__ void large(unsigned *sums, int words) {
    unsigned *shared = (unsigned *)dynamic;
    for (int i = threadIdx.x; i < words; i += blockDim.x) shared[i] = i * 2654435761u + blockIdx.x;
    __syncthreads();
    unsigned sum = 0;
    for (int i = threadIdx.x; i < words; i += blockDim.x) sum += shared[words - 1 - i];
    atomicAdd(&sums[blockIdx.x], sum);
}

int main() {
    for (int threads : {32, 100, 256, 1024}) {
        std::vector<int> values(threads * 4), want(threads * 4);
        for (int i = 0; i < threads * 4; i++) values[i] = i * 7;
        for (int i = 0; i < threads * 4; i++) want[i] = values[i / threads * threads + threads - 1 - i % threads];
        Device<int> device(values);
        reverse<<<4, threads, threads * sizeof(int)>>>(device);
        FINISH();
        require_same(device.download(), want, "reverse");
    }

    const int count = 64;
    std::vector<double> in(count), want(count);
    for (int i = 0; i < count; i++) in[i] = i * 1.125;
    for (int i = 0; i < count; i++) {
        int other = (i + 1) % count;
        want[i] = in[other] + (short)(other * 3) + (float)other;
    }
    Device<double> device_in(in), device_out(count);
    two_arrays<<<1, count, count * (sizeof(double) + sizeof(short))>>>(device_in, device_out, count);
    FINISH();
    require_same(device_out.download(), want, "two arrays");

    int limit = 0, opt_in = 0;
    CUDA(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlock, 0));
    CUDA(cudaDeviceGetAttribute(&opt_in, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    REQUIRE(limit == 49152 && opt_in > limit, "limits are %d and %d", limit, opt_in);
    Device<unsigned> sums(3);
    large<<<3, 128, opt_in>>>(sums, opt_in / 4);
    CUDA_FAILS(cudaGetLastError(), cudaErrorInvalidValue);
    CUDA_FAILS(cudaFuncSetAttribute(large, cudaFuncAttributeMaxDynamicSharedMemorySize, opt_in + 1), cudaErrorInvalidValue);
    cudaGetLastError();
    CUDA(cudaFuncSetAttribute(large, cudaFuncAttributeMaxDynamicSharedMemorySize, opt_in));
    for (int bytes : {limit, limit + 16, opt_in}) {
        sums.clear();
        large<<<3, 128, bytes>>>(sums, bytes / 4);
        FINISH();
        std::vector<unsigned> want_sums(3, 0);
        for (unsigned block = 0; block < 3; block++)
            for (unsigned i = 0; i < (unsigned)bytes / 4; i++) want_sums[block] += i * 2654435761u + block;
        require_same(sums.download(), want_sums, "large");
    }
    return passed("dynamic_shared");
}
