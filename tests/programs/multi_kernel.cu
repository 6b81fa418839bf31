// A program of two translation units, each with many kernels and variables, some of the same name.
// builds: static-ptx static-sass shared-ptx
// paths: tcp direct
#include "check.h"

static __device__ int own = 1;

template <int N> __global__ void step(int *value) { *value = *value * 31 + N + own; }
static __global__ void same_name(int *value) { *value += 1000; }

void run_second_unit(int *value);
int expect_second_unit(int value);

template <int N> struct Steps {
    static void run(int *device) {
        Steps<N - 1>::run(device);
        step<N><<<1, 1>>>(device);
    }
    static int expect(int value) { return (int)((unsigned)Steps<N - 1>::expect(value) * 31u + N + 1); }
};
template <> struct Steps<0> {
    static void run(int *) {}
    static int expect(int value) { return value; }
};

int main() {
    Device<int> value(1);
    value.clear();
    int want = 0;
    for (int round = 0; round < 3; round++) {
        Steps<24>::run(value);
        want = Steps<24>::expect(want);
        same_name<<<1, 1>>>(value);
        want += 1000;
        run_second_unit(value);
        want = expect_second_unit(want);
    }
    FINISH();
    require_same(value.download(), {want}, "all kernels in order");
    return passed("multi_kernel");
}
