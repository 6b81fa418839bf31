// Reductions: a tree in shared memory, shuffles down and across, votes and ballots, and a last block that adds up
// what the others left behind a fence.
// builds: static-ptx static-sass shared-ptx cuda12-ptx
// paths: tcp unix direct native
#include "check.h"

__global__ void tree(const int *values, int *sums, int count) {
    __shared__ int shared[256];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    shared[threadIdx.x] = i < count ? values[i] : 0;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) sums[blockIdx.x] = shared[0];
}

__device__ float warp_sum(float value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(0xFFFFFFFFu, value, step);
    return value;
}

__global__ void shuffle_down(const float *values, float *sums, int count) {
    __shared__ float warps[32];
    int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float value = warp_sum(i < count ? values[i] : 0.0f);
    if (lane == 0) warps[warp] = value;
    __syncthreads();
    if (warp == 0) {
        value = warp_sum(lane < blockDim.x / 32 ? warps[lane] : 0.0f);
        if (lane == 0) sums[blockIdx.x] = value;
    }
}

__global__ void shuffle_across(const int *values, int *largest, unsigned *ballots, int *flags) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int value = values[i], most = value;
    for (int step = 16; step > 0; step /= 2) most = max(most, __shfl_xor_sync(0xFFFFFFFFu, most, step));
    unsigned odd = __ballot_sync(0xFFFFFFFFu, value & 1);
    int any = __any_sync(0xFFFFFFFFu, value > 900), all = __all_sync(0xFFFFFFFFu, value >= 0);
    if (threadIdx.x % 32 == 0) {
        largest[i / 32] = most;
        ballots[i / 32] = odd;
        flags[i / 32] = any * 2 + all;
    }
}

__device__ unsigned finished_blocks;

__global__ void last_block_adds(const int *values, int *sums, long long *total, int count) {
    __shared__ int shared[128];
    __shared__ bool last;
    int sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) sum += values[i];
    shared[threadIdx.x] = sum;
    __syncthreads();
    for (int half = 64; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = shared[0];
        __threadfence();
        last = atomicInc(&finished_blocks, gridDim.x) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        long long all = 0;
        for (int block = 0; block < gridDim.x; block++) all += ((volatile int *)sums)[block];
        *total = all;
        finished_blocks = 0;
    }
}

int main() {
    const int count = 50000, block = 256, blocks = (count + block - 1) / block;
    Random random;
    std::vector<int> values(count);
    for (int &value : values) value = random.word() % 1000;
    Device<int> device_values(values);

    std::vector<int> want(blocks, 0);
    for (int i = 0; i < count; i++) want[i / block] += values[i];
    Device<int> sums(blocks);
    tree<<<blocks, block>>>(device_values, sums, count);
    FINISH();
    require_same(sums.download(), want, "tree");

    // The host adds in the order of the shuffles, so floats agree to the bit.
    std::vector<float> floats(count), want_floats(blocks);
    for (float &value : floats) value = (float)random.between(-1, 1);
    for (int b = 0; b < blocks; b++) {
        auto fold = [](std::vector<float> lanes) {
            for (int step = 16; step > 0; step /= 2)
                for (int lane = 0; lane + step < 32; lane++)
                    lanes[lane] += lanes[lane + step];
            return lanes[0];
        };
        std::vector<float> warps(32, 0.0f);
        for (int w = 0; w < block / 32; w++) {
            std::vector<float> lanes(32);
            for (int lane = 0; lane < 32; lane++) {
                int i = b * block + w * 32 + lane;
                lanes[lane] = i < count ? floats[i] : 0.0f;
            }
            warps[w] = fold(lanes);
        }
        want_floats[b] = fold(warps);
    }
    Device<float> device_floats(floats), float_sums(blocks);
    shuffle_down<<<blocks, block>>>(device_floats, float_sums, count);
    FINISH();
    require_same(float_sums.download(), want_floats, "shuffle down");

    const int whole = count / block * block, warps = whole / 32;
    std::vector<int> want_largest(warps), want_flags(warps);
    std::vector<unsigned> want_ballots(warps);
    for (int warp = 0; warp < warps; warp++) {
        int most = 0, any = 0;
        unsigned odd = 0;
        for (int lane = 0; lane < 32; lane++) {
            int value = values[warp * 32 + lane];
            most = std::max(most, value);
            any |= value > 900;
            odd |= (unsigned)(value & 1) << lane;
        }
        want_largest[warp] = most;
        want_ballots[warp] = odd;
        want_flags[warp] = any * 2 + 1;
    }
    Device<int> largest(warps), flags(warps);
    Device<unsigned> ballots(warps);
    shuffle_across<<<whole / block, block>>>(device_values, largest, ballots, flags);
    FINISH();
    require_same(largest.download(), want_largest, "shuffle across");
    require_same(ballots.download(), want_ballots, "ballot");
    require_same(flags.download(), want_flags, "any and all");

    long long total = 0;
    for (int value : values) total += value;
    Device<long long> device_total(1);
    Device<int> partial(40);
    for (int round = 0; round < 3; round++) {
        device_total.clear();
        last_block_adds<<<40, 128>>>(device_values, partial, device_total, count);
        FINISH();
        require_same(device_total.download(), {total}, "last block");
    }
    return passed("reduce");
}
