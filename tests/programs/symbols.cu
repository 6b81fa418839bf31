// Constant memory and device variables: initial values, copies by symbol with offsets, addresses, sizes, and what
// stays between launches.
// builds: static-ptx static-sass shared-ptx cuda12-ptx
// paths: tcp unix direct native
#include "check.h"

__constant__ float coefficients[16] = {1.5f, -2.0f, 0.25f};
__constant__ int shift;
__device__ int counter = 42;
__device__ int table[4][8] = {{1, 2, 3}, {4, 5}, {6}, {7, 8, 9, 10, 11, 12, 13, 14}};
__device__ double zeros[100];
static __device__ unsigned char text[] = "device text";
__device__ const int *pointer_to_table = &table[3][0];

__global__ void polynomial(const float *x, float *y, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float value = 0;
    for (int k = 15; k >= 0; k--) value = fmaf(value, x[i], coefficients[k]);
    y[i] = value + (float)shift;
}

__global__ void touch(int *out) {
    out[0] = counter;
    out[1] = table[1][1];
    out[2] = pointer_to_table[7];
    out[3] = text[7];
    counter += 1;
    table[2][0] *= 10;
    zeros[99] = zeros[0] + 2.5;
}

int main() {
    const int count = 1000;
    std::vector<float> x(count), want(count);
    Random random;
    for (float &value : x) value = (float)random.between(-1, 1);
    Device<float> device_x(x), y(count);
    std::vector<float> host(16, 0.0f);
    host[0] = 1.5f, host[1] = -2.0f, host[2] = 0.25f;
    auto check = [&](int term, const char *what) {
        polynomial<<<(count + 63) / 64, 64>>>(device_x, y, count);
        FINISH();
        for (int i = 0; i < count; i++) {
            float value = 0;
            for (int k = 15; k >= 0; k--) value = std::fma(value, x[i], host[k]);
            want[i] = value + (float)term;
        }
        require_same(y.download(), want, what);
    };
    check(0, "initial constants");
    for (int k = 3; k < 16; k++) host[k] = (float)k * 0.125f;
    CUDA(cudaMemcpyToSymbol(coefficients, &host[3], 13 * sizeof(float), 3 * sizeof(float)));
    int term = -3;
    CUDA(cudaMemcpyToSymbol(shift, &term, sizeof term));
    check(-3, "written constants");
    std::vector<float> back(16);
    CUDA(cudaMemcpyFromSymbol(back.data(), coefficients, 16 * sizeof(float)));
    require_same(back, host, "read constants");

    Device<int> out(4);
    for (int round = 0; round < 3; round++) {
        touch<<<1, 1>>>(out);
        FINISH();
        require_same(out.download(), {42 + round, 5, 14, 't'}, "device variables");
    }
    int value;
    CUDA(cudaMemcpyFromSymbol(&value, counter, sizeof value));
    REQUIRE(value == 45, "counter is %d", value);
    CUDA(cudaMemcpyFromSymbol(&value, table, sizeof value, (2 * 8) * sizeof(int)));
    REQUIRE(value == 6000, "table[2][0] is %d", value);
    double last;
    CUDA(cudaMemcpyFromSymbol(&last, zeros, sizeof last, 99 * sizeof last));
    REQUIRE(last == 2.5, "zeros[99] is %f", last);

    size_t size = 0;
    CUDA(cudaGetSymbolSize(&size, table));
    REQUIRE(size == sizeof(int) * 32, "size is %zu", size);
    int *address;
    CUDA(cudaGetSymbolAddress((void **)&address, counter));
    int fresh = 1000;
    CUDA(cudaMemcpy(address, &fresh, sizeof fresh, cudaMemcpyHostToDevice));
    touch<<<1, 1>>>(out);
    FINISH();
    REQUIRE(out.download()[0] == 1000, "counter written by address");
    CUDA_FAILS(cudaMemcpyToSymbol(shift, host.data(), 2 * sizeof(int)), cudaErrorInvalidValue);
    return passed("symbols");
}
