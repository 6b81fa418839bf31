// Counts bytes with atomics: straight into global memory, and first into shared memory per block.
// builds: static-ptx static-sass shared-ptx
// paths: tcp direct
#include "check.h"

__global__ void global_histogram(const unsigned char *bytes, unsigned *bins, int count) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
        atomicAdd(&bins[bytes[i]], 1u);
}

__global__ void shared_histogram(const unsigned char *bytes, unsigned *bins, int count) {
    __shared__ unsigned local[256];
    for (int bin = threadIdx.x; bin < 256; bin += blockDim.x) local[bin] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
        atomicAdd(&local[bytes[i]], 1u);
    __syncthreads();
    for (int bin = threadIdx.x; bin < 256; bin += blockDim.x) atomicAdd(&bins[bin], local[bin]);
}

int main() {
    const int count = 300000;
    Random random;
    std::vector<unsigned char> bytes(count);
    std::vector<unsigned> want(256, 0);
    for (unsigned char &byte : bytes) {
        byte = (unsigned char)(random.word() & random.word());
        want[byte]++;
    }
    Device<unsigned char> device_bytes(bytes);
    Device<unsigned> bins(256);
    bins.clear();
    global_histogram<<<24, 192>>>(device_bytes, bins, count);
    FINISH();
    require_same(bins.download(), want, "global");
    bins.clear();
    shared_histogram<<<24, 192>>>(device_bytes, bins, count);
    FINISH();
    require_same(bins.download(), want, "shared");
    return passed("histogram");
}
