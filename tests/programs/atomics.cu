// Atomic operations of all kinds and types, in global and shared memory.
// builds: static-ptx static-sass shared-ptx
// paths: tcp direct
#include "check.h"

#include <algorithm>

const int THREADS = 96, BLOCKS = 7, ALL = THREADS * BLOCKS;

template <typename T> struct Results {
    T added, subtracted, least, most, both, either, parity, incremented, decremented, swapped_last, claimed;
};

template <typename T> __device__ T value_of(int thread) { return (T)((thread * 37 + 11) % 1000); }

template <typename T> __device__ void run(Results<T> *r, int thread) {
    T value = value_of<T>(thread);
    atomicAdd(&r->added, value);
    atomicMin(&r->least, value);
    atomicMax(&r->most, value);
    atomicAnd(&r->both, ~(T)(1ull << thread % 30));
    atomicOr(&r->either, (T)(1ull << thread % 30));
    atomicXor(&r->parity, value);
    atomicExch(&r->swapped_last, value);
    T seen = r->claimed, expected;
    do {
        expected = seen;
        seen = atomicCAS(&r->claimed, expected, expected * 1 + 3);
    } while (seen != expected);
}

__device__ void run_words(Results<unsigned> *r, int thread) {
    run<unsigned>(r, thread);
    atomicSub(&r->subtracted, 2u);
    atomicInc(&r->incremented, 99u);
    atomicDec(&r->decremented, 50u);
}

template <typename T> __global__ void global_atomics(Results<T> *r) { run<T>(r, blockIdx.x * blockDim.x + threadIdx.x); }
__global__ void global_words(Results<unsigned> *r) { run_words(r, blockIdx.x * blockDim.x + threadIdx.x); }

__global__ void shared_words(Results<unsigned> *out) {
    __shared__ Results<unsigned> shared;
    if (threadIdx.x == 0) shared = out[blockIdx.x];
    __syncthreads();
    run_words(&shared, blockIdx.x * blockDim.x + threadIdx.x);
    __syncthreads();
    if (threadIdx.x == 0) out[blockIdx.x] = shared;
}

__global__ void floats(float *f, double *d, unsigned short *s, int *scoped) {
    __shared__ float shared_float;
    if (threadIdx.x == 0) shared_float = 0;
    __syncthreads();
    atomicAdd(&f[0], 0.5f);
    atomicAdd(&d[0], 0.25);
    atomicAdd(&shared_float, 2.0f);
    atomicExch(&f[1], 3.5f);
    unsigned short seen = *s, expected;
    do {
        expected = seen;
        seen = atomicCAS(s, expected, (unsigned short)(expected + 1));
    } while (seen != expected);
    atomicAdd_block(&scoped[blockIdx.x], 1);
    atomicAdd_system(&scoped[BLOCKS], 1);
    __syncthreads();
    if (threadIdx.x == 0) f[2 + blockIdx.x] = shared_float;
}

// Every old value is handed out once.
__global__ void tickets(unsigned *counter, unsigned *taken) { taken[atomicAdd(counter, 1u)] += 1; }

template <typename T> Results<T> expect(Results<T> start, int first, int last, bool words) {
    for (int thread = first; thread < last; thread++) {
        T value = (T)((thread * 37 + 11) % 1000);
        start.added += value;
        start.least = std::min(start.least, value);
        start.most = std::max(start.most, value);
        start.both &= ~(T)(1ull << thread % 30);
        start.either |= (T)(1ull << thread % 30);
        start.parity ^= value;
        start.claimed += 3;
        if (words) {
            start.subtracted -= 2;
            start.incremented = start.incremented >= 99 ? 0 : start.incremented + 1;
            start.decremented = start.decremented == 0 || start.decremented > 50 ? 50 : start.decremented - 1;
        }
    }
    return start;
}

template <typename T> void compare(Results<T> got, Results<T> want, const char *what) {
    bool handed = false;
    for (int thread = 0; thread < ALL; thread++) handed |= got.swapped_last == (T)((thread * 37 + 11) % 1000);
    REQUIRE(handed, "%s: nobody exchanged this value", what);
    want.swapped_last = got.swapped_last;
    const T *got_values = (const T *)&got, *want_values = (const T *)&want;
    for (size_t i = 0; i < sizeof got / sizeof(T); i++)
        REQUIRE(got_values[i] == want_values[i], "%s: result %zu is %lld, expected %lld", what, i, (long long)got_values[i],
                (long long)want_values[i]);
}

template <typename T> void check(const char *what) {
    Results<T> start = {5, 5000, 400, 300, (T)~(T)0, 0, 77, 0, 3, 0, 1};
    Device<Results<T>> results(std::vector<Results<T>>{start});
    global_atomics<T><<<BLOCKS, THREADS>>>(results);
    FINISH();
    compare(results.download()[0], expect(start, 0, ALL, false), what);
}

int main() {
    check<int>("int");
    check<unsigned>("unsigned");
    check<unsigned long long>("unsigned long long");

    Results<unsigned> start = {5, 5000, 400, 300, ~0u, 0, 77, 0, 3, 0, 1};
    Device<Results<unsigned>> words(std::vector<Results<unsigned>>{start});
    global_words<<<BLOCKS, THREADS>>>(words);
    FINISH();
    compare(words.download()[0], expect(start, 0, ALL, true), "words");
    Device<Results<unsigned>> per_block(std::vector<Results<unsigned>>(BLOCKS, start));
    shared_words<<<BLOCKS, THREADS>>>(per_block);
    FINISH();
    for (int block = 0; block < BLOCKS; block++)
        compare(per_block.download()[block], expect(start, block * THREADS, (block + 1) * THREADS, true), "shared");

    Device<float> f(2 + BLOCKS);
    Device<double> d(1);
    Device<unsigned short> s(1);
    Device<int> scoped(BLOCKS + 1);
    f.clear(), d.clear(), s.clear(), scoped.clear();
    floats<<<BLOCKS, THREADS>>>(f, d, s, scoped);
    FINISH();
    std::vector<float> want_floats(2 + BLOCKS, 2.0f * THREADS);
    want_floats[0] = 0.5f * ALL, want_floats[1] = 3.5f;
    require_same(f.download(), want_floats, "float");
    require_same(d.download(), {0.25 * ALL}, "double");
    require_same(s.download(), {(unsigned short)ALL}, "16 bits");
    std::vector<int> want_scoped(BLOCKS + 1, THREADS);
    want_scoped[BLOCKS] = ALL;
    require_same(scoped.download(), want_scoped, "scopes");

    Device<unsigned> counter(1), taken(ALL);
    counter.clear(), taken.clear();
    tickets<<<BLOCKS, THREADS>>>(counter, taken);
    FINISH();
    require_same(taken.download(), std::vector<unsigned>(ALL, 1), "tickets");
    return passed("atomics");
}
