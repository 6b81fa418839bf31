// Instructions of newer GPUs, where there is one: asynchronous copies to shared memory, warp-wide reductions.
// builds: static-ptx80
// paths: tcp
#include "check.h"

#include <cuda_pipeline.h>
#include <algorithm>

__global__ void through_shared(const int4 *in, int4 *out) {
    __shared__ int4 shared[2][64];
    __pipeline_memcpy_async(&shared[0][threadIdx.x], &in[threadIdx.x], sizeof(int4));
    __pipeline_commit();
    for (int tile = 0; tile < 4; tile++) {
        if (tile < 3) {
            __pipeline_memcpy_async(&shared[(tile + 1) % 2][threadIdx.x], &in[(tile + 1) * 64 + threadIdx.x], sizeof(int4));
            __pipeline_commit();
        }
        __pipeline_wait_prior(tile < 3 ? 1 : 0);
        __syncthreads();
        int4 value = shared[tile % 2][63 - threadIdx.x];
        value.x += tile;
        out[tile * 64 + threadIdx.x] = value;
        __syncthreads();
    }
}

__global__ void reductions(const unsigned *in, unsigned *out) {
    unsigned value = in[threadIdx.x];
    unsigned sum = __reduce_add_sync(~0u, value), least = __reduce_min_sync(~0u, value), most = __reduce_max_sync(~0u, value);
    unsigned all = __reduce_and_sync(~0u, value), any = __reduce_or_sync(~0u, value), odd = __reduce_xor_sync(~0u, value);
    if (threadIdx.x == 0) out[0] = sum, out[1] = least, out[2] = most, out[3] = all, out[4] = any, out[5] = odd;
}

int main() {
    std::vector<int4> in(256);
    for (int i = 0; i < 256; i++) in[i] = make_int4(i, i * 2, i * 3, -i);
    Device<int4> device_in(in), device_out(256);
    through_shared<<<1, 64>>>(device_in, device_out);
    FINISH();
    std::vector<int4> got = device_out.download();
    for (int i = 0; i < 256; i++) {
        int4 want = in[i / 64 * 64 + 63 - i % 64];
        REQUIRE(got[i].x == want.x + i / 64 && got[i].y == want.y && got[i].w == want.w, "element %d", i);
    }
    Random random;
    std::vector<unsigned> values(32), want = {0, ~0u, 0, ~0u, 0, 0};
    for (unsigned &value : values) {
        value = random.word() >> 3 | 4;
        want[0] += value, want[1] = std::min(want[1], value), want[2] = std::max(want[2], value);
        want[3] &= value, want[4] |= value, want[5] ^= value;
    }
    Device<unsigned> device_values(values), results(6);
    reductions<<<1, 32>>>(device_values, results);
    FINISH();
    require_same(results.download(), want, "warp reductions");
    return passed("pipeline");
}
