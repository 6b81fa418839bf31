// Device functions that call themselves: directly, through others, through pointers and virtual functions; with lanes
// that go differently deep, with pointers to the caller's variables, with warp operations and barriers in between.
// The stack's limit, and its overflow, which ends the context.
// builds: static-ptx shared-ptx cuda12-ptx static-sass
// paths: tcp unix direct native
#include "check.h"

#define BOTH __host__ __device__ __noinline__

BOTH int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

BOTH unsigned ackermann(unsigned m, unsigned n) {
    if (m == 0) return n + 1;
    if (n == 0) return ackermann(m - 1, 1);
    return ackermann(m - 1, ackermann(m, n - 1));
}

BOTH bool is_odd(int n);
BOTH bool is_even(int n) { return n == 0 ? true : is_odd(n - 1); }
BOTH bool is_odd(int n) { return n == 0 ? false : is_even(n - 1); }

// Values of several widths that must survive the calls.
BOTH double mixed(int n, float a, double b, long long c, short d, bool flag) {
    if (n == 0) return a + b + (double)c + d + (flag ? 0.5 : 0.25);
    double first = mixed(n - 1, a * 1.5f, b - 1, c * 3 + n, (short)(d + n), !flag);
    double second = n % 3 == 0 ? mixed(n - 2 < 0 ? 0 : n - 2, a + 1, b * 2, c - n, (short)(d - 1), flag) : 0.0;
    return first * 0.5 + second * 0.25 + a + b + (double)c * 1e-3 + d + (flag ? 1 : 2);
}

struct Range {
    int low, high, depth;
    double weight;
};

// Structures by value, and as results, through recursion.
BOTH Range widest(Range range) {
    if (range.high - range.low < 2) return range;
    int middle = (range.low + range.high) / 2;
    Range left = widest(Range{range.low, middle, range.depth + 1, range.weight * 0.5});
    Range right = widest(Range{middle, range.high, range.depth + 1, range.weight * 0.75});
    Range best = (left.low * 7 + right.high) % 3 == 0 ? left : right;
    best.weight += left.weight * right.weight;
    best.depth += left.depth > right.depth;
    return best;
}

BOTH void swap_values(int *a, int *b) {
    int t = *a;
    *a = *b;
    *b = t;
}

BOTH void quicksort(int *values, int count) {
    if (count < 2) return;
    int pivot = values[count / 2], i = 0, j = count - 1;
    while (i <= j) {
        while (values[i] < pivot) i++;
        while (values[j] > pivot) j--;
        if (i <= j) swap_values(&values[i++], &values[j--]);
    }
    quicksort(values, j + 1);
    quicksort(values + i, count - i);
}

// Each activation has variables of its own, to which all deeper ones have pointers.
struct Link {
    const Link *up;
    int value;
};
BOTH int climb(const Link *up, int depth, int seed) {
    Link mine{up, seed * 31 + depth};
    int local[4];
    for (int i = 0; i < 4; i++) local[i] = seed + i * depth;
    int below = depth > 0 ? climb(&mine, depth - 1, seed + (seed & 1 ? 3 : 5)) : 0;
    int sum = 0;
    for (const Link *link = &mine; link; link = link->up) sum = sum * 3 + link->value;
    return sum ^ (below + local[(seed + depth) & 3]);
}

struct Node {
    int key, left, right;
};
BOTH long long walk(const Node *nodes, int at, int depth) {
    if (at < 0) return depth;
    long long left = walk(nodes, nodes[at].left, depth + 1), right = walk(nodes, nodes[at].right, depth + 1);
    return left * 3 + right * 5 + nodes[at].key;
}

// Through a pointer.
typedef int (*Step)(int, int);
__device__ int descend(int n, int which);
__device__ __noinline__ int twice(int n, int which) { return 2 * descend(n - 1, which + 1) + 1; }
__device__ __noinline__ int thrice(int n, int which) { return 3 * descend(n - 2, which + n) - 1; }
__device__ Step steps[2] = {twice, thrice};
__device__ __noinline__ int descend(int n, int which) { return n <= 0 ? which : steps[(n + which) & 1](n, which); }
static int descend_host(int n, int which) {
    if (n <= 0) return which;
    return (n + which) & 1 ? 3 * descend_host(n - 2, which + n) - 1 : 2 * descend_host(n - 1, which + 1) + 1;
}

// Through virtual functions: a tree of expressions.
struct Expression {
    __device__ virtual int value(int x) const = 0;
};
struct Leaf : Expression {
    int constant;
    __device__ Leaf(int constant) : constant(constant) {}
    __device__ int value(int x) const override { return constant + x; }
};
struct Sum : Expression {
    const Expression *a, *b;
    __device__ Sum(const Expression *a, const Expression *b) : a(a), b(b) {}
    __device__ int value(int x) const override { return a->value(x + 1) + b->value(x - 1); }
};
struct Product : Expression {
    const Expression *a, *b;
    __device__ Product(const Expression *a, const Expression *b) : a(a), b(b) {}
    __device__ int value(int x) const override { return a->value(x) * b->value(2 * x) % 1009; }
};

// All lanes go equally deep here; lanes talk to one another on the way down and up.
__device__ __noinline__ int gather(int n, int value) {
    int other = __shfl_xor_sync(0xffffffff, value, 1 << (n % 5));
    __syncwarp();
    if (n == 0) return other;
    int below = gather(n - 1, value * 3 + other);
    return below + __shfl_down_sync(0xffffffff, below ^ other, 1) + __popc(__ballot_sync(0xffffffff, below & 1));
}
static void gather_host(int n, const int *value, int *result) {
    int other[32], next[32], below[32];
    for (int l = 0; l < 32; l++) other[l] = value[l ^ (1 << (n % 5))];
    for (int l = 0; l < 32; l++) next[l] = (int)((unsigned)value[l] * 3u + (unsigned)other[l]);
    if (n == 0) {
        std::memcpy(result, other, sizeof other);
        return;
    }
    gather_host(n - 1, next, below);
    int odd = 0;
    for (int l = 0; l < 32; l++) odd += below[l] & 1;
    for (int l = 0; l < 32; l++) {
        int from = l < 31 ? l + 1 : l;
        result[l] = (int)((unsigned)below[l] + (unsigned)(below[from] ^ other[from]) + (unsigned)odd);
    }
}

// Lanes wait for one another on the way down.
__device__ int lock;
__device__ volatile int locked_sum;
__device__ __noinline__ int locked(int n, int x) {
    if (n == 0) return x;
    for (bool done = false; !done;) {
        if (atomicCAS(&lock, 0, 1) == 0) {
            locked_sum = locked_sum + n * x;
            __threadfence();
            atomicExch(&lock, 0);
            done = true;
        }
    }
    int below = locked(n - 1, x + n);
    return n & 1 ? below * 2 + x : below - x;
}
static int locked_host(int n, int x, int &sum) {
    if (n == 0) return x;
    sum += n * x;
    int below = locked_host(n - 1, x + n, sum);
    return n & 1 ? below * 2 + x : below - x;
}

// A tree-like sum in shared memory whose halves are added by a function that calls itself, with barriers.
__device__ __noinline__ int fold(int *shared, int width) {
    if (width == 0) return 0;
    if (threadIdx.x < width) shared[threadIdx.x] += shared[threadIdx.x + width];
    __syncthreads();
    int levels = fold(shared, width / 2);
    __syncthreads();
    return levels * 2 + (shared[width] & 1 ? 1 : shared[0] & 1);
}

__global__ void integers(const int *in, int *out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    int x = in[i];
    out[5 * i] = fibonacci(x % 12);
    out[5 * i + 1] = ackermann(x % 3, x % 4);
    out[5 * i + 2] = is_even(x % 23) * 2 + is_odd(x % 17);
    out[5 * i + 3] = x % 2 ? climb(nullptr, x % 9, x) : climb(nullptr, x % 5, -x) + fibonacci(x % 7);
    out[5 * i + 4] = descend(x % 20, x);
}

__global__ void doubles(const int *in, double *out, Range *ranges, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    int x = in[i];
    out[i] = mixed(x % 10, (float)(x % 16) * 0.25f, x % 32, x, (short)(x % 100), x & 1);
    ranges[i] = widest(Range{x % 5, x % 5 + x % 40, 0, 1.0 + x % 8});
}

__global__ void sorts(const int *in, int *out) {
    int local[24], i = threadIdx.x, count = 1 + i % 24;
    for (int k = 0; k < count; k++) local[k] = in[i * 24 + k];
    quicksort(local, count);
    for (int k = 0; k < 24; k++) out[i * 24 + k] = k < count ? local[k] : -1;
}

__global__ void trees(const Node *nodes, const int *roots, long long *out) {
    out[threadIdx.x] = walk(nodes, roots[threadIdx.x], 0);
}

__global__ void expressions(int *out) {
    Leaf one(1), seven(7);
    Sum sum(&one, &seven);
    Product product(&sum, &seven);
    Sum all(&product, &sum);
    Product top(&all, threadIdx.x % 3 ? (const Expression *)&product : (const Expression *)&one);
    const Expression *which = threadIdx.x % 4 == 0 ? (const Expression *)&top : (const Expression *)&all;
    out[threadIdx.x] = which->value(threadIdx.x);
}
static int leaf(int c, int x) { return c + x; }
static int sum_host(int x) { return leaf(1, x + 1) + leaf(7, x - 1); }
static int product_host(int x) { return sum_host(x) * leaf(7, 2 * x) % 1009; }
static int all_host(int x) { return product_host(x + 1) + sum_host(x - 1); }

__global__ void warps(const int *in, int *out, int depth) { out[threadIdx.x] = gather(depth, in[threadIdx.x]); }

__global__ void folds(const int *in, int *out) {
    __shared__ int shared[256];
    shared[threadIdx.x] = in[blockIdx.x * 256 + threadIdx.x];
    __syncthreads();
    int levels = fold(shared, 128);
    if (threadIdx.x == 200) out[2 * blockIdx.x] = shared[0], out[2 * blockIdx.x + 1] = levels;
}

__global__ void locks(int *out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = locked(i % 6, i);
}

BOTH int deep(int n, int seed) { return n == 0 ? seed : deep(n - 1, seed * 5 + n) + (n ^ seed); }
__global__ void depths(int *out, int n) { out[threadIdx.x] = deep(n + threadIdx.x, threadIdx.x); }

int main() {
    Random random;
    const int count = 1000;
    std::vector<int> in(count), want(5 * count);
    std::vector<double> real(count);
    std::vector<Range> ranges(count);
    for (int i = 0; i < count; i++) {
        int x = in[i] = random.word() % 100000;
        want[5 * i] = fibonacci(x % 12);
        want[5 * i + 1] = ackermann(x % 3, x % 4);
        want[5 * i + 2] = is_even(x % 23) * 2 + is_odd(x % 17);
        want[5 * i + 3] = x % 2 ? climb(nullptr, x % 9, x) : climb(nullptr, x % 5, -x) + fibonacci(x % 7);
        want[5 * i + 4] = descend_host(x % 20, x);
        real[i] = mixed(x % 10, (float)(x % 16) * 0.25f, x % 32, x, (short)(x % 100), x & 1);
        ranges[i] = widest(Range{x % 5, x % 5 + x % 40, 0, 1.0 + x % 8});
    }
    CUDA(cudaDeviceSetLimit(cudaLimitStackSize, 8192));
    Device<int> input(in), output(5 * count);
    integers<<<(count + 127) / 128, 128>>>(input, output, count);
    FINISH();
    require_same(output.download(), want, "integers");

    Device<double> reals(count);
    Device<Range> found(count);
    doubles<<<(count + 95) / 96, 96>>>(input, reals, found, count);
    FINISH();
    std::vector<double> got = reals.download();
    for (int i = 0; i < count; i++) {
        // Contracted sums may differ in the last places.
        REQUIRE(std::fabs(got[i] - real[i]) <= 1e-6 * (1 + std::fabs(real[i])), "%d: %.17g, expected %.17g", i, got[i], real[i]);
    }
    std::vector<Range> widened = found.download();
    for (int i = 0; i < count; i++) {
        const Range &a = widened[i], &b = ranges[i];
        REQUIRE(a.low == b.low && a.high == b.high && a.depth == b.depth, "range %d", i);
        REQUIRE(std::fabs(a.weight - b.weight) <= 1e-9 * std::fabs(b.weight), "weight %d: %.17g, expected %.17g", i, a.weight, b.weight);
    }

    std::vector<int> unsorted(64 * 24), sorted(64 * 24, -1);
    for (int &value : unsorted) value = random.word() % 1000;
    for (int i = 0; i < 64; i++) {
        int n = 1 + i % 24;
        std::copy_n(&unsorted[i * 24], n, &sorted[i * 24]);
        std::sort(&sorted[i * 24], &sorted[i * 24] + n);
    }
    Device<int> unsorted_device(unsorted), sorted_device(64 * 24);
    sorts<<<1, 64>>>(unsorted_device, sorted_device);
    FINISH();
    require_same(sorted_device.download(), sorted, "sorts");

    std::vector<Node> nodes;
    std::vector<int> roots;
    for (int i = 0; i < 40; i++) {
        // An unbalanced search tree of its own for every thread.
        int first = (int)nodes.size();
        for (int k = 0; k <= i % 13; k++) {
            int key = random.word() % 1000, at = first, fresh = (int)nodes.size();
            nodes.push_back(Node{key, -1, -1});
            while (at != fresh) {
                int &next = key < nodes[at].key ? nodes[at].left : nodes[at].right;
                if (next < 0) next = fresh;
                at = next;
            }
        }
        roots.push_back(i % 7 == 3 ? -1 : first);
    }
    std::vector<long long> walked;
    for (int root : roots) walked.push_back(walk(nodes.data(), root, 0));
    Device<Node> nodes_device(nodes);
    Device<int> roots_device(roots);
    Device<long long> walked_device(roots.size());
    trees<<<1, 40>>>(nodes_device, roots_device, walked_device);
    FINISH();
    require_same(walked_device.download(), walked, "trees");

    std::vector<int> values(50);
    for (int i = 0; i < 50; i++) {
        values[i] = i % 4 ? all_host(i) : all_host(i) * (i % 3 ? product_host(2 * i) : leaf(1, 2 * i)) % 1009;
    }
    Device<int> values_device(50);
    expressions<<<1, 50>>>(values_device);
    FINISH();
    require_same(values_device.download(), values, "expressions");

    for (int depth : {0, 1, 7, 20}) {
        std::vector<int> lanes(64), gathered(64);
        for (int &lane : lanes) lane = random.word() % 1000;
        gather_host(depth, &lanes[0], &gathered[0]);
        gather_host(depth, &lanes[32], &gathered[32]);
        Device<int> lanes_device(lanes), gathered_device(64);
        warps<<<1, 64>>>(lanes_device, gathered_device, depth);
        FINISH();
        require_same(gathered_device.download(), gathered, "warps");
    }

    std::vector<int> rows(4 * 256), sums(2 * 4);
    for (int &row : rows) row = random.word() % 1000;
    for (int block = 0; block < 4; block++) {
        std::vector<int> shared(&rows[block * 256], &rows[block * 256] + 256);
        for (int width = 128; width > 0; width /= 2)
            for (int i = 0; i < width; i++) shared[i] += shared[i + width];
        sums[2 * block] = shared[0];
        for (int width = 1; width <= 128; width *= 2) sums[2 * block + 1] = sums[2 * block + 1] * 2 + (shared[width] & 1 ? 1 : shared[0] & 1);
    }
    Device<int> rows_device(rows), sums_device(2 * 4);
    folds<<<4, 256>>>(rows_device, sums_device);
    FINISH();
    require_same(sums_device.download(), sums, "folds");

    std::vector<int> held(4 * 64);
    int sum = 0, found_sum = 0;
    for (int i = 0; i < 4 * 64; i++) held[i] = locked_host(i % 6, i, sum);
    Device<int> held_device(held.size());
    locks<<<4, 64>>>(held_device);
    FINISH();
    require_same(held_device.download(), held, "locks");
    CUDA(cudaMemcpyFromSymbol(&found_sum, locked_sum, sizeof found_sum));
    REQUIRE(found_sum == sum, "the locked sum is %d, expected %d", found_sum, sum);

    // A larger limit carries deeper.
    CUDA(cudaDeviceSetLimit(cudaLimitStackSize, 64 << 10));
    size_t limit = 0;
    CUDA(cudaDeviceGetLimit(&limit, cudaLimitStackSize));
    REQUIRE(limit == 64 << 10, "%zu", limit);
    Device<int> depths_device(32);
    depths<<<1, 32>>>(depths_device, 1000);
    FINISH();
    std::vector<int> deepest(32);
    for (int i = 0; i < 32; i++) deepest[i] = deep(1000 + i, i);
    require_same(depths_device.download(), deepest, "depths");

    // No stack holds this: the context is lost, the program goes on.
    depths<<<1, 32>>>(depths_device, 1 << 30);
    cudaError_t status = cudaDeviceSynchronize();
    REQUIRE(status == cudaErrorHardwareStackError || status == cudaErrorIllegalAddress || status == cudaErrorLaunchFailure,
            "an endless descent gave %s", cudaGetErrorName(status));
    REQUIRE(cudaDeviceSynchronize() == status, "the error does not stay");
    return passed("recursion");
}
