// What every CUDA program here uses to check itself: calls that must succeed, calls that must fail in one way,
// device buffers that free themselves, a fixed sequence of pseudo-random numbers, and distances in ULPs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include <cuda_runtime.h>

// Ends the program unless the runtime call succeeds.
#define CUDA(call)                                                                                             \
    do {                                                                                                       \
        cudaError_t status_ = (call);                                                                          \
        if (status_ != cudaSuccess) {                                                                          \
            std::fprintf(stderr, "%s:%d: %s gave %s (%d)\n", __FILE__, __LINE__, #call,                        \
                         cudaGetErrorName(status_), (int)status_);                                             \
            std::exit(1);                                                                                      \
        }                                                                                                      \
    } while (0)

// Ends the program unless the runtime call fails with exactly this code.
#define CUDA_FAILS(call, expected)                                                                             \
    do {                                                                                                       \
        cudaError_t status_ = (call);                                                                          \
        if (status_ != (expected)) {                                                                           \
            std::fprintf(stderr, "%s:%d: %s gave %s (%d), expected %s\n", __FILE__, __LINE__, #call,           \
                         cudaGetErrorName(status_), (int)status_, cudaGetErrorName(expected));                 \
            std::exit(1);                                                                                      \
        }                                                                                                      \
    } while (0)

// Ends the program with a message unless the condition holds.
#define REQUIRE(condition, ...)                                                                                \
    do {                                                                                                       \
        if (!(condition)) {                                                                                    \
            std::fprintf(stderr, "%s:%d: %s does not hold: ", __FILE__, __LINE__, #condition);                 \
            std::fprintf(stderr, __VA_ARGS__);                                                                 \
            std::fprintf(stderr, "\n");                                                                        \
            std::exit(1);                                                                                      \
        }                                                                                                      \
    } while (0)

// Checks the launch and waits for the kernel.
#define FINISH()                                                                                               \
    do {                                                                                                       \
        CUDA(cudaGetLastError());                                                                              \
        CUDA(cudaDeviceSynchronize());                                                                         \
    } while (0)

// The same numbers on every machine.
struct Random {
    uint64_t state = 0x9E3779B97F4A7C15ull;
    uint64_t bits() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state;
    }
    uint32_t word() { return (uint32_t)(bits() >> 32); }
    // Uniform in [low, high).
    double between(double low, double high) { return low + (high - low) * ((double)(bits() >> 11) / 9007199254740992.0); }
};

// Device memory with the length of a vector.
template <typename T> struct Device {
    T *data = nullptr;
    size_t count;
    explicit Device(size_t count) : count(count) { CUDA(cudaMalloc(&data, count * sizeof(T))); }
    explicit Device(const std::vector<T> &host) : Device(host.size()) { upload(host); }
    Device(const Device &) = delete;
    ~Device() { cudaFree(data); }
    void upload(const std::vector<T> &host) {
        CUDA(cudaMemcpy(data, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
    }
    std::vector<T> download() const {
        std::vector<T> host(count);
        CUDA(cudaMemcpy(host.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost));
        return host;
    }
    void clear() { CUDA(cudaMemset(data, 0, count * sizeof(T))); }
    operator T *() { return data; }
};

// Equality to the bit; says where the first difference is.
template <typename T> void require_same(const std::vector<T> &got, const std::vector<T> &want, const char *what) {
    REQUIRE(got.size() == want.size(), "%s: %zu values, expected %zu", what, got.size(), want.size());
    for (size_t i = 0; i < got.size(); i++) {
        if (std::memcmp(&got[i], &want[i], sizeof(T)) != 0) {
            std::fprintf(stderr, "%s: element %zu is %.17g, expected %.17g\n", what, i, (double)got[i], (double)want[i]);
            std::exit(1);
        }
    }
}

// Distance in units of the last place from the correctly rounded value, as the CUDA C++ Programming Guide counts it;
// NaN equals NaN.
template <typename T, typename Wide> double ulps(T got, Wide want) {
    if (std::isnan(want)) return std::isnan(got) ? 0 : INFINITY;
    T rounded = (T)want;
    if (got == rounded) return 0;
    if (std::isinf(rounded) || std::isinf(got)) return INFINITY;
    const int digits = std::numeric_limits<T>::digits, least = std::numeric_limits<T>::min_exponent - digits;
    int exponent;
    std::frexp(rounded, &exponent);
    return std::fabs((double)std::ldexp(got - rounded, -std::max(exponent - digits, least)));
}

// The last line of every program that passed.
inline int passed(const char *name) {
    std::printf("%s: ok\n", name);
    return 0;
}
