// Several host threads with streams of their own, the legacy stream and the per-thread one, all at once.
// builds: static-ptx shared-ptx
// paths: tcp unix direct native
#include "check.h"

#include <thread>

__global__ void step(unsigned *values, int count, unsigned term) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) values[i] = values[i] * 3u + term;
}

void work(int number, bool per_thread) {
    CUDA(cudaSetDevice(0));
    const int count = 5000;
    cudaStream_t stream = cudaStreamPerThread;
    if (!per_thread) CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    unsigned *values, want = 0;
    CUDA(cudaMalloc(&values, count * sizeof(unsigned)));
    CUDA(cudaMemsetAsync(values, 0, count * sizeof(unsigned), stream));
    std::vector<unsigned> host(count);
    for (unsigned round = 0; round < 60; round++) {
        step<<<(count + 127) / 128, 128, 0, stream>>>(values, count, round + number);
        want = want * 3u + round + number;
        if (round % 10 == 9) {
            CUDA(cudaMemcpyAsync(host.data(), values, count * sizeof(unsigned), cudaMemcpyDeviceToHost, stream));
            CUDA(cudaStreamSynchronize(stream));
            for (unsigned value : host) REQUIRE(value == want, "thread %d round %u: %u, expected %u", number, round, value, want);
        }
    }
    CUDA(cudaFree(values));
    if (!per_thread) CUDA(cudaStreamDestroy(stream));
}

int main() {
    std::vector<std::thread> threads;
    for (int number = 0; number < 6; number++) threads.emplace_back(work, number, number % 2 == 1);
    for (std::thread &thread : threads) thread.join();
    CUDA(cudaDeviceSynchronize());
    return passed("threads");
}
