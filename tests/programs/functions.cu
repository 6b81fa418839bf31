// Device functions that stay calls, structures as parameters and results, large parameter lists, local arrays that
// are indexed by what is only known at run time, vector types.
// builds: static-ptx static-sass shared-ptx
// paths: tcp direct
#include "check.h"

struct Matrix {
    float at[3][3];
    int rows;
    double scale;
};
struct Large {
    int values[900];
    char tag;
};
struct Mixed {
    char a;
    short b;
    int c;
    long long d;
    float3 e;
    double f;
    const int *pointer;
};

__host__ __device__ __noinline__ Matrix transposed(Matrix m) {
    Matrix result = m;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) result.at[i][j] = m.at[j][i];
    result.rows = m.rows + 1;
    result.scale = m.scale * 2;
    return result;
}

__device__ __noinline__ int divide(int a, int b, int *remainder) {
    *remainder = a % b;
    return a / b;
}

__device__ __noinline__ float blend(float4 a, float4 b, float t) {
    return (a.x + a.y + a.z + a.w) * (1 - t) + (b.x + b.y + b.z + b.w) * t;
}

__device__ __noinline__ int chain3(int x) { return x * 3 + 1; }
__device__ __noinline__ int chain2(int x) { return x % 2 ? chain3(x) + chain3(x + 1) : chain3(x) - 5; }
__device__ __noinline__ int chain1(int x) { return x > 40 ? chain2(x - 7) : chain2(x) * 2; }

__global__ void matrices(Matrix m, Matrix *out) { out[threadIdx.x] = threadIdx.x % 2 ? transposed(m) : transposed(transposed(m)); }

__global__ void large(Large values, int *out) { out[threadIdx.x] = values.values[threadIdx.x * 3] + values.tag; }

__global__ void mixed(Mixed m, bool flag, unsigned char byte, short word, double *out) {
    out[0] = m.a, out[1] = m.b, out[2] = m.c, out[3] = (double)m.d, out[4] = m.e.x, out[5] = m.e.y, out[6] = m.e.z;
    out[7] = m.f, out[8] = m.pointer[2], out[9] = flag, out[10] = byte, out[11] = word;
}

__global__ void calls(const int *in, int *out, const float4 *vectors, float *blended) {
    int i = threadIdx.x, remainder;
    int quotient = divide(in[i], 7, &remainder);
    out[i] = quotient * 100 + remainder + 1000000 * chain1(in[i]);
    blended[i] = blend(vectors[i], vectors[(i + 1) % 64], 0.25f);
}

__host__ __device__ inline int scrambled(int seed) {
    int counts[16] = {};
    unsigned char order[40];
    for (int k = 0; k < 40; k++) {
        int digit = (seed >> (k % 28)) & 15;
        order[k] = (unsigned char)counts[digit];
        counts[digit] += k;
    }
    unsigned sum = 0;
    for (int k = 0; k < 40; k++) sum = sum * 3 + order[(k * 7 + seed) % 40];
    return (int)sum ^ counts[seed & 15];
}

__global__ void local_arrays(const int *in, int *out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = scrambled(in[i]);
}

__global__ void vectors(const float4 *a, const int2 *b, const uchar4 *c, const double2 *d, const short4 *e, float4 *out) {
    int i = threadIdx.x;
    float4 x = a[i];
    int2 y = b[i];
    uchar4 z = c[i];
    double2 w = __ldg(&d[i]);
    short4 v = e[i];
    out[i] = make_float4(x.x + y.x + z.w, x.y - y.y + v.x, x.z * z.x + v.w, (float)(x.w + w.x * w.y));
}

int main() {
    Matrix m = {{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}, 3, 0.5};
    Device<Matrix> matrices_out(4);
    matrices<<<1, 4>>>(m, matrices_out);
    FINISH();
    std::vector<Matrix> got = matrices_out.download();
    for (int i = 0; i < 4; i++) {
        Matrix want = i % 2 ? transposed(m) : transposed(transposed(m));
        REQUIRE(std::memcmp(got[i].at, want.at, sizeof want.at) == 0 && got[i].rows == want.rows && got[i].scale == want.scale,
                "matrix %d", i);
    }

    Large values;
    for (int i = 0; i < 900; i++) values.values[i] = i * i;
    values.tag = 'x';
    Device<int> large_out(300);
    large<<<1, 300>>>(values, large_out);
    FINISH();
    std::vector<int> want(300);
    for (int i = 0; i < 300; i++) want[i] = 9 * i * i + 'x';
    require_same(large_out.download(), want, "large parameter");

    Device<int> pointed(std::vector<int>{1, 2, 33});
    Mixed mixture = {'q', -300, 70000, -(1LL << 40), {1.5f, 2.5f, 3.5f}, 1e100, pointed};
    Device<double> mixed_out(12);
    mixed<<<1, 1>>>(mixture, true, 200, -9, mixed_out);
    FINISH();
    require_same(mixed_out.download(), {'q', -300, 70000, -1099511627776.0, 1.5, 2.5, 3.5, 1e100, 33, 1, 200, -9}, "mixed");

    std::vector<int> in(64), want_calls(64);
    std::vector<float4> quads(64);
    std::vector<float> want_blend(64);
    Random random;
    for (int i = 0; i < 64; i++) {
        in[i] = i * 13 % 97;
        quads[i] = make_float4((float)random.between(-1, 1), (float)i, 2.0f, (float)random.between(0, 9));
    }
    auto c3 = [](int x) { return x * 3 + 1; };
    auto c2 = [&](int x) { return x % 2 ? c3(x) + c3(x + 1) : c3(x) - 5; };
    auto c1 = [&](int x) { return x > 40 ? c2(x - 7) : c2(x) * 2; };
    auto sum = [](float4 v) { return v.x + v.y + v.z + v.w; };
    for (int i = 0; i < 64; i++) {
        want_calls[i] = in[i] / 7 * 100 + in[i] % 7 + 1000000 * c1(in[i]);
        want_blend[i] = std::fma(sum(quads[i]), 0.75f, sum(quads[(i + 1) % 64]) * 0.25f);
    }
    Device<int> device_in(in), calls_out(64);
    Device<float4> device_quads(quads);
    Device<float> blended(64);
    calls<<<1, 64>>>(device_in, calls_out, device_quads, blended);
    FINISH();
    require_same(calls_out.download(), want_calls, "calls");
    std::vector<float> got_blend = blended.download();
    for (int i = 0; i < 64; i++) REQUIRE(ulps(got_blend[i], (double)want_blend[i]) <= 2, "blend %d: %g, expected %g", i, got_blend[i], want_blend[i]);

    const int count = 1000;
    std::vector<int> seeds(count), want_local(count);
    for (int i = 0; i < count; i++) {
        seeds[i] = (int)(random.word() >> 2);
        want_local[i] = scrambled(seeds[i]);
    }
    Device<int> device_seeds(seeds), local_out(count);
    local_arrays<<<(count + 63) / 64, 64>>>(device_seeds, local_out, count);
    FINISH();
    require_same(local_out.download(), want_local, "local arrays");

    std::vector<int2> pairs(64);
    std::vector<uchar4> bytes(64);
    std::vector<double2> doubles(64);
    std::vector<short4> shorts(64);
    for (int i = 0; i < 64; i++) {
        quads[i] = make_float4((float)i, 0.5f * i, -1.0f * i, 3.0f);
        pairs[i] = make_int2(i - 30, i * i);
        bytes[i] = make_uchar4((unsigned char)i, 1, 2, (unsigned char)(255 - i));
        doubles[i] = make_double2(i * 0.5, 4.0);
        shorts[i] = make_short4((short)-i, 5, 6, (short)(i * 100));
    }
    Device<int2> device_pairs(pairs);
    Device<uchar4> device_bytes(bytes);
    Device<double2> device_doubles(doubles);
    Device<short4> device_shorts(shorts);
    Device<float4> vectors_out(64);
    device_quads.upload(quads);
    vectors<<<1, 64>>>(device_quads, device_pairs, device_bytes, device_doubles, device_shorts, vectors_out);
    FINISH();
    std::vector<float4> got_vectors = vectors_out.download();
    for (int i = 0; i < 64; i++) {
        float4 w = make_float4((float)(i + i - 30 + 255 - i), 0.5f * i - i * i - i, (float)(-i * i + i * 100), 3.0f + 2.0f * i);
        REQUIRE(std::memcmp(&got_vectors[i], &w, sizeof w) == 0, "vector %d is %g %g %g %g, expected %g %g %g %g", i, got_vectors[i].x,
                got_vectors[i].y, got_vectors[i].z, got_vectors[i].w, w.x, w.y, w.z, w.w);
    }
    return passed("functions");
}
