// Adds two vectors of a length that is no multiple of the block size.
// builds: static-ptx static-sass shared-ptx shared-sass cuda12-ptx cuda12-sass
// paths: tcp unix direct native
#include "check.h"

__global__ void vector_add(const float *left, const float *right, float *sum, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) sum[i] = left[i] + right[i];
}

int main() {
    const int count = 100003;
    Random random;
    std::vector<float> left(count), right(count), want(count);
    for (int i = 0; i < count; i++) {
        left[i] = (float)random.between(-1e3, 1e3);
        right[i] = (float)random.between(-1e-3, 1e3);
        want[i] = left[i] + right[i];
    }
    Device<float> device_left(left), device_right(right), device_sum(count);
    vector_add<<<(count + 255) / 256, 256>>>(device_left, device_right, device_sum, count);
    FINISH();
    require_same(device_sum.download(), want, "sum");
    return passed("vector_add");
}
