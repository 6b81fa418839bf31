// Functions that call themselves.
#define CALLED __device__ __noinline__

CALLED int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
CALLED unsigned ackermann(unsigned m, unsigned n) {
    if (m == 0) return n + 1;
    if (n == 0) return ackermann(m - 1, 1);
    return ackermann(m - 1, ackermann(m, n - 1));
}
CALLED int down(int n, int a);
CALLED int up(int n, int a) { return n <= 0 ? a : down(n - 1, a * 3 + n) - a; }
CALLED int down(int n, int a) { return n <= 0 ? -a : up(n - 2, a ^ n) + 2 * a; }

extern "C" __global__ void numbers(int *out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i * 3] = fibonacci(i % 11);
    out[i * 3 + 1] = ackermann(i % 3, i % 5);
    out[i * 3 + 2] = i % 2 ? up(i % 13, i) : down(i % 7, i);
}

// Pointers to the callers' variables.
struct Link { const Link *up; int value; };
CALLED int climb(const Link *up, int depth, int seed) {
    Link mine{up, seed * 31 + depth};
    int below = depth > 0 ? climb(&mine, depth - 1, seed + (seed & 1 ? 3 : 5)) : 0;
    int sum = 0;
    for (const Link *link = &mine; link; link = link->up) sum = sum * 3 + link->value;
    return sum ^ below;
}
extern "C" __global__ void links(int *out) { out[threadIdx.x] = climb(nullptr, threadIdx.x % 6, threadIdx.x); }

// Structures and narrow values.
struct Pair { long long a; short b; char c; };
CALLED Pair spread(Pair p, bool flip, short n) {
    if (n == 0) return p;
    Pair q = spread(Pair{p.a * 3, (short)(p.b + n), (char)(p.c ^ n)}, !flip, n - 1);
    Pair r = flip ? spread(Pair{q.a - p.a, (short)(q.b - n), p.c}, flip, n / 2) : q;
    return Pair{q.a + r.a, (short)(r.b * 3 + q.b), (char)(r.c + q.c + flip)};
}
extern "C" __global__ void pairs(long long *out) {
    Pair p = spread(Pair{threadIdx.x, (short)threadIdx.x, (char)threadIdx.x}, threadIdx.x & 1, threadIdx.x % 6);
    out[threadIdx.x * 3] = p.a, out[threadIdx.x * 3 + 1] = p.b, out[threadIdx.x * 3 + 2] = p.c;
}

// A barrier at every depth.
CALLED int fold(int *shared, int width) {
    if (width == 0) return 0;
    if (threadIdx.x < width) shared[threadIdx.x] += shared[threadIdx.x + width];
    __syncthreads();
    int levels = fold(shared, width / 2);
    __syncthreads();
    return levels * 2 + (shared[width] & 1);
}
extern "C" __global__ void folds(const int *in, int *out) {
    __shared__ int shared[128];
    shared[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    int levels = fold(shared, 64);
    if (threadIdx.x == 77) out[0] = shared[0], out[1] = levels;
}

// As deep as the stack is.
CALLED int deep(int n, int *out) {
    if (n == 0) return 1;
    int below = deep(n - 1, out);
    *out = below;
    return below + n;
}
extern "C" __global__ void depths(int *out, int n) { out[threadIdx.x] = deep(n, out + threadIdx.x); }
