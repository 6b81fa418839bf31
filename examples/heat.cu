// Heat spreads over a plate: a plain CUDA program that knows nothing of Tensor Fusion.
// builds: static-ptx
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#define CUDA(call)                                                                         \
    do {                                                                                   \
        cudaError_t status = (call);                                                       \
        if (status != cudaSuccess) {                                                       \
            std::fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(status));           \
            std::exit(1);                                                                  \
        }                                                                                  \
    } while (0)

__global__ void spread(const float *from, float *to, int size) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x <= 0 || y <= 0 || x >= size - 1 || y >= size - 1) return;
    int i = y * size + x;
    to[i] = from[i] + 0.2f * (from[i - 1] + from[i + 1] + from[i - size] + from[i + size] - 4 * from[i]);
}

int main(int argc, char **argv) {
    int size = 512, steps = argc > 1 ? std::atoi(argv[1]) : 2000;
    size_t bytes = (size_t)size * size * sizeof(float), reserve = (size_t)256 << 20;
    cudaDeviceProp device;
    CUDA(cudaGetDeviceProperties(&device, 0));
    std::printf("on %s with %.2f GiB\n", device.name, (double)device.totalGlobalMem / (1 << 30));
    std::vector<float> plate(size * size, 0.0f);
    for (int y = 200; y < 300; y++)
        for (int x = 200; x < 300; x++) plate[y * size + x] = 100.0f;
    float *from, *to, *scratch;
    CUDA(cudaMalloc(&from, bytes));
    CUDA(cudaMalloc(&to, bytes));
    CUDA(cudaMalloc(&scratch, reserve)); // so that there is something to see in `tensor-fusion ps`
    CUDA(cudaMemcpy(from, plate.data(), bytes, cudaMemcpyHostToDevice));
    CUDA(cudaMemcpy(to, plate.data(), bytes, cudaMemcpyHostToDevice));
    for (int step = 0; step < steps; step++) {
        spread<<<dim3(size / 16, size / 16), dim3(16, 16)>>>(from, to, size);
        float *other = from;
        from = to;
        to = other;
        if (step == steps / 10) {
            CUDA(cudaDeviceSynchronize());
            std::printf("working\n");
            std::fflush(stdout);
        }
    }
    CUDA(cudaGetLastError());
    CUDA(cudaMemcpy(plate.data(), from, bytes, cudaMemcpyDeviceToHost));
    double heat = 0;
    for (float cell : plate) heat += cell;
    // Nothing has reached the edge, so no heat is lost.
    std::printf("after %d steps the plate holds %.0f of 1000000 units of heat, %.2f in the middle\n", steps, heat, plate[250 * size + 250]);
    return std::fabs(heat - 1e6) < 1e3 ? 0 : 1;
}
