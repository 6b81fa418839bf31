// Divergence: nested branches, loops whose length depends on the lane, break, continue, early return, switch, goto,
// short circuits; and reconvergence, which a shuffle afterwards sees.
// builds: static-ptx static-sass
// paths: tcp direct
#include "check.h"

__host__ __device__ inline int nested(int x) {
    int result = 0;
    if (x % 2) {
        if (x % 3 == 0) result += 10;
        else if (x % 5 == 0) result += 20;
        else {
            for (int i = 0; i < x % 7; i++) {
                if (i == 4) break;
                if (i == 2) continue;
                result += i * x;
            }
        }
    } else {
        int i = x;
        while (i > 0) {
            result += i & 3;
            i = i % 4 == 0 ? i / 2 : i - 1;
        }
    }
    return result;
}

__host__ __device__ inline int collatz(unsigned x) {
    int steps = 0;
    while (x > 1) {
        x = x % 2 ? 3 * x + 1 : x / 2;
        steps++;
    }
    return steps;
}

__host__ __device__ inline int choose(int x) {
    switch (x % 12) {
    case 0: return 100;
    case 1:
    case 2: x += 5; // falls through
    case 3: x *= 2; break;
    case 4: return x - 1;
    case 7: x ^= 0x55; break;
    case 8: x = -x; break;
    case 9: if (x > 500) return 9; x += 1; break;
    case 11: x /= 3; break;
    default: x = 1;
    }
    return x + 3;
}

__host__ __device__ inline int jumps(int x) {
    int count = 0;
again:
    count++;
    if (x > 100) {
        x -= 37;
        goto again;
    }
    do {
        x += 11;
        if (x % 13 == 0 && count < 20) goto out;
        if (x % 4 == 0 || (x % 6 == 1 && ++count > 5)) x += 2;
    } while (x < 150);
out:
    return x * 100 + count;
}

__host__ __device__ inline int matrix_search(int x) {
    int found = -1;
    for (int i = 0; i < 12 && found < 0; i++) {
        for (int j = 0; j < 12; j++) {
            if ((i * 17 + j * 5) % 97 == x % 97) {
                found = i * 100 + j;
                break;
            }
        }
    }
    return found;
}

__global__ void kernel(const int *in, int *out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    int x = in[i];
    out[0 * count + i] = nested(x);
    out[1 * count + i] = collatz(x + 1);
    out[2 * count + i] = choose(x);
    out[3 * count + i] = jumps(x);
    out[4 * count + i] = matrix_search(x);
}

__global__ void returns_early(int *out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (threadIdx.x % 5 == 1) return;
    out[i] += 1;
    if (threadIdx.x > 50) return;
    for (int k = 0;; k++) {
        out[i] += 10;
        if (k == (int)threadIdx.x % 4) return;
    }
}

__global__ void reconverges(int *out) {
    __shared__ int shared[64];
    int value = threadIdx.x;
    for (int k = 0; k < (int)(threadIdx.x % 9); k++) value += k * 2;
    if (threadIdx.x & 1) value *= 3;
    __syncwarp();
    int neighbour = __shfl_xor_sync(0xFFFFFFFFu, value, 1);
    shared[threadIdx.x] = neighbour;
    for (int round = 0; round < 3; round++) { // a barrier in a loop of equal length
        __syncthreads();
        int next = shared[(threadIdx.x + 1) % 64];
        __syncthreads();
        shared[threadIdx.x] = next + round;
    }
    out[threadIdx.x] = shared[threadIdx.x];
}

int main() {
    const int count = 2011;
    Random random;
    std::vector<int> in(count), want(5 * count);
    for (int &x : in) x = random.word() % 2000;
    for (int i = 0; i < count; i++) {
        want[0 * count + i] = nested(in[i]);
        want[1 * count + i] = collatz(in[i] + 1);
        want[2 * count + i] = choose(in[i]);
        want[3 * count + i] = jumps(in[i]);
        want[4 * count + i] = matrix_search(in[i]);
    }
    Device<int> device_in(in), out(5 * count);
    kernel<<<(count + 127) / 128, 128>>>(device_in, out, count);
    FINISH();
    require_same(out.download(), want, "functions");

    Device<int> early(2 * 64);
    early.clear();
    returns_early<<<2, 64>>>(early);
    FINISH();
    std::vector<int> want_early(2 * 64, 0);
    for (int i = 0; i < 2 * 64; i++) {
        int thread = i % 64;
        if (thread % 5 == 1) continue;
        want_early[i] = 1 + (thread > 50 ? 0 : 10 * (thread % 4 + 1));
    }
    require_same(early.download(), want_early, "early returns");

    Device<int> converged(64);
    reconverges<<<1, 64>>>(converged);
    FINISH();
    std::vector<int> values(64), shared(64);
    for (int t = 0; t < 64; t++) {
        values[t] = t;
        for (int k = 0; k < t % 9; k++) values[t] += k * 2;
        if (t & 1) values[t] *= 3;
    }
    for (int t = 0; t < 64; t++) shared[t] = values[t ^ 1];
    for (int round = 0; round < 3; round++) {
        std::vector<int> next(64);
        for (int t = 0; t < 64; t++) next[t] = shared[(t + 1) % 64] + round;
        shared = next;
    }
    require_same(converged.download(), shared, "reconvergence");
    return passed("control_flow");
}
