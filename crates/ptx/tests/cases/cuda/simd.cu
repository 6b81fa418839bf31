// Bytes and halfwords of a word, bit fields, 64- and 128-bit arithmetic, integer division.
extern "C" __global__ void simd(const unsigned *a, const unsigned *b, unsigned *out) {
    int i = threadIdx.x, n = blockDim.x;
    unsigned x = a[i], y = b[i];
    out[0 * n + i] = __vabsdiffu4(x, y);
    out[1 * n + i] = __vadd4(x, y);
    out[2 * n + i] = __vmaxs4(x, y);
    out[3 * n + i] = __vsadu4(x, y);
    out[4 * n + i] = __vavgu2(x, y);
    out[5 * n + i] = __byte_perm(x, y, 0x5140);
    out[6 * n + i] = __funnelshift_l(x, y, y);
    out[7 * n + i] = __dp4a((int)x, (int)y, 5);
    out[8 * n + i] = __brev(x) ^ __clz(y) ^ (__popc(x) << 8) ^ (__ffs(y) << 16);
    out[9 * n + i] = (int)x / ((int)y | 1) + (int)x % ((int)y | 1);
    out[10 * n + i] = x / (y | 1) ^ x % (y | 1);
    out[11 * n + i] = __mulhi((int)x, (int)y) + __umulhi(x, y);
    unsigned __int128 p = (unsigned __int128)(((unsigned long long)x << 32) | y) * (((unsigned long long)y << 32) | x) - x;
    out[12 * n + i] = (unsigned)(p >> 64);
    out[13 * n + i] = (unsigned)(p >> 96);
    out[14 * n + i] = (unsigned)(p >> 7);
    unsigned d, e;
    asm("bfe.s32 %0, %1, 5, 9;" : "=r"(d) : "r"(x));
    asm("bfi.b32 %0, %1, %2, 4, 12;" : "=r"(e) : "r"(x), "r"(y));
    out[15 * n + i] = d;
    out[16 * n + i] = e;
}
