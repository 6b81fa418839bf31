// Machine code for one GPU and no PTX: the software GPU refuses it with the code that CUDA has for that.
// builds: static-sassonly
// paths: tcp
#include "check.h"

__global__ void kernel(int *out) { *out = 1; }

int main() {
    Device<int> out(1);
    kernel<<<1, 1>>>(out);
    CUDA_FAILS(cudaGetLastError(), cudaErrorNoKernelImageForDevice);
    return passed("sass_only");
}
