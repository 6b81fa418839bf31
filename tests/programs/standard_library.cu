// CUDA's C++ libraries: Thrust sorts, scans and reduces, CUB works within a block, libcu++ has atomics with an order.
// builds: static-ptx
// paths: tcp direct
#include "check.h"

#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cuda/atomic>
#include <thrust/device_vector.h>
#include <thrust/host_vector.h>
#include <thrust/reduce.h>
#include <thrust/scan.h>
#include <thrust/sort.h>
#include <thrust/transform.h>

#include <algorithm>
#include <numeric>

__global__ void block_sort(int *keys, int *sums) {
    typedef cub::BlockRadixSort<int, 128, 4> Sort;
    typedef cub::BlockReduce<int, 128> Reduce;
    __shared__ union {
        Sort::TempStorage sort;
        Reduce::TempStorage reduce;
    } storage;
    int own[4];
    for (int k = 0; k < 4; k++) own[k] = keys[blockIdx.x * 512 + threadIdx.x * 4 + k];
    Sort(storage.sort).Sort(own);
    __syncthreads();
    int sum = Reduce(storage.reduce).Sum(own);
    for (int k = 0; k < 4; k++) keys[blockIdx.x * 512 + threadIdx.x * 4 + k] = own[k];
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void hand_over(int *data, int *flag, int *seen) {
    cuda::atomic_ref<int, cuda::thread_scope_device> ready(*flag);
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        *data = 77;
        ready.store(1, cuda::memory_order_release);
    }
    if (threadIdx.x == 0 && ready.load(cuda::memory_order_acquire) == 1) atomicAdd(seen, *data == 77 ? 0 : 1);
    cuda::atomic_ref<int, cuda::thread_scope_device>(*(flag + 1)).fetch_add(2, cuda::memory_order_relaxed);
}

struct Square {
    __host__ __device__ long long operator()(int x) const { return (long long)x * x; }
};

int main() {
    const int count = 20000;
    Random random;
    std::vector<int> values(count);
    for (int &value : values) value = (int)(random.word() % 100000) - 50000;
    thrust::device_vector<int> device(values.begin(), values.end());

    long long want = 0;
    for (int value : values) want += (long long)value * value;
    REQUIRE(thrust::transform_reduce(device.begin(), device.end(), Square(), 0LL, thrust::plus<long long>()) == want, "transform_reduce");
    thrust::device_vector<int> sums(count);
    thrust::inclusive_scan(device.begin(), device.end(), sums.begin());
    std::vector<int> got(count), want_sums(count);
    thrust::copy(sums.begin(), sums.end(), got.begin());
    std::partial_sum(values.begin(), values.end(), want_sums.begin());
    require_same(got, want_sums, "inclusive_scan");
    thrust::sort(device.begin(), device.end());
    thrust::copy(device.begin(), device.end(), got.begin());
    std::vector<int> sorted = values;
    std::sort(sorted.begin(), sorted.end());
    require_same(got, sorted, "sort");

    std::vector<int> blocks(values.begin(), values.begin() + 1024), want_block_sums;
    Device<int> keys(blocks), block_sums(2);
    block_sort<<<2, 128>>>(keys, block_sums);
    FINISH();
    for (int block = 0; block < 2; block++) {
        std::sort(blocks.begin() + block * 512, blocks.begin() + (block + 1) * 512);
        want_block_sums.push_back(std::accumulate(blocks.begin() + block * 512, blocks.begin() + (block + 1) * 512, 0));
    }
    require_same(keys.download(), blocks, "BlockRadixSort");
    require_same(block_sums.download(), want_block_sums, "BlockReduce");

    Device<int> data(1), flags(2), seen(1);
    data.clear(), flags.clear(), seen.clear();
    hand_over<<<20, 64>>>(data, flags, seen);
    FINISH();
    require_same(flags.download(), {1, 2 * 20 * 64}, "atomic_ref");
    require_same(seen.download(), {0}, "release and acquire");
    return passed("standard_library");
}
