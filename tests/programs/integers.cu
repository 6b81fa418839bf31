// Integer instructions: bit counts and reversals, high products, funnel shifts, permutes, 128-bit arithmetic with
// carries, division with all signs, SIMD-in-a-word and dot products.
// builds: static-ptx static-sass
// paths: tcp direct
#include "check.h"

#include <algorithm>

const int RESULTS = 40;

// The same list of expressions for the device and the host, in terms of the names that differ.
#define EXPRESSIONS(X)                                                                                         \
    X(POPC(a)) X(CLZ(a)) X(FFS(a)) X(BREV(a)) X(POPCLL(w)) X(CLZLL(w)) X(FFSLL(w)) X((unsigned)(BREVLL(w) >> 7)) \
    X(MULHI((int)a, (int)b)) X(UMULHI(a, b)) X((unsigned)MUL64HI((long long)w, (long long)v)) X((unsigned)(UMUL64HI(w, v) >> 3)) \
    X(MUL24((int)a, (int)b)) X(UMUL24(a, b)) X(SAD((int)a, (int)b, 7u)) X(USAD(a, b, 9u))                       \
    X(FUNNEL_LEFT(a, b, c)) X(FUNNEL_RIGHT(a, b, c)) X(BYTE_PERM(a, b, c & 0x7777u)) X(HADD((int)a, (int)b)) X(RHADD((int)a, (int)b)) \
    X((unsigned)((int)a / ((int)b | 1))) X((unsigned)((int)a % ((int)b | 1))) X(a / (b | 1)) X(a % (b | 1))    \
    X((unsigned)((long long)w / ((long long)v | 1))) X((unsigned)((long long)w % ((long long)v | 1)))           \
    X((unsigned)(w / (v | 1))) X((unsigned)(w % (v | 1)))                                                       \
    X((unsigned)min((int)a, (int)b)) X(max(a, b)) X((unsigned)abs((int)(a | 1)))                                \
    X(VADD4(a, b)) X(VMAXU2(a, b)) X(DP4A((int)a, (int)b, (int)c)) X(UDP4A(a, b, c))                            \
    X(WIDE_PRODUCT(w, v)) X(WIDE_QUOTIENT(w, v)) X((unsigned)((w << (c & 63)) ^ (v >> (c & 63)))) X((unsigned)((long long)v >> (c & 63)))

#define POPC(a) __popc(a)
#define CLZ(a) __clz(a)
#define FFS(a) __ffs(a)
#define BREV(a) __brev(a)
#define POPCLL(a) __popcll(a)
#define CLZLL(a) __clzll(a)
#define FFSLL(a) __ffsll(a)
#define BREVLL(a) __brevll(a)
#define MULHI(a, b) __mulhi(a, b)
#define UMULHI(a, b) __umulhi(a, b)
#define MUL64HI(a, b) __mul64hi(a, b)
#define UMUL64HI(a, b) __umul64hi(a, b)
#define MUL24(a, b) __mul24(a, b)
#define UMUL24(a, b) __umul24(a, b)
#define SAD(a, b, c) __sad(a, b, c)
#define USAD(a, b, c) __usad(a, b, c)
#define FUNNEL_LEFT(a, b, c) __funnelshift_l(a, b, c)
#define FUNNEL_RIGHT(a, b, c) __funnelshift_r(a, b, c)
#define BYTE_PERM(a, b, c) __byte_perm(a, b, c)
#define HADD(a, b) __hadd(a, b)
#define RHADD(a, b) __rhadd(a, b)
#define VADD4(a, b) __vadd4(a, b)
#define VMAXU2(a, b) __vmaxu2(a, b)
#define DP4A(a, b, c) __dp4a(a, b, c)
#define UDP4A(a, b, c) __dp4a(a, b, c)
#define WIDE_PRODUCT(w, v) (unsigned)(((unsigned __int128)(w) * (v) + (w)) >> 60)
#define WIDE_QUOTIENT(w, v) (unsigned)((((__int128)(long long)(w) << 32) - (v)) / (__int128)((long long)(v) >> 20 | 1))

__global__ void device(const unsigned long long *in, unsigned *out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    unsigned long long w = in[2 * i], v = in[2 * i + 1];
    unsigned a = (unsigned)w, b = (unsigned)v, c = (unsigned)(w >> 32);
    int k = 0;
#define STORE(expression) out[i * RESULTS + k++] = (unsigned)(expression);
    EXPRESSIONS(STORE)
}

namespace host {
#undef POPC
#undef CLZ
#undef FFS
#undef BREV
#undef POPCLL
#undef CLZLL
#undef FFSLL
#undef BREVLL
#undef MULHI
#undef UMULHI
#undef MUL64HI
#undef UMUL64HI
#undef MUL24
#undef UMUL24
#undef SAD
#undef USAD
#undef FUNNEL_LEFT
#undef FUNNEL_RIGHT
#undef BYTE_PERM
#undef HADD
#undef RHADD
#undef VADD4
#undef VMAXU2
#undef DP4A
#undef UDP4A
typedef unsigned long long u64;
int POPC(unsigned a) { return __builtin_popcount(a); }
int CLZ(unsigned a) { return a ? __builtin_clz(a) : 32; }
int FFS(int a) { return __builtin_ffs(a); }
u64 BREVLL(u64 a) {
    u64 reversed = 0;
    for (int bit = 0; bit < 64; bit++) reversed |= (a >> bit & 1) << (63 - bit);
    return reversed;
}
unsigned BREV(unsigned a) { return (unsigned)(BREVLL(a) >> 32); }
int POPCLL(u64 a) { return __builtin_popcountll(a); }
int CLZLL(u64 a) { return a ? __builtin_clzll(a) : 64; }
int FFSLL(u64 a) { return __builtin_ffsll((long long)a); }
int MULHI(int a, int b) { return (int)((long long)a * b >> 32); }
unsigned UMULHI(unsigned a, unsigned b) { return (unsigned)((u64)a * b >> 32); }
long long MUL64HI(long long a, long long b) { return (long long)((__int128)a * b >> 64); }
u64 UMUL64HI(u64 a, u64 b) { return (u64)((unsigned __int128)a * b >> 64); }
int MUL24(int a, int b) { return (int)((unsigned)((int)((unsigned)a << 8) >> 8) * (unsigned)((int)((unsigned)b << 8) >> 8)); }
unsigned UMUL24(unsigned a, unsigned b) { return (a & 0xFFFFFF) * (b & 0xFFFFFF); }
unsigned SAD(int a, int b, unsigned c) { return (a > b ? (unsigned)a - (unsigned)b : (unsigned)b - (unsigned)a) + c; }
unsigned USAD(unsigned a, unsigned b, unsigned c) { return (a > b ? a - b : b - a) + c; }
unsigned FUNNEL_LEFT(unsigned low, unsigned high, unsigned shift) {
    return (unsigned)((((u64)high << 32 | low) << (shift & 31)) >> 32);
}
unsigned FUNNEL_RIGHT(unsigned low, unsigned high, unsigned shift) {
    return (unsigned)(((u64)high << 32 | low) >> (shift & 31));
}
unsigned BYTE_PERM(unsigned a, unsigned b, unsigned selector) {
    u64 bytes = (u64)b << 32 | a;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) out |= (unsigned)(bytes >> 8 * (selector >> 4 * i & 7) & 0xFF) << 8 * i;
    return out;
}
int HADD(int a, int b) { return (int)(((long long)a + b) >> 1); }
int RHADD(int a, int b) { return (int)(((long long)a + b + 1) >> 1); }
unsigned VADD4(unsigned a, unsigned b) {
    unsigned out = 0;
    for (int i = 0; i < 32; i += 8) out |= (((a >> i) + (b >> i)) & 0xFF) << i;
    return out;
}
unsigned VMAXU2(unsigned a, unsigned b) {
    return std::max(a & 0xFFFF, b & 0xFFFF) | std::max(a >> 16, b >> 16) << 16;
}
int DP4A(int a, int b, int c) {
    for (int i = 0; i < 32; i += 8) c = (int)((unsigned)c + (unsigned)((signed char)(a >> i) * (signed char)(b >> i)));
    return c;
}
unsigned UDP4A(unsigned a, unsigned b, unsigned c) {
    for (int i = 0; i < 32; i += 8) c += (a >> i & 0xFF) * (b >> i & 0xFF);
    return c;
}
using std::abs;
using std::max;
using std::min;
void evaluate(u64 w, u64 v, unsigned *out) {
    unsigned a = (unsigned)w, b = (unsigned)v, c = (unsigned)(w >> 32);
    int k = 0;
#undef STORE
#define STORE(expression) out[k++] = (unsigned)(expression);
    EXPRESSIONS(STORE)
}
} // namespace host

int main() {
    const int count = 3000;
    Random random;
    std::vector<unsigned long long> in(2 * count);
    for (unsigned long long &value : in) value = random.bits() >> (random.word() % 4 == 0 ? random.word() % 60 : 0);
    in[0] = 0, in[1] = 0, in[2] = ~0ull, in[3] = ~0ull, in[4] = 1ull << 31, in[5] = 1;
    Device<unsigned long long> device_in(in);
    Device<unsigned> out(count * RESULTS);
    device<<<(count + 95) / 96, 96>>>(device_in, out, count);
    FINISH();
    static const char *names[] = {
#define NAME(expression) #expression,
        EXPRESSIONS(NAME)};
    static_assert(sizeof names / sizeof *names == RESULTS, "as many results as expressions");
    std::vector<unsigned> got = out.download();
    for (int i = 0; i < count; i++) {
        unsigned want[RESULTS];
        host::evaluate(in[2 * i], in[2 * i + 1], want);
        for (int k = 0; k < RESULTS; k++)
            REQUIRE(got[i * RESULTS + k] == want[k], "%s of w=%#llx v=%#llx is %#x, expected %#x", names[k], in[2 * i],
                    in[2 * i + 1], got[i * RESULTS + k], want[k]);
    }
    return passed("integers");
}
