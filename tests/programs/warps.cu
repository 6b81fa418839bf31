// Warp functions: every kind of shuffle with widths and partial masks, matches, active masks, block-wide votes.
// builds: static-ptx static-sass
// paths: tcp direct
#include "check.h"

__global__ void shuffles(const int *values, int *out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % 32, value = values[i];
    out[0 * count + i] = __shfl_sync(0xFFFFFFFFu, value, 5);
    out[1 * count + i] = __shfl_sync(0xFFFFFFFFu, value, lane * 3);
    out[2 * count + i] = __shfl_sync(0xFFFFFFFFu, value, 3, 8);
    out[3 * count + i] = __shfl_up_sync(0xFFFFFFFFu, value, 3);
    out[4 * count + i] = __shfl_up_sync(0xFFFFFFFFu, value, 1, 4);
    out[5 * count + i] = __shfl_down_sync(0xFFFFFFFFu, value, 7);
    out[6 * count + i] = __shfl_down_sync(0xFFFFFFFFu, value, 2, 16);
    out[7 * count + i] = __shfl_xor_sync(0xFFFFFFFFu, value, 17);
    out[8 * count + i] = __shfl_xor_sync(0xFFFFFFFFu, value, 3, 8);
    out[9 * count + i] = value;
    if (lane % 2 == 0) out[9 * count + i] = __shfl_xor_sync(0x55555555u, value, 2);
}

__global__ void wide(const double *values, const long long *longs, double *out, long long *long_out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = __shfl_xor_sync(0xFFFFFFFFu, values[i], 1);
    long_out[i] = __shfl_down_sync(0xFFFFFFFFu, longs[i], 4);
}

__global__ void matches(const int *values, unsigned *any, unsigned *all, unsigned *active, int *votes) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, same = 0;
    any[i] = __match_any_sync(0xFFFFFFFFu, values[i]);
    all[i] = __match_all_sync(0xFFFFFFFFu, values[i] / 100, &same) | (unsigned)same;
    active[i] = 0;
    if (values[i] & 1) active[i] = __activemask();
    __syncwarp();
    votes[i] = __syncthreads_count(values[i] > 4) * 4 + (__syncthreads_and(values[i] < 8) ? 2 : 0) +
               (__syncthreads_or(values[i] == 3) ? 1 : 0);
}

__global__ void lane_masks(unsigned *out) {
    unsigned below, upto, above, from, own;
    asm("mov.u32 %0, %%lanemask_lt;" : "=r"(below));
    asm("mov.u32 %0, %%lanemask_le;" : "=r"(upto));
    asm("mov.u32 %0, %%lanemask_gt;" : "=r"(above));
    asm("mov.u32 %0, %%lanemask_ge;" : "=r"(from));
    asm("mov.u32 %0, %%lanemask_eq;" : "=r"(own));
    out[threadIdx.x] = (below ^ upto) == own && (above ^ from) == own && (below | from) == 0xFFFFFFFFu ? own : 0;
}

int main() {
    const int count = 256;
    Random random;
    std::vector<int> values(count);
    for (int &value : values) value = random.word() % 10;
    Device<int> in(values), out(10 * count);
    shuffles<<<2, 128>>>(in, out, count);
    FINISH();
    std::vector<int> want(10 * count);
    for (int i = 0; i < count; i++) {
        int lane = i % 32, warp = i - lane;
        auto at = [&](int other) { return values[warp + other]; };
        auto within = [&](int other, int width) { // another lane of the same segment, or this one
            return other >= lane / width * width && other < (lane / width + 1) * width ? other : lane;
        };
        want[0 * count + i] = at(5);
        want[1 * count + i] = at(lane * 3 % 32);
        want[2 * count + i] = at(lane / 8 * 8 + 3);
        want[3 * count + i] = at(within(lane - 3, 32));
        want[4 * count + i] = at(within(lane - 1, 4));
        want[5 * count + i] = at(within(lane + 7, 32));
        want[6 * count + i] = at(within(lane + 2, 16));
        want[7 * count + i] = at(lane ^ 17);
        want[8 * count + i] = at(within(lane ^ 3, 8));
        want[9 * count + i] = lane % 2 == 0 ? at(lane ^ 2) : values[i];
    }
    require_same(out.download(), want, "shuffles");

    std::vector<double> doubles(count), want_doubles(count);
    std::vector<long long> longs(count), want_longs(count);
    for (int i = 0; i < count; i++) doubles[i] = i * 1e-3 + 1e6, longs[i] = (1LL << 40) * i + i;
    for (int i = 0; i < count; i++) {
        want_doubles[i] = doubles[i ^ 1];
        want_longs[i] = i % 32 + 4 < 32 ? longs[i + 4] : longs[i];
    }
    Device<double> device_doubles(doubles), doubles_out(count);
    Device<long long> device_longs(longs), longs_out(count);
    wide<<<2, 128>>>(device_doubles, device_longs, doubles_out, longs_out);
    FINISH();
    require_same(doubles_out.download(), want_doubles, "double shuffle");
    require_same(longs_out.download(), want_longs, "long shuffle");

    Device<unsigned> any(count), all(count), active(count);
    Device<int> votes(count);
    matches<<<2, 128>>>(in, any, all, active, votes);
    FINISH();
    std::vector<unsigned> want_any(count), want_all(count, 0xFFFFFFFFu), want_active(count);
    std::vector<int> want_votes(count);
    for (int i = 0; i < count; i++) {
        int warp = i / 32 * 32, block = i / 128 * 128, more = 0;
        bool every = true, one = false;
        for (int k = 0; k < 32; k++) {
            want_any[i] |= (unsigned)(values[warp + k] == values[i]) << k;
            if (values[i] & 1) want_active[i] |= (unsigned)(values[warp + k] & 1) << k;
        }
        for (int k = 0; k < 128; k++) {
            more += values[block + k] > 4;
            every &= values[block + k] < 8;
            one |= values[block + k] == 3;
        }
        want_votes[i] = more * 4 + (every ? 2 : 0) + (one ? 1 : 0);
    }
    require_same(any.download(), want_any, "match any");
    require_same(all.download(), want_all, "match all");
    require_same(active.download(), want_active, "active mask");
    require_same(votes.download(), want_votes, "block votes");

    Device<unsigned> masks(32);
    lane_masks<<<1, 32>>>(masks);
    FINISH();
    std::vector<unsigned> want_masks(32);
    for (int lane = 0; lane < 32; lane++) want_masks[lane] = 1u << lane;
    require_same(masks.download(), want_masks, "lane masks");
    return passed("warps");
}
