// Streams and events: order within a stream, across streams by events, against the default stream; times that make
// sense; host functions in their place.
// builds: static-ptx static-sass shared-ptx cuda12-ptx
// paths: tcp unix direct native
#include "check.h"

__global__ void scale_and_add(int *values, int count, int factor, int term) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
        values[i] = values[i] * factor + term;
}

__global__ void busy(float *out, int rounds) {
    float value = threadIdx.x;
    for (int i = 0; i < rounds; i++) value = value * 0.999f + 1.0f;
    out[blockIdx.x * blockDim.x + threadIdx.x] = value;
}

struct Note {
    std::vector<int> *seen;
    int number;
};

int main() {
    const int count = 4096;
    cudaStream_t first, second, quiet;
    CUDA(cudaStreamCreate(&first));
    CUDA(cudaStreamCreateWithPriority(&second, cudaStreamDefault, 0));
    CUDA(cudaStreamCreateWithFlags(&quiet, cudaStreamNonBlocking));
    unsigned flags = 99;
    CUDA(cudaStreamGetFlags(quiet, &flags));
    REQUIRE(flags == cudaStreamNonBlocking, "flags are %u", flags);

    // ((((0 * 3 + 1) * 5 + 2) ...: any other order gives another number.
    Device<int> values(count);
    cudaEvent_t a_done, b_done;
    CUDA(cudaEventCreateWithFlags(&a_done, cudaEventDisableTiming));
    CUDA(cudaEventCreateWithFlags(&b_done, cudaEventDisableTiming));
    int want = 0;
    CUDA(cudaMemsetAsync(values, 0, count * sizeof(int), first));
    for (int round = 0; round < 20; round++) {
        scale_and_add<<<4, 128, 0, first>>>(values, count, 3, round);
        CUDA(cudaEventRecord(a_done, first));
        CUDA(cudaStreamWaitEvent(second, a_done, 0));
        scale_and_add<<<4, 128, 0, second>>>(values, count, 5, 2);
        CUDA(cudaEventRecord(b_done, second));
        CUDA(cudaStreamWaitEvent(first, b_done, 0));
        want = (want * 3 + round) * 5 + 2;
    }
    // The default stream waits for blocking streams, and they for it.
    scale_and_add<<<4, 128>>>(values, count, 7, 1);
    want = want * 7 + 1;
    scale_and_add<<<4, 128, 0, first>>>(values, count, 11, 3);
    want = want * 11 + 3;
    CUDA(cudaStreamSynchronize(first));
    require_same(values.download(), std::vector<int>(count, want), "order");

    // Times: positive, and longer work takes longer.
    Device<float> out(64 * 128);
    cudaEvent_t start, middle, end;
    CUDA(cudaEventCreate(&start));
    CUDA(cudaEventCreate(&middle));
    CUDA(cudaEventCreate(&end));
    busy<<<64, 128, 0, quiet>>>(out, 10);
    CUDA(cudaEventRecord(start, quiet));
    busy<<<64, 128, 0, quiet>>>(out, 100);
    CUDA(cudaEventRecord(middle, quiet));
    for (int i = 0; i < 10; i++) busy<<<64, 128, 0, quiet>>>(out, 20000);
    CUDA(cudaEventRecord(end, quiet));
    CUDA(cudaEventSynchronize(end));
    CUDA(cudaEventQuery(end));
    CUDA(cudaStreamQuery(quiet));
    float brief = -1, lengthy = -1, whole = -1;
    CUDA(cudaEventElapsedTime(&brief, start, middle));
    CUDA(cudaEventElapsedTime(&lengthy, middle, end));
    CUDA(cudaEventElapsedTime(&whole, start, end));
    REQUIRE(brief >= 0 && lengthy > 0, "%f ms and %f ms", brief, lengthy);
    REQUIRE(lengthy > brief, "%f ms is not longer than %f ms", lengthy, brief);
    REQUIRE(std::fabs(whole - brief - lengthy) < 0.1f + 0.01f * whole, "%f + %f is not %f", brief, lengthy, whole);
    CUDA_FAILS(cudaEventElapsedTime(&whole, a_done, end), cudaErrorInvalidResourceHandle);

    // Host functions run in stream order.
    std::vector<int> seen;
    Note notes[8];
    for (int i = 0; i < 8; i++) {
        notes[i] = {&seen, i};
        busy<<<2, 32, 0, first>>>(out, 100);
        CUDA(cudaLaunchHostFunc(
            first, [](void *data) { ((Note *)data)->seen->push_back(((Note *)data)->number); }, &notes[i]));
    }
    CUDA(cudaStreamSynchronize(first));
    require_same(seen, {0, 1, 2, 3, 4, 5, 6, 7}, "host functions");

    for (cudaEvent_t event : {a_done, b_done, start, middle, end}) CUDA(cudaEventDestroy(event));
    for (cudaStream_t stream : {first, second, quiet}) CUDA(cudaStreamDestroy(stream));
    return passed("streams");
}
