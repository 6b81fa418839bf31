// Carry chains: each instruction that reads or writes the carry, against 64-bit arithmetic of the host.
// builds: static-ptx
// paths: tcp direct
#include "check.h"

const int RESULTS = 14;

__global__ void chains(const unsigned *in, unsigned *out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    unsigned a = in[4 * i], b = in[4 * i + 1], c = in[4 * i + 2], d = in[4 * i + 3], *o = out + i * RESULTS;
    asm("add.cc.u32 %0, %4, %5;\n\taddc.cc.u32 %1, %6, %7;\n\taddc.u32 %2, 0, 0;\n\taddc.u32 %3, 0, 0;"
        : "=r"(o[0]), "=r"(o[1]), "=r"(o[2]), "=r"(o[3]) : "r"(a), "r"(b), "r"(c), "r"(d));
    asm("sub.cc.u32 %0, %3, %4;\n\tsubc.cc.u32 %1, %5, %6;\n\tsubc.u32 %2, 0, 0;"
        : "=r"(o[4]), "=r"(o[5]), "=r"(o[6]) : "r"(a), "r"(b), "r"(c), "r"(d));
    asm("mad.lo.cc.u32 %0, %2, %3, %4;\n\tmadc.hi.u32 %1, %2, %3, %5;" : "=r"(o[7]), "=r"(o[8]) : "r"(a), "r"(b), "r"(c), "r"(d));
    asm("mad.hi.cc.u32 %0, %2, %3, %4;\n\taddc.u32 %1, 0, 0;" : "=r"(o[9]), "=r"(o[10]) : "r"(a), "r"(b), "r"(c));
    asm("mad.lo.cc.u32 %0, %3, %4, %5;\n\tmadc.hi.cc.u32 %1, %3, %4, %6;\n\taddc.u32 %2, 0, 0;"
        : "=r"(o[11]), "=r"(o[12]), "=r"(o[13]) : "r"(a), "r"(b), "r"(c), "r"(d));
}

__global__ void wide(const unsigned long long *in, unsigned long long *out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    unsigned long long a = in[2 * i], b = in[2 * i + 1], *o = out + i * 4;
    asm("sub.cc.s64 %0, %2, %3;\n\tsubc.s64 %1, 0, 0;" : "=l"(o[0]), "=l"(o[1]) : "l"(a), "l"(b));
    asm("add.cc.s64 %0, %2, %3;\n\taddc.s64 %1, 0, 0;" : "=l"(o[2]), "=l"(o[3]) : "l"(a), "l"(b));
}

int main() {
    typedef unsigned long long u64;
    const int count = 4000;
    Random random;
    std::vector<unsigned> in(4 * count);
    for (unsigned &value : in) value = random.word() % 5 == 0 ? (random.word() % 2 ? 0 : ~0u) : random.word();
    Device<unsigned> device_in(in), out(count * RESULTS);
    chains<<<(count + 63) / 64, 64>>>(device_in, out, count);
    FINISH();
    std::vector<unsigned> got = out.download();
    for (int i = 0; i < count; i++) {
        u64 a = in[4 * i], b = in[4 * i + 1], c = in[4 * i + 2], d = in[4 * i + 3], product = a * b;
        u64 low = a + b, high = c + d + (low >> 32), borrowed = c - d - (a < b);
        u64 first = (product & 0xFFFFFFFF) + c, second = (product >> 32) + d + (first >> 32), high_sum = (product >> 32) + c;
        unsigned want[RESULTS] = {(unsigned)low, (unsigned)high, (unsigned)(high >> 32), 0,
                                  (unsigned)(a - b), (unsigned)borrowed, (borrowed >> 63) ? ~0u : 0u,
                                  (unsigned)first, (unsigned)second, (unsigned)high_sum, (unsigned)(high_sum >> 32),
                                  (unsigned)first, (unsigned)second, (unsigned)(second >> 32)};
        for (int k = 0; k < RESULTS; k++)
            if (k != 3) // after addc without .cc the carry is as it was
                REQUIRE(got[i * RESULTS + k] == want[k], "result %d of %#llx %#llx %#llx %#llx is %#x, expected %#x", k, a, b, c, d,
                        got[i * RESULTS + k], want[k]);
    }
    std::vector<u64> pairs(2 * count), want_wide;
    for (u64 &value : pairs) value = random.word() % 5 == 0 ? (random.word() % 2 ? 0 : ~0ull) : random.bits();
    for (int i = 0; i < count; i++) {
        u64 a = pairs[2 * i], b = pairs[2 * i + 1];
        want_wide.insert(want_wide.end(), {a - b, a < b ? ~0ull : 0, a + b, a + b < a ? 1ull : 0});
    }
    Device<u64> device_pairs(pairs), wide_out(4 * count);
    wide<<<(count + 63) / 64, 64>>>(device_pairs, wide_out, count);
    FINISH();
    require_same(wide_out.download(), want_wide, "64 bits");
    return passed("carries");
}
