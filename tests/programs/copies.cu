// Two- and three-dimensional memory: pitches, sub-rectangles, fills, copies in every direction.
// builds: static-ptx shared-ptx cuda12-ptx
// paths: tcp unix direct native
#include "check.h"

__global__ void add_pitched(int *data, size_t pitch, int width, int height, int term) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x < width && y < height) ((int *)((char *)data + y * pitch))[x] += term;
}

__global__ void add_volume(cudaPitchedPtr volume, cudaExtent extent, int term) {
    size_t x = threadIdx.x, y = blockIdx.x, z = blockIdx.y;
    char *slice = (char *)volume.ptr + z * volume.pitch * extent.height;
    ((int *)(slice + y * volume.pitch))[x] += term;
}

int main() {
    const int width = 100, height = 37;
    size_t pitch;
    int *device;
    CUDA(cudaMallocPitch(&device, &pitch, width * sizeof(int), height));
    REQUIRE(pitch >= width * sizeof(int) && pitch % 32 == 0, "pitch %zu", pitch);
    std::vector<int> host(width * height), back(width * height, -1);
    for (int i = 0; i < width * height; i++) host[i] = i;
    CUDA(cudaMemcpy2D(device, pitch, host.data(), width * sizeof(int), width * sizeof(int), height, cudaMemcpyHostToDevice));
    add_pitched<<<dim3(7, 5), dim3(16, 8)>>>(device, pitch, width, height, 1000);
    FINISH();
    CUDA(cudaMemcpy2D(back.data(), width * sizeof(int), device, pitch, width * sizeof(int), height, cudaMemcpyDeviceToHost));
    for (int &value : host) value += 1000;
    require_same(back, host, "2D there and back");

    // A rectangle inside, on the device and back, with different pitches.
    int *packed;
    CUDA(cudaMalloc(&packed, 20 * 10 * sizeof(int)));
    CUDA(cudaMemcpy2D(packed, 20 * sizeof(int), (char *)device + 5 * pitch + 30 * sizeof(int), pitch, 20 * sizeof(int), 10, cudaMemcpyDeviceToDevice));
    std::vector<int> rectangle(200), want_rectangle(200);
    CUDA(cudaMemcpy(rectangle.data(), packed, 800, cudaMemcpyDeviceToHost));
    for (int y = 0; y < 10; y++)
        for (int x = 0; x < 20; x++) want_rectangle[y * 20 + x] = host[(y + 5) * width + x + 30];
    require_same(rectangle, want_rectangle, "rectangle");
    CUDA(cudaMemset2D((char *)device + 2 * pitch + 8 * sizeof(int), pitch, 0x11, 12 * sizeof(int), 7));
    CUDA(cudaMemcpy2DAsync(back.data(), width * sizeof(int), device, pitch, width * sizeof(int), height, cudaMemcpyDefault, 0));
    CUDA(cudaDeviceSynchronize());
    for (int y = 2; y < 9; y++)
        for (int x = 8; x < 20; x++) host[y * width + x] = 0x11111111;
    require_same(back, host, "2D fill");
    CUDA_FAILS(cudaMemcpy2D(device, 8, host.data(), width * 4, width * 4, height, cudaMemcpyHostToDevice), cudaErrorInvalidPitchValue);
    cudaGetLastError();

    const cudaExtent extent = make_cudaExtent(24 * sizeof(int), 9, 5);
    cudaPitchedPtr volume;
    CUDA(cudaMalloc3D(&volume, extent));
    CUDA(cudaMemset3D(volume, 0, extent));
    std::vector<int> cube(24 * 9 * 5), cube_back(24 * 9 * 5, -1);
    for (size_t i = 0; i < cube.size(); i++) cube[i] = (int)(i * i);
    cudaMemcpy3DParms copy = {};
    copy.srcPtr = make_cudaPitchedPtr(cube.data(), 24 * sizeof(int), 24, 9);
    copy.dstPtr = volume;
    copy.extent = extent;
    copy.kind = cudaMemcpyHostToDevice;
    CUDA(cudaMemcpy3D(&copy));
    add_volume<<<dim3(9, 5), 24>>>(volume, extent, 7);
    FINISH();
    cudaMemcpy3DParms fetch = {};
    fetch.srcPtr = volume;
    fetch.dstPtr = make_cudaPitchedPtr(cube_back.data(), 24 * sizeof(int), 24, 9);
    fetch.extent = extent;
    fetch.kind = cudaMemcpyDeviceToHost;
    CUDA(cudaMemcpy3D(&fetch));
    for (int &value : cube) value += 7;
    require_same(cube_back, cube, "3D there and back");

    // Part of the volume, with positions.
    std::vector<int> part(10 * 4 * 2, -1), want_part;
    cudaMemcpy3DParms inner = {};
    inner.srcPtr = volume;
    inner.srcPos = make_cudaPos(6 * sizeof(int), 3, 2);
    inner.dstPtr = make_cudaPitchedPtr(part.data(), 10 * sizeof(int), 10, 4);
    inner.extent = make_cudaExtent(10 * sizeof(int), 4, 2);
    inner.kind = cudaMemcpyDeviceToHost;
    CUDA(cudaMemcpy3D(&inner));
    for (int z = 2; z < 4; z++)
        for (int y = 3; y < 7; y++)
            for (int x = 6; x < 16; x++) want_part.push_back(cube[(z * 9 + y) * 24 + x]);
    require_same(part, want_part, "3D part");

    for (void *pointer : {(void *)device, (void *)packed, volume.ptr}) CUDA(cudaFree(pointer));

    // Copies of every alignment and of a size that needs several frames.
    const size_t bytes = 9000001;
    std::vector<unsigned char> big(bytes), got(bytes);
    Random random;
    for (unsigned char &byte : big) byte = (unsigned char)random.word();
    Device<unsigned char> raw(bytes + 64);
    for (size_t offset : {0, 1, 3, 17}) {
        CUDA(cudaMemcpy(raw + offset, big.data(), bytes, cudaMemcpyHostToDevice));
        CUDA(cudaMemcpy(got.data(), raw + offset, bytes, cudaMemcpyDeviceToHost));
        require_same(got, big, "large copy");
    }
    return passed("copies");
}
