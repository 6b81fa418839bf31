// Arithmetic of every type, conversions, bits.
#include <cstdint>
#include <cuda_fp16.h>
#include <cuda_bf16.h>

extern "C" __global__ void floats(const float *in, float *out, int n) {
    int i = threadIdx.x;
    if (i >= n) return;
    float x = in[i], y = in[(i + 1) % n];
    float r = sinf(x) + cosf(y) * expf(x * 0.01f) - logf(fabsf(y) + 1) / sqrtf(fabsf(x) + 1);
    r += __sinf(x) + __expf(y * 0.1f) + rsqrtf(fabsf(x) + 1) + fminf(x, y) - fmaxf(x, y) + copysignf(x, y) + powf(fabsf(x), 0.3f);
    r += truncf(x) + floorf(y) + ceilf(x) + rintf(y) + fmodf(x, y) + __fdividef(x, y) + __fadd_rd(x, y) + __fmul_ru(x, y);
    out[i] = isnan(r) ? 0 : isinf(r) ? 1 : r;
}

extern "C" __global__ void doubles(const double *in, double *out) {
    double x = in[threadIdx.x];
    out[threadIdx.x] = sin(x) * exp(x * 0.01) + sqrt(fabs(x)) / (1 + x * x) + fma(x, x, 1.0) + __dadd_rz(x, 0.1) + cbrt(x) + floor(x);
}

extern "C" __global__ void integers(const int *a, const int *b, int *out) {
    int i = threadIdx.x, x = a[i], y = b[i];
    unsigned u = x, v = y;
    int r = x / (y | 1) + x % (y | 1) + (int)(u / (v | 1)) + (int)(u % (v | 1)) + __mulhi(x, y) + __umulhi(u, v) + abs(x) + min(x, y);
    r += __popc(u) + __clz(x) + __ffs(x) + __brev(u) + __byte_perm(x, y, 0x5140) + __funnelshift_l(u, v, x) + __sad(x, y, 3);
    r ^= (x << (y & 31)) ^ (x >> (y & 31)) ^ (int)(u >> (v & 31)) ^ ~x;
    r += __mul24(x, y) + __usad(u, v, 1) + __vabsdiffu4(u, v) + __vadd2(u, v) + __vmaxs4(u, v) + __dp4a(x, y, 1);
    long long l = (long long)x * y + __mul64hi((long long)x << 20, (long long)y << 33) + __popcll(l = x) + __clzll(y);
    out[i] = r + (int)(l >> 7) + (int)(l / (y | 1)) + (int)((unsigned long long)l % (u | 1));
}

extern "C" __global__ void conversions(const double *in, int64_t *out) {
    int i = threadIdx.x;
    double x = in[i];
    float f = (float)x;
    int64_t r = (int64_t)x + (int)f + (int8_t)(int)x + (uint16_t)f + (int64_t)__float2half(f).operator float() + __double2int_ru(x) + __float2uint_rd(f);
    r += __float_as_int(f) ^ __double_as_longlong(x);
    r += (int64_t)(float)(int64_t)x + (int64_t)(double)(uint32_t)x + __float2ll_rn(f) + (unsigned char)f + (int64_t)__saturatef(f);
    out[i] = r;
}

extern "C" __global__ void halves(const __half2 *a, const __half2 *b, __half2 *out, const __nv_bfloat16 *c, __nv_bfloat16 *d) {
    int i = threadIdx.x;
    __half2 x = a[i], y = b[i];
    __half2 r = __hfma2(x, y, __hadd2(x, y));
    r = __hmax2(r, __hneg2(y));
    if (__hbgt2(x, y)) r = __hmul2(r, x);
    r = __hadd2(r, __hlt2(x, y));
    out[i] = __floats2half2_rn(__low2float(r), __half2float(__high2half(r)) + (float)__hgt(__low2half(x), __high2half(y)));
    d[i] = __float2bfloat16(__bfloat162float(c[i]) * 3.0f) + c[i];
}

extern "C" __global__ void wide128(const unsigned long long *a, unsigned long long *out) {
    unsigned __int128 x = a[threadIdx.x], y = a[threadIdx.x + 1];
    unsigned __int128 p = x * y + (y << 70) - x;
    out[2 * threadIdx.x] = (unsigned long long)p;
    out[2 * threadIdx.x + 1] = (unsigned long long)(p >> 64);
}
