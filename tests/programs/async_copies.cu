// Asynchronous copies: pinned, registered and pageable host memory, chunks that overlap with kernels, memory that is
// allocated and freed in stream order.
// builds: static-ptx shared-ptx cuda12-ptx
// paths: tcp unix direct native
#include "check.h"

__global__ void square(int *values, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) values[i] = values[i] * values[i];
}

int main() {
    const int count = 1 << 18, chunks = 8, chunk = count / chunks;
    const size_t bytes = count * sizeof(int), chunk_bytes = chunk * sizeof(int);
    int *pinned, *result;
    CUDA(cudaMallocHost(&pinned, bytes));
    CUDA(cudaHostAlloc(&result, bytes, cudaHostAllocDefault));
    std::vector<int> want(count);
    Random random;
    for (int i = 0; i < count; i++) {
        pinned[i] = random.word() % 40000;
        want[i] = pinned[i] * pinned[i];
    }
    Device<int> values(count);
    cudaStream_t streams[chunks];
    for (cudaStream_t &stream : streams) CUDA(cudaStreamCreate(&stream));
    for (int round = 0; round < 3; round++) {
        std::memset(result, 0xFF, bytes);
        for (int i = 0; i < chunks; i++) {
            int at = i * chunk;
            CUDA(cudaMemcpyAsync(values + at, pinned + at, chunk_bytes, cudaMemcpyHostToDevice, streams[i]));
            square<<<(chunk + 127) / 128, 128, 0, streams[i]>>>(values + at, chunk);
            CUDA(cudaMemcpyAsync(result + at, values + at, chunk_bytes, cudaMemcpyDeviceToHost, streams[i]));
        }
        CUDA(cudaDeviceSynchronize());
        require_same(std::vector<int>(result, result + count), want, "pinned");
    }

    // The result of one copy is the source of the next: order on one stream.
    for (int i = 0; i < 5; i++) {
        CUDA(cudaMemcpyAsync(values, pinned, bytes, cudaMemcpyHostToDevice, streams[0]));
        square<<<count / 128, 128, 0, streams[0]>>>(values, count);
        CUDA(cudaMemcpyAsync(pinned, values, bytes, cudaMemcpyDeviceToHost, streams[0]));
    }
    CUDA(cudaStreamSynchronize(streams[0]));
    for (int i = 0; i < count; i++) {
        unsigned value = (unsigned)want[i]; // after the first round
        for (int round = 1; round < 5; round++) value *= value;
        REQUIRE((unsigned)pinned[i] == value, "element %d is %u, expected %u", i, (unsigned)pinned[i], value);
    }

    // Registered and pageable memory.
    std::vector<int> pageable(count), back(count, -1);
    for (int i = 0; i < count; i++) pageable[i] = i % 1000;
    CUDA(cudaHostRegister(back.data(), bytes, cudaHostRegisterDefault));
    CUDA(cudaMemcpyAsync(values, pageable.data(), bytes, cudaMemcpyHostToDevice, streams[1]));
    std::vector<int> squares(count);
    for (int i = 0; i < count; i++) {
        squares[i] = pageable[i] * pageable[i];
        pageable[i] = -7; // pageable memory may be reused as soon as the call has returned
    }
    square<<<count / 128, 128, 0, streams[1]>>>(values, count);
    CUDA(cudaMemcpyAsync(back.data(), values, bytes, cudaMemcpyDeviceToHost, streams[1]));
    CUDA(cudaStreamSynchronize(streams[1]));
    require_same(back, squares, "registered");
    CUDA(cudaHostUnregister(back.data()));

    // Direction from the pointers, and device to device.
    Device<int> copy(count);
    CUDA(cudaMemcpyAsync(copy, values, bytes, cudaMemcpyDefault, streams[2]));
    CUDA(cudaMemcpyAsync(result, copy, bytes, cudaMemcpyDefault, streams[2]));
    CUDA(cudaStreamSynchronize(streams[2]));
    require_same(std::vector<int>(result, result + count), squares, "default direction");

    // Stream-ordered memory.
    int *pooled;
    CUDA(cudaMallocAsync(&pooled, bytes, streams[3]));
    CUDA(cudaMemcpyAsync(pooled, result, bytes, cudaMemcpyHostToDevice, streams[3]));
    CUDA(cudaMemsetAsync(pooled, 1, 4 * 100, streams[3]));
    CUDA(cudaMemcpyAsync(result, pooled, bytes, cudaMemcpyDeviceToHost, streams[3]));
    CUDA(cudaFreeAsync(pooled, streams[3]));
    CUDA(cudaStreamSynchronize(streams[3]));
    for (int i = 0; i < 100; i++) squares[i] = 0x01010101;
    require_same(std::vector<int>(result, result + count), squares, "pool");

    cudaPointerAttributes attributes;
    CUDA(cudaPointerGetAttributes(&attributes, pinned));
    REQUIRE(attributes.type == cudaMemoryTypeHost, "type of pinned memory is %d", attributes.type);
    CUDA(cudaPointerGetAttributes(&attributes, values.data + 5));
    REQUIRE(attributes.type == cudaMemoryTypeDevice && attributes.device == 0, "type %d", attributes.type);
    CUDA(cudaPointerGetAttributes(&attributes, squares.data()));
    REQUIRE(attributes.type == cudaMemoryTypeUnregistered, "type of pageable memory is %d", attributes.type);

    for (cudaStream_t stream : streams) CUDA(cudaStreamDestroy(stream));
    CUDA(cudaFreeHost(pinned));
    CUDA(cudaFreeHost(result));
    return passed("async_copies");
}
