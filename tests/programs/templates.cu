// Template kernels over types, values and function objects.
// builds: static-ptx shared-ptx
// paths: tcp direct
#include "check.h"

template <typename T> struct Add {
    __host__ __device__ T operator()(T a, T b) const { return (T)(a + b); }
};
template <typename T> struct Smaller {
    __host__ __device__ T operator()(T a, T b) const { return a < b ? a : b; }
};
struct Pair {
    short first;
    double second;
    __host__ __device__ Pair(short first = 0, double second = 0) : first(first), second(second) {}
    __host__ __device__ Pair operator+(const Pair &other) const {
        return Pair((short)(first + other.first), second + other.second);
    }
    bool operator==(const Pair &other) const { return first == other.first && second == other.second; }
};

template <typename T, template <typename> class Operation, int Unroll>
__global__ void combine(const T *a, const T *b, T *out, int count) {
    int base = (blockIdx.x * blockDim.x + threadIdx.x) * Unroll;
    Operation<T> operation;
#pragma unroll
    for (int k = 0; k < Unroll; k++)
        if (base + k < count) out[base + k] = operation(a[base + k], b[base + k]);
}

template <typename T, template <typename> class Operation, int Unroll> void check(const char *what) {
    const int count = 1009;
    Random random;
    std::vector<T> a(count), b(count);
    for (int i = 0; i < count; i++) {
        a[i] = (T)random.between(std::is_unsigned<T>::value ? 0 : -100, 100);
        b[i] = (T)random.between(std::is_unsigned<T>::value ? 0 : -100, 100);
    }
    Device<T> device_a(a), device_b(b), out(count);
    combine<T, Operation, Unroll><<<(count / Unroll + 64) / 64, 64>>>(device_a, device_b, out, count);
    FINISH();
    std::vector<T> got = out.download();
    for (int i = 0; i < count; i++)
        REQUIRE(got[i] == Operation<T>()(a[i], b[i]), "%s with %d per thread: element %d", what, Unroll, i);
}

template <typename T> void check_type(const char *what) {
    check<T, Add, 1>(what);
    check<T, Add, 4>(what);
    check<T, Smaller, 3>(what);
}

int main() {
    check_type<signed char>("signed char");
    check_type<unsigned char>("unsigned char");
    check_type<short>("short");
    check_type<unsigned short>("unsigned short");
    check_type<int>("int");
    check_type<unsigned>("unsigned");
    check_type<long long>("long long");
    check_type<unsigned long long>("unsigned long long");
    check_type<float>("float");
    check_type<double>("double");

    const int count = 77;
    std::vector<Pair> a(count), b(count);
    for (int i = 0; i < count; i++) a[i] = Pair((short)(i * 500), i * 0.25), b[i] = Pair((short)(i - 40), 1e10 / (i + 1));
    Device<Pair> device_a(a), device_b(b), out(count);
    combine<Pair, Add, 2><<<1, 64>>>(device_a, device_b, out, count);
    FINISH();
    std::vector<Pair> got = out.download();
    for (int i = 0; i < count; i++) REQUIRE(got[i] == a[i] + b[i], "pair %d", i);
    return passed("templates");
}
