// Cooperative groups: blocks, tiles of several sizes, coalesced threads, reductions and scans of the library.
// builds: static-ptx static-sass
// paths: tcp direct
#include "check.h"

#include <algorithm>

#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>

namespace cg = cooperative_groups;

template <int Size> __global__ void tiles(const int *values, int *sums, int *largest, int *ranks) {
    cg::thread_block block = cg::this_thread_block();
    cg::thread_block_tile<Size> tile = cg::tiled_partition<Size>(block);
    int i = blockIdx.x * blockDim.x + block.thread_rank();
    int sum = values[i];
    for (int step = tile.size() / 2; step > 0; step /= 2) sum += tile.shfl_down(sum, step);
    sum = tile.shfl(sum, 0);
    int most = cg::reduce(tile, values[i], cg::greater<int>());
    sums[i] = sum;
    largest[i] = most;
    ranks[i] = tile.thread_rank() + 100 * tile.meta_group_rank() + 100000 * tile.meta_group_size();
}

__global__ void scans(const int *values, int *inclusive, int *exclusive) {
    auto warp = cg::tiled_partition<32>(cg::this_thread_block());
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    inclusive[i] = cg::inclusive_scan(warp, values[i]);
    exclusive[i] = cg::exclusive_scan(warp, values[i]);
}

__global__ void coalesced(const int *values, int *counter, int *slots) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (values[i] % 3 == 0) {
        cg::coalesced_group active = cg::coalesced_threads();
        int start = 0;
        if (active.thread_rank() == 0) start = atomicAdd(counter, active.size());
        slots[active.shfl(start, 0) + active.thread_rank()] = values[i];
    }
}

__global__ void votes(const int *values, unsigned *out) {
    auto tile = cg::tiled_partition<16>(cg::this_thread_block());
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = tile.ballot(values[i] > 50) | (tile.any(values[i] == 7) ? 1u << 20 : 0) | (tile.all(values[i] < 95) ? 1u << 21 : 0);
}

std::vector<int> values;

template <int Size> void check_tiles() {
    const int count = (int)values.size(), threads = 128;
    Device<int> in(values), sums(count), largest(count), ranks(count);
    tiles<Size><<<count / threads, threads>>>(in, sums, largest, ranks);
    FINISH();
    std::vector<int> want_sums(count), want_largest(count), want_ranks(count);
    for (int i = 0; i < count; i++) {
        int first = i / Size * Size, sum = 0, most = values[first];
        for (int k = 0; k < Size; k++) sum += values[first + k], most = std::max(most, values[first + k]);
        want_sums[i] = sum;
        want_largest[i] = most;
        want_ranks[i] = i % Size + 100 * (i % threads / Size) + 100000 * (threads / Size);
    }
    require_same(sums.download(), want_sums, "tile sums");
    require_same(largest.download(), want_largest, "tile maxima");
    require_same(ranks.download(), want_ranks, "tile ranks");
}

int main() {
    const int count = 1024;
    Random random;
    for (int i = 0; i < count; i++) values.push_back(random.word() % 100);
    check_tiles<32>();
    check_tiles<16>();
    check_tiles<8>();
    check_tiles<4>();
    check_tiles<2>();

    Device<int> in(values), inclusive(count), exclusive(count);
    scans<<<8, 128>>>(in, inclusive, exclusive);
    FINISH();
    std::vector<int> want_inclusive(count), want_exclusive(count);
    for (int i = 0, sum = 0; i < count; i++) {
        if (i % 32 == 0) sum = 0;
        want_exclusive[i] = sum;
        want_inclusive[i] = sum += values[i];
    }
    require_same(inclusive.download(), want_inclusive, "inclusive scan");
    require_same(exclusive.download(), want_exclusive, "exclusive scan");

    Device<int> counter(1), slots(count);
    counter.clear();
    coalesced<<<8, 128>>>(in, counter, slots);
    FINISH();
    std::vector<int> want;
    for (int value : values)
        if (value % 3 == 0) want.push_back(value);
    REQUIRE(counter.download()[0] == (int)want.size(), "%d threads", counter.download()[0]);
    std::vector<int> got = slots.download();
    got.resize(want.size());
    std::sort(got.begin(), got.end());
    std::sort(want.begin(), want.end());
    require_same(got, want, "coalesced");

    Device<unsigned> out(count);
    votes<<<8, 128>>>(in, out);
    FINISH();
    std::vector<unsigned> want_votes(count);
    for (int i = 0; i < count; i++) {
        int first = i / 16 * 16;
        unsigned bits = 0;
        bool any = false, all = true;
        for (int k = 0; k < 16; k++) {
            bits |= (unsigned)(values[first + k] > 50) << k;
            any |= values[first + k] == 7;
            all &= values[first + k] < 95;
        }
        want_votes[i] = bits | (any ? 1u << 20 : 0) | (all ? 1u << 21 : 0);
    }
    require_same(out.download(), want_votes, "votes");
    return passed("cooperative_groups");
}
