// The second translation unit of multi_kernel.cu.
#include "check.h"

static __device__ int own = 7;
__constant__ int many[64] = {5, 6, 7};

static __global__ void same_name(int *value) { *value = *value * 3 + own; }
static __global__ void from_constants(int *value) { *value += many[0] * many[1] - many[2] + many[63]; }

void run_second_unit(int *value) {
    same_name<<<1, 1>>>(value);
    from_constants<<<1, 1>>>(value);
    CUDA(cudaGetLastError());
}

int expect_second_unit(int value) { return (int)((unsigned)value * 3u + 7u + 23u); }
