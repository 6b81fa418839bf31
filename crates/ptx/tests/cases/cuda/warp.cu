// Warps: shuffles, votes, matches, reductions, barriers, atomics, asynchronous copies, tensor cores.
#include <cooperative_groups.h>
#include <cuda_pipeline.h>
#include <mma.h>
namespace cg = cooperative_groups;

extern "C" __global__ void lanes(const int *in, int *out) {
    int i = threadIdx.x, x = in[i];
    int r = __shfl_sync(~0u, x, i ^ 3) + __shfl_up_sync(~0u, x, 2) + __shfl_xor_sync(~0u, x, 8, 16) + __shfl_down_sync(~0u, x, 1, 8);
    r += __ballot_sync(~0u, x > 3) + __all_sync(~0u, x > 0) + __any_sync(~0u, x > 9);
    r += __reduce_add_sync(~0u, x) + __reduce_max_sync(~0u, x) + __reduce_xor_sync(~0u, x);
    r += __match_any_sync(~0u, x);
    int same;
    r += __match_all_sync(~0u, x, &same) + same;
    if (i & 1) r += __popc(__activemask());
    __syncwarp();
    out[i] = r;
}

extern "C" __global__ void counts(const int *in, int *out) {
    int a = __syncthreads_count(in[threadIdx.x] > 0);
    int b = __syncthreads_and(in[threadIdx.x] > 0);
    int c = __syncthreads_or(in[threadIdx.x] > 5);
    out[threadIdx.x] = a + 1000 * b + 2000 * c;
}

extern "C" __global__ void atomics(int *i, unsigned *u, float *f, double *d, unsigned long long *l) {
    __shared__ int s;
    if (threadIdx.x == 0) s = 0;
    __syncthreads();
    atomicAdd(&s, 1); atomicAdd(i, 1); atomicSub(i + 1, 2); atomicMin(i + 2, threadIdx.x); atomicMax(i + 3, threadIdx.x);
    atomicInc(u, 10); atomicDec(u + 1, 10); atomicAnd(u + 2, threadIdx.x); atomicOr(u + 3, threadIdx.x); atomicXor(u + 4, threadIdx.x);
    atomicAdd(f, 1.5f); atomicAdd(d, 2.5); atomicAdd(l, 3ull); atomicMax(l + 1, (unsigned long long)threadIdx.x);
    int old = atomicCAS(i + 4, 0, threadIdx.x + 1);
    i[5 + threadIdx.x] = old == 0 ? atomicExch(i + 4, 99) : old;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) i[200] = s;
}

extern "C" __global__ void groups(const int *in, int *out) {
    cg::thread_block block = cg::this_thread_block();
    auto tile = cg::tiled_partition<8>(block);
    int x = in[block.thread_rank()];
    for (int offset = tile.size() / 2; offset > 0; offset /= 2) x += tile.shfl_down(x, offset);
    block.sync();
    auto active = cg::coalesced_threads();
    out[block.thread_rank()] = x + active.size() + tile.meta_group_rank();
}

extern "C" __global__ void pipeline(const float4 *in, float4 *out) {
    __shared__ float4 buffer[64];
    __pipeline_memcpy_async(&buffer[threadIdx.x], &in[threadIdx.x], 16);
    __pipeline_commit();
    __pipeline_wait_prior(0);
    __syncthreads();
    out[threadIdx.x] = buffer[63 - threadIdx.x];
}

extern "C" __global__ void tensor(const half *a, const half *b, float *c) {
    using namespace nvcuda;
    wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> fc;
    wmma::fill_fragment(fc, 0.0f);
    wmma::load_matrix_sync(fa, a, 16);
    wmma::load_matrix_sync(fb, b, 16);
    wmma::mma_sync(fc, fa, fb, fc);
    wmma::store_matrix_sync(c, fc, 16, wmma::mem_row_major);
}
