// Prints from kernels; the harness compares the lines with printf.expected.
// builds: static-ptx shared-ptx
// paths: tcp unix direct native
#include "check.h"

__global__ void formats(int number, const char *) {
    printf("int %d, padded [%5d] [%-5d] [%05d], unsigned %u, hex %x %X %#x, octal %o\n", number, number, number, number,
           4000000000u, 48879, 48879, 255, 8);
    printf("long %ld %lld %llu %llx\n", -5000000000L, -9000000000000000000LL, 18000000000000000000ULL, 0xABCDEF0123456789ULL);
    printf("float %f %.3f %8.2f %e %g %G\n", 3.5f, 2.0 / 3.0, -1.25, 12345.678, 0.0001, 1e20);
    printf("char %c%c%c, string %s, [%8s] [%-8s] [%.2s], percent %%\n", 'a', 'b', 'c', "device", "right", "left", "cut");
    printf("no arguments\n");
    printf("special %f %f %f\n", INFINITY, -INFINITY, 0.0);
}

__global__ void everybody() {
    if (threadIdx.x % 2 == 0) printf("block %d thread %d\n", blockIdx.x, threadIdx.x);
}

__global__ void returns(int *length) { *length = printf("%d and %d\n", 1, 2); }

int main() {
    formats<<<1, 1>>>(-42, nullptr);
    FINISH();
    everybody<<<3, 4>>>();
    FINISH();
    Device<int> length(1);
    returns<<<1, 1>>>(length);
    FINISH();
    REQUIRE(length.download()[0] == 2, "printf returned %d: CUDA's returns the number of arguments", length.download()[0]);
    return passed("printf");
}
