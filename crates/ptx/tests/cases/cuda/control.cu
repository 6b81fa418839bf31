// Calls, recursion-free function graphs, switches, virtual functions, printf, assert, malloc.
#include <cassert>
#include <cstdio>

struct Point { double x, y, z; int tag; };

__device__ __noinline__ float scale(float x, int by) { return x * by + 1; }
__device__ __noinline__ Point move(Point p, double by) { p.x += by; p.tag += 1; p.y = scale((float)p.y, p.tag); return p; }
__device__ __noinline__ void fill(int *to, int n) { for (int i = 0; i < n; ++i) to[i] = i * n; }

extern "C" __global__ void calls(float *out, int n) {
    int i = threadIdx.x;
    Point p = {1.0 * i, 2.0 * i, 3.0, i};
    Point q = move(p, 0.5);
    int list[8];
    fill(list, 8);
    float r = (float)(q.x + q.y + q.z) + q.tag + list[i & 7];
    if (i % 3 == 0) r = scale(r, n);
    out[i] = r;
}

extern "C" __global__ void switches(const int *in, int *out) {
    int x = in[threadIdx.x], r = 0;
    switch (x) {
    case 0: r = 11; break;
    case 1: r = out[0] * 3; break;
    case 2: r = 77 - x * out[1];
    case 3: r += 5; break;
    case 4: r = out[2] / 7; break;
    case 5: r = 1; for (int i = 0; i < x; ++i) r *= i + out[3]; break;
    case 6: return;
    case 7: r = -1; break;
    default: r = 1000;
    }
    out[threadIdx.x] = r;
}

struct Shape { __device__ virtual float area(float x) const = 0; };
struct Square : Shape { __device__ float area(float x) const override { return x * x; } };
struct Circle : Shape { __device__ float area(float x) const override { return 3 * x * x; } };

extern "C" __global__ void virtuals(float *out) {
    Square square; Circle circle;
    Shape *shapes[2] = {&square, &circle};
    out[threadIdx.x] = shapes[threadIdx.x & 1]->area(threadIdx.x);
}

typedef int (*Binary)(int, int);
__device__ int add(int a, int b) { return a + b; }
__device__ int times(int a, int b) { return a * b; }
__device__ Binary binaries[2] = {add, times};

extern "C" __global__ void pointers(int *out) { out[threadIdx.x] = binaries[threadIdx.x & 1](threadIdx.x, 3); }

extern "C" __global__ void prints(int n) {
    if (threadIdx.x < n) printf("thread %d of %s: %f\n", threadIdx.x, "block", 1.5 * threadIdx.x);
    assert(n < 100);
}

extern "C" __global__ void heap(int *out) {
    int *block = (int *)malloc(16 * sizeof(int));
    if (!block) { out[threadIdx.x] = -1; return; }
    for (int i = 0; i < 16; ++i) block[i] = i + threadIdx.x;
    out[threadIdx.x] = block[threadIdx.x & 15];
    free(block);
}

__device__ int recursive(int n) { return n < 2 ? n : recursive(n - 1) + recursive(n - 2); }
extern "C" __global__ void recursion(int *out) { out[threadIdx.x] = recursive(threadIdx.x); }
