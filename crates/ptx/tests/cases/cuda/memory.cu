// State spaces, initialised variables, addresses of variables, local arrays, wide accesses.
#include <cstdint>

struct Pair { float a; double b; char c[5]; };
struct __align__(16) Big { int words[12]; };

__constant__ float weights[8] = {1, 2, 3, 4, 5, 6, 7, 8};
__constant__ Pair fixed = {1.5f, 2.5, {1, 2, 3, 4, 5}};
__device__ int counter = 7;
__device__ int table[2][3] = {{1, 2, 3}, {4, 5, 6}};
__device__ int *pointer = &table[1][1];
__device__ const char *texts[2] = {"first", "second"};
__device__ double zeros[100];

extern "C" __global__ void constants(float *out) {
    int i = threadIdx.x;
    out[i] = weights[i % 8] * fixed.a + (float)fixed.b + fixed.c[i % 5];
}

extern "C" __global__ void globals(int *out, char *text) {
    int i = threadIdx.x;
    out[i] = table[i % 2][i % 3] + *pointer + counter;
    text[i] = texts[i % 2][i % 5];
    zeros[i] = i;
}

extern "C" __global__ void locals(const int *in, int *out, int n) {
    int spill[32];
    for (int i = 0; i < 32; ++i) spill[i] = in[(i + threadIdx.x) % n];
    int sum = 0;
    for (int i = 0; i < n; ++i) sum = sum * 3 + spill[in[i] & 31];
    out[threadIdx.x] = sum;
}

extern "C" __global__ void by_value(Big big, Pair pair, int *out, int index) {
    out[threadIdx.x] = big.words[index + threadIdx.x] + (int)pair.b + pair.c[index & 3];
}

extern "C" __global__ void wide(const float4 *in, float4 *out, const int2 *in2, int2 *out2) {
    float4 v = in[threadIdx.x];
    v.x += v.w; v.y *= 2; v.z -= 1;
    out[threadIdx.x] = v;
    int2 w = __ldg(&in2[threadIdx.x]);
    out2[threadIdx.x] = make_int2(w.y, w.x);
}

extern "C" __global__ void generic(int *global, int which) {
    __shared__ int shared[64];
    int local[4] = {which, which + 1, which + 2, which + 3};
    shared[threadIdx.x] = threadIdx.x;
    __syncthreads();
    int *from = which == 0 ? global : which == 1 ? shared : local;
    global[threadIdx.x] = from[threadIdx.x & 3] + __isShared(from) + 2 * __isLocal(from) + 4 * __isGlobal(from);
}

extern "C" __global__ void bytes(const int8_t *a, const uint16_t *b, int64_t *out) {
    int i = threadIdx.x;
    out[i] = (int64_t)a[i] * b[i];
    volatile int8_t *v = (volatile int8_t *)out;
    v[i * 8 + 7] = a[i];
}
