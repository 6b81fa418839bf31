// What `cargo xtask bench` measures, one number per run: run directly on the software GPU and through
// `tensor-fusion run`, so that both sides of a comparison are the same program.
// builds: static-ptx
#include "../tests/programs/check.h"

#include <algorithm>
#include <ctime>

static double seconds(clockid_t clock) {
    timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}
static double wall() { return seconds(CLOCK_MONOTONIC); }

__global__ void nothing(int *out, int value) {
    if (value < 0) *out = value;
}

__global__ void sgemm(const float *a, const float *b, float *c, int n) {
    int row = blockIdx.y * blockDim.y + threadIdx.y, column = blockIdx.x * blockDim.x + threadIdx.x;
    float sum = 0;
    for (int k = 0; k < n; k++) sum += a[row * n + k] * b[k * n + column];
    c[row * n + column] = sum;
}

static double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

// Processor time of this process per launch that nobody waits for, in microseconds.
static double launch(clockid_t clock) {
    Device<int> out(1);
    for (int i = 0; i < 1000; i++) nothing<<<1, 32>>>(out, i);
    FINISH();
    std::vector<double> rounds;
    for (int round = 0; round < 15; round++) {
        double start = seconds(clock);
        for (int i = 0; i < 1000; i++) nothing<<<1, 32>>>(out, i);
        rounds.push_back((seconds(clock) - start) * 1e6 / 1000);
        FINISH();
    }
    return median(rounds);
}

// A call that waits for an answer, on an idle device, in microseconds.
static double synchronous() {
    Device<int> out(1);
    nothing<<<1, 32>>>(out, 1);
    FINISH();
    std::vector<double> rounds;
    for (int i = 0; i < 4000; i++) {
        double start = wall();
        CUDA(cudaDeviceSynchronize());
        rounds.push_back((wall() - start) * 1e6);
    }
    return median(rounds);
}

// Copies of ordinary memory, in GB/s.
static double copy(bool upload) {
    const size_t bytes = 256 << 20;
    std::vector<unsigned char> host(bytes, 7);
    Device<unsigned char> device(bytes);
    CUDA(cudaMemcpy(device, host.data(), bytes, cudaMemcpyHostToDevice));
    std::vector<double> rounds;
    for (int round = 0; round < 7; round++) {
        double start = wall();
        if (upload) CUDA(cudaMemcpy(device, host.data(), bytes, cudaMemcpyHostToDevice));
        else CUDA(cudaMemcpy(host.data(), device, bytes, cudaMemcpyDeviceToHost));
        CUDA(cudaDeviceSynchronize());
        rounds.push_back((double)bytes / (wall() - start) * 1e-9);
    }
    return median(rounds);
}

// Naive matrix multiplication of 512 x 512, in GFLOP/s.
static double multiply() {
    const int n = 512;
    std::vector<float> host(n * n, 0.5f);
    Device<float> a(host), b(host), c(n * n);
    std::vector<double> rounds;
    for (int round = 0; round < 8; round++) {
        double start = wall();
        sgemm<<<dim3(n / 16, n / 16), dim3(16, 16)>>>(a, b, c, n);
        FINISH();
        if (round > 0) rounds.push_back(2.0 * n * n * n / (wall() - start) * 1e-9);
    }
    require_same(c.download(), std::vector<float>(n * n, 128.0f), "the product");
    return median(rounds);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    double result = -1;
    if (!std::strcmp(what, "launch-cpu")) result = launch(CLOCK_PROCESS_CPUTIME_ID);
    if (!std::strcmp(what, "launch-wall")) result = launch(CLOCK_MONOTONIC);
    if (!std::strcmp(what, "synchronous")) result = synchronous();
    if (!std::strcmp(what, "upload")) result = copy(true);
    if (!std::strcmp(what, "download")) result = copy(false);
    if (!std::strcmp(what, "sgemm")) result = multiply();
    if (!std::strcmp(what, "first")) {
        Device<int> first(1);
        result = 0;
    }
    REQUIRE(result >= 0, "usage: bench launch-cpu|launch-wall|synchronous|upload|download|sgemm|first");
    std::printf("%.6f\n", result);
    return 0;
}
