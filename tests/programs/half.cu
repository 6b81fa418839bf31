// Half precision and bfloat16: arithmetic in single values and pairs, conversions, comparisons.
// builds: static-ptx static-sass
// paths: tcp direct
#include "check.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

__global__ void halves(const __half *a, const __half *b, __half *out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    __half x = a[i], y = b[i];
    out[0 * count + i] = __hadd(x, y);
    out[1 * count + i] = __hsub(x, y);
    out[2 * count + i] = __hmul(x, y);
    out[3 * count + i] = __hfma(x, y, x);
    out[4 * count + i] = __hneg(x);
    out[5 * count + i] = __habs(x);
    out[6 * count + i] = __float2half(__half2float(x) * 1.5f);
    out[7 * count + i] = __int2half_rn(__half2int_rn(x));
    out[8 * count + i] = __hgt(x, y) ? x : y;
}

__global__ void pairs(const __half2 *a, const __half2 *b, __half2 *out, float2 *wide, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    out[i] = __hfma2(a[i], b[i], __hadd2(a[i], b[i]));
    wide[i] = __half22float2(a[i]);
}

__global__ void brains(const float *in, __nv_bfloat16 *out, float *back, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    out[i] = __float2bfloat16(in[i]);
    back[i] = __bfloat162float(out[i]) + 1.0f;
}

static float wide(__half value) { return __half2float(value); }
static __half narrow(double value) { return __double2half(value); }
static uint16_t bits(__half value) {
    uint16_t raw;
    std::memcpy(&raw, &value, 2);
    return raw;
}

int main() {
    const int count = 2048;
    Random random;
    std::vector<__half> a(count), b(count);
    for (int i = 0; i < count; i++) {
        a[i] = __float2half((float)std::ldexp(random.between(-1, 1), (int)(random.word() % 12) - 4));
        b[i] = __float2half((float)std::ldexp(random.between(-1, 1), (int)(random.word() % 12) - 4));
    }
    Device<__half> device_a(a), device_b(b), out(9 * count);
    halves<<<count / 64, 64>>>(device_a, device_b, out, count);
    FINISH();
    std::vector<__half> got = out.download();
    for (int i = 0; i < count; i++) {
        double x = wide(a[i]), y = wide(b[i]);
        // Doubles hold sums and products of halves exactly, so one rounding remains.
        __half want[9] = {narrow(x + y), narrow(x - y), narrow(x * y), narrow(x * y + x), narrow(-x), narrow(std::fabs(x)),
                          __float2half((float)x * 1.5f), narrow(std::nearbyint(x)), x > y ? a[i] : b[i]};
        for (int k = 0; k < 9; k++) {
            __half value = got[k * count + i];
            bool zeros = wide(value) == 0 && wide(want[k]) == 0;
            REQUIRE(bits(value) == bits(want[k]) || zeros, "operation %d of %g and %g is %g, expected %g", k, x, y,
                    wide(value), wide(want[k]));
        }
    }

    std::vector<__half2> pair_a(count / 2), pair_b(count / 2);
    for (int i = 0; i < count / 2; i++) pair_a[i] = __half2(a[2 * i], a[2 * i + 1]), pair_b[i] = __half2(b[2 * i], b[2 * i + 1]);
    Device<__half2> device_pair_a(pair_a), device_pair_b(pair_b), pair_out(count / 2);
    Device<float2> widened(count / 2);
    pairs<<<count / 128, 64>>>(device_pair_a, device_pair_b, pair_out, widened, count / 2);
    FINISH();
    std::vector<__half2> got_pairs = pair_out.download();
    std::vector<float2> got_wide = widened.download();
    for (int i = 0; i < count / 2; i++) {
        auto combine = [](__half x, __half y) { return narrow((double)wide(x) * wide(y) + wide(narrow((double)wide(x) + wide(y)))); };
        __half low = combine(pair_a[i].x, pair_b[i].x), high = combine(pair_a[i].y, pair_b[i].y);
        REQUIRE(wide(got_pairs[i].x) == wide(low) && wide(got_pairs[i].y) == wide(high), "pair %d is %g %g, expected %g %g",
                i, wide(got_pairs[i].x), wide(got_pairs[i].y), wide(low), wide(high));
        REQUIRE(got_wide[i].x == wide(pair_a[i].x) && got_wide[i].y == wide(pair_a[i].y), "widened pair %d", i);
    }

    std::vector<float> floats(count);
    for (float &value : floats) value = (float)std::ldexp(random.between(-1, 1), (int)(random.word() % 60) - 30);
    Device<float> device_floats(floats), back(count);
    Device<__nv_bfloat16> device_brains(count);
    brains<<<count / 64, 64>>>(device_floats, device_brains, back, count);
    FINISH();
    std::vector<float> got_back = back.download();
    for (int i = 0; i < count; i++) {
        float want = __bfloat162float(__float2bfloat16(floats[i])) + 1.0f;
        REQUIRE(got_back[i] == want, "bfloat16 of %g: %g, expected %g", floats[i], got_back[i], want);
    }
    return passed("half");
}
