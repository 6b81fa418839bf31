// Conversions between integers and floating point in every rounding mode, saturating ones, NaN and infinity.
// builds: static-ptx static-sass
// paths: tcp direct
#include "check.h"

#include <algorithm>
#include <cfenv>

struct FloatRow {
    int rn, rz, ru, rd;
    unsigned urz;
    long long lrn, lrz;
    unsigned long long ulrz;
    double widened;
    signed char byte;
    unsigned short word;
    int bits;
};

__global__ void from_float(const float *in, FloatRow *out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float x = in[i];
    out[i] = {__float2int_rn(x), __float2int_rz(x), __float2int_ru(x), __float2int_rd(x), __float2uint_rz(x),
              __float2ll_rn(x),  __float2ll_rz(x),  __float2ull_rz(x), (double)x,         (signed char)(int)x,
              (unsigned short)(int)x, __float_as_int(x)};
}

struct DoubleRow {
    int rn, rz, ru, rd;
    long long lrn, lrd;
    float frn, frz, fru, frd;
    int high, low;
};

__global__ void from_double(const double *in, DoubleRow *out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    double x = in[i];
    out[i] = {__double2int_rn(x), __double2int_rz(x), __double2int_ru(x), __double2int_rd(x),
              __double2ll_rn(x),  __double2ll_rd(x),  __double2float_rn(x), __double2float_rz(x),
              __double2float_ru(x), __double2float_rd(x), __double2hiint(x), __double2loint(x)};
}

struct IntRow {
    float rn, rz, ru, rd, unsigned_rn;
    double wide;
    float long_rn, long_rz;
    double long_wide_rn, long_wide_ru;
    float saturated;
};

__global__ void from_int(const long long *in, IntRow *out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    int x = (int)in[i];
    out[i] = {__int2float_rn(x), __int2float_rz(x), __int2float_ru(x), __int2float_rd(x), __uint2float_rn((unsigned)x),
              __int2double_rn(x), __ll2float_rn(in[i]), __ll2float_rz(in[i]), __ll2double_rn(in[i]), __ll2double_ru(in[i]),
              __saturatef((float)x * 0.001f)};
}

// What PTX cvt does: NaN becomes 0 for 32 bits and 0x8000000000000000 for 64, the rest is clamped.
template <typename T> T clamped(double rounded) {
    if (std::isnan(rounded)) return sizeof(T) == 8 ? (T)0x8000000000000000ull : T(0);
    double low = (double)std::numeric_limits<T>::min(), beyond = std::ldexp(1.0, std::numeric_limits<T>::digits);
    if (rounded < low) return std::numeric_limits<T>::min();
    if (rounded >= beyond) return std::numeric_limits<T>::max();
    return (T)rounded;
}

template <typename F> auto rounded(int mode, F function) {
    std::fesetround(mode);
    volatile auto result = function();
    std::fesetround(FE_TONEAREST);
    auto plain = result;
    return plain;
}

#define SAME(got, want, input)                                                                                 \
    do {                                                                                                       \
        auto got_ = (got);                                                                                     \
        auto want_ = (decltype(got_))(want);                                                                   \
        REQUIRE(std::memcmp(&got_, &want_, sizeof got_) == 0, "%.17g: got %.17g, expected %.17g",              \
                (double)(input), (double)got_, (double)want_);                                                 \
    } while (0)

int main() {
    Random random;
    std::vector<float> floats = {0.0f, -0.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 0.49999997f, 8388609.0f, 2147483520.0f,
                                 2147483648.0f, -2147483648.0f, 4294967040.0f, 1e20f, -1e20f, INFINITY, -INFINITY, 3e-39f, 127.6f};
    while (floats.size() < 2000) floats.push_back((float)std::ldexp(random.between(-1, 1), random.word() % 40));
    int count = (int)floats.size();
    Device<float> in(floats);
    Device<FloatRow> out(count);
    from_float<<<(count + 63) / 64, 64>>>(in, out, count);
    FINISH();
    std::vector<FloatRow> rows(count);
    rows = out.download();
    for (int i = 0; i < count; i++) {
        double x = floats[i];
        SAME(rows[i].rn, clamped<int>(std::nearbyint(x)), x);
        SAME(rows[i].rz, clamped<int>(std::trunc(x)), x);
        SAME(rows[i].ru, clamped<int>(std::ceil(x)), x);
        SAME(rows[i].rd, clamped<int>(std::floor(x)), x);
        SAME(rows[i].urz, clamped<unsigned>(std::trunc(x)), x);
        SAME(rows[i].lrn, clamped<long long>(std::nearbyint(x)), x);
        SAME(rows[i].lrz, clamped<long long>(std::trunc(x)), x);
        SAME(rows[i].ulrz, clamped<unsigned long long>(std::trunc(x)), x);
        SAME(rows[i].widened, x, x);
        SAME(rows[i].byte, (signed char)clamped<int>(std::trunc(x)), x);
        SAME(rows[i].word, (unsigned short)clamped<int>(std::trunc(x)), x);
        int bits;
        std::memcpy(&bits, &floats[i], 4);
        SAME(rows[i].bits, bits, x);
    }

    std::vector<double> doubles = {0.0, -0.0, 0.5, 1.5, -2.5, 1e300, -1e300, 1e-320, 4503599627370497.5, 9.3e18, 1e-46, 3.5e38, INFINITY};
    while (doubles.size() < 2000) doubles.push_back(std::ldexp(random.between(-1, 1), random.word() % 70));
    count = (int)doubles.size();
    Device<double> doubles_in(doubles);
    Device<DoubleRow> doubles_out(count);
    from_double<<<(count + 63) / 64, 64>>>(doubles_in, doubles_out, count);
    FINISH();
    std::vector<DoubleRow> double_rows = doubles_out.download();
    for (int i = 0; i < count; i++) {
        volatile double x = doubles[i];
        DoubleRow &row = double_rows[i];
        SAME(row.rn, clamped<int>(std::nearbyint(x)), x);
        SAME(row.rz, clamped<int>(std::trunc(x)), x);
        SAME(row.ru, clamped<int>(std::ceil(x)), x);
        SAME(row.rd, clamped<int>(std::floor(x)), x);
        SAME(row.lrn, clamped<long long>(std::nearbyint(x)), x);
        SAME(row.lrd, clamped<long long>(std::floor(x)), x);
        SAME(row.frn, (float)x, x);
        SAME(row.frz, rounded(FE_TOWARDZERO, [&] { return (float)x; }), x);
        SAME(row.fru, rounded(FE_UPWARD, [&] { return (float)x; }), x);
        SAME(row.frd, rounded(FE_DOWNWARD, [&] { return (float)x; }), x);
        uint64_t bits;
        std::memcpy(&bits, &doubles[i], 8);
        SAME(row.high, (int)(bits >> 32), x);
        SAME(row.low, (int)(uint32_t)bits, x);
    }

    std::vector<long long> longs = {0, 1, -1, 16777217, -16777217, 2147483647, -2147483648LL, 9007199254740993LL, 9223372036854775807LL};
    while (longs.size() < 2000) longs.push_back((long long)random.bits() >> (random.word() % 63));
    count = (int)longs.size();
    Device<long long> longs_in(longs);
    Device<IntRow> longs_out(count);
    from_int<<<(count + 63) / 64, 64>>>(longs_in, longs_out, count);
    FINISH();
    std::vector<IntRow> int_rows = longs_out.download();
    for (int i = 0; i < count; i++) {
        volatile long long wide = longs[i];
        volatile int x = (int)longs[i];
        IntRow &row = int_rows[i];
        SAME(row.rn, (float)x, x);
        SAME(row.rz, rounded(FE_TOWARDZERO, [&] { return (float)x; }), x);
        SAME(row.ru, rounded(FE_UPWARD, [&] { return (float)x; }), x);
        SAME(row.rd, rounded(FE_DOWNWARD, [&] { return (float)x; }), x);
        SAME(row.unsigned_rn, (float)(unsigned)x, x);
        SAME(row.wide, (double)x, x);
        SAME(row.long_rn, (float)wide, wide);
        SAME(row.long_rz, rounded(FE_TOWARDZERO, [&] { return (float)wide; }), wide);
        SAME(row.long_wide_rn, (double)wide, wide);
        SAME(row.long_wide_ru, rounded(FE_UPWARD, [&] { return (double)wide; }), wide);
        SAME(row.saturated, std::min(1.0f, std::max(0.0f, (float)x * 0.001f)), x);
    }

    // NaN.
    std::vector<float> not_a_number = {NAN};
    in.upload(not_a_number);
    from_float<<<1, 1>>>(in, out, 1);
    FINISH();
    FloatRow row = out.download()[0];
    REQUIRE(row.rn == 0 && row.rz == 0 && row.urz == 0, "NaN gave %d, %d, %u", row.rn, row.rz, row.urz);
    REQUIRE(row.lrz == (long long)0x8000000000000000ull, "NaN gave %lld", row.lrz);
    return passed("conversions");
}
