// What the runtime says about memory and devices: free bytes to the byte, alignment, properties, occupancy, attributes.
// builds: static-ptx shared-ptx cuda12-ptx
// paths: tcp direct native
#include "check.h"

#include <set>

__global__ void small(int *out) { out[threadIdx.x] = threadIdx.x; }
__global__ void with_shared(int *out) {
    __shared__ int shared[4096];
    shared[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = shared[threadIdx.x ^ 1];
}

int main() {
    int count = 0, version = 0;
    CUDA(cudaGetDeviceCount(&count));
    REQUIRE(count == 1, "%d devices", count);
    CUDA(cudaDriverGetVersion(&version));
    REQUIRE(version >= 12000, "driver %d", version);
    cudaDeviceProp properties;
    CUDA(cudaGetDeviceProperties(&properties, 0));
    REQUIRE(properties.warpSize == 32 && properties.maxThreadsPerBlock == 1024 && properties.multiProcessorCount > 0, "properties");
    REQUIRE(properties.major >= 5 && std::strlen(properties.name) > 3, "%s %d.%d", properties.name, properties.major, properties.minor);
    REQUIRE(properties.maxGridSize[0] == 2147483647 && properties.maxThreadsDim[2] == 64, "limits");

    size_t before, after, total;
    CUDA(cudaFree(nullptr));
    CUDA(cudaMemGetInfo(&before, &total));
    REQUIRE(total == properties.totalGlobalMem, "%zu and %zu", total, properties.totalGlobalMem);
    std::vector<void *> pointers;
    std::set<void *> distinct;
    size_t sum = 0;
    for (size_t size : {1, 100, 256, 4097, 1 << 20, 12345678}) {
        void *pointer;
        CUDA(cudaMalloc(&pointer, size));
        REQUIRE((uintptr_t)pointer % 256 == 0, "address %p", pointer);
        CUDA(cudaMemset(pointer, 0xAB, size));
        pointers.push_back(pointer);
        distinct.insert(pointer);
        sum += size;
    }
    REQUIRE(distinct.size() == pointers.size(), "two allocations share an address");
    CUDA(cudaMemGetInfo(&after, &total));
    REQUIRE(before - after >= sum, "%zu bytes are charged for %zu", before - after, sum);
    // The neighbours are whole: nothing was written across an end.
    unsigned char last;
    CUDA(cudaMemcpy(&last, (char *)pointers[3] + 4096, 1, cudaMemcpyDeviceToHost));
    REQUIRE(last == 0xAB, "last byte %x", last);
    for (void *pointer : pointers) CUDA(cudaFree(pointer));
    CUDA(cudaMemGetInfo(&after, &total));
    REQUIRE(before == after, "%zu before, %zu after", before, after);

    cudaFuncAttributes attributes;
    CUDA(cudaFuncGetAttributes(&attributes, with_shared));
    REQUIRE(attributes.sharedSizeBytes == 16384, "%zu bytes shared", attributes.sharedSizeBytes);
    REQUIRE(attributes.maxThreadsPerBlock >= 256 && attributes.numRegs > 0, "attributes");
    int blocks = 0, grid = 0, block = 0;
    CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, small, 256, 0));
    REQUIRE(blocks >= 1 && blocks * 256 <= properties.maxThreadsPerMultiProcessor, "%d blocks", blocks);
    CUDA(cudaOccupancyMaxPotentialBlockSize(&grid, &block, small));
    REQUIRE(grid >= 1 && block >= 32 && block <= 1024 && block % 32 == 0, "%d blocks of %d", grid, block);
    CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, with_shared, 32, 0));
    REQUIRE(blocks >= 1 && (size_t)blocks * 16384 <= properties.sharedMemPerMultiprocessor, "%d blocks", blocks);

    int value;
    CUDA(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0));
    REQUIRE(value == properties.major, "major %d", value);
    char bus[32];
    CUDA(cudaDeviceGetPCIBusId(bus, sizeof bus, 0));
    CUDA(cudaDeviceGetByPCIBusId(&value, bus));
    REQUIRE(value == 0, "device %d at %s", value, bus);
    size_t limit;
    CUDA(cudaDeviceGetLimit(&limit, cudaLimitPrintfFifoSize));
    REQUIRE(limit > 0, "printf buffer of %zu", limit);
    CUDA(cudaDeviceReset());
    Device<int> out(64);
    with_shared<<<1, 64>>>(out);
    FINISH();
    REQUIRE(out.download()[10] == 11, "a kernel after a reset");
    return passed("memory");
}
