// Shapes of grids and blocks: one to three dimensions, ragged, large, grid-stride loops, the special registers.
// builds: static-ptx static-sass shared-ptx
// paths: tcp direct
#include "check.h"

__global__ void coordinates(unsigned *out, int width, int height, int depth) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y,
        z = blockIdx.z * blockDim.z + threadIdx.z;
    if (x < width && y < height && z < depth)
        out[(z * height + y) * width + x] = (unsigned)(x * 1000003 + y * 10007 + z * 101 + gridDim.x * 7 +
                                                       gridDim.y * 5 + gridDim.z * 3 + warpSize);
}

__global__ void lanes(unsigned *out) {
    unsigned lane, thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    asm("mov.u32 %0, %%laneid;" : "=r"(lane));
    out[blockIdx.x * blockDim.x * blockDim.y * blockDim.z + thread] = lane;
}

__global__ void count_blocks(unsigned long long *total, unsigned *last) {
    if (threadIdx.x == 0) {
        unsigned long long block = blockIdx.x + (unsigned long long)gridDim.x * (blockIdx.y + (unsigned long long)gridDim.y * blockIdx.z);
        atomicAdd(total, block + 1);
        atomicMax(last, (unsigned)block);
    }
}

__global__ void stride(int *values, size_t count) {
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count; i += (size_t)gridDim.x * blockDim.x)
        values[i] += (int)(i % 1000);
}

void check_coordinates(dim3 block, int width, int height, int depth) {
    dim3 grid((width + block.x - 1) / block.x, (height + block.y - 1) / block.y, (depth + block.z - 1) / block.z);
    Device<unsigned> out((size_t)width * height * depth);
    out.clear();
    coordinates<<<grid, block>>>(out, width, height, depth);
    FINISH();
    std::vector<unsigned> want;
    for (int z = 0; z < depth; z++)
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++)
                want.push_back((unsigned)(x * 1000003 + y * 10007 + z * 101 + grid.x * 7 + grid.y * 5 + grid.z * 3 + 32));
    require_same(out.download(), want, "coordinates");
}

void check_blocks(dim3 grid, int threads) {
    Device<unsigned long long> total(1);
    Device<unsigned> last(1);
    total.clear();
    last.clear();
    count_blocks<<<grid, threads>>>(total, last);
    FINISH();
    unsigned long long blocks = (unsigned long long)grid.x * grid.y * grid.z;
    require_same(total.download(), {blocks * (blocks + 1) / 2}, "sum over blocks");
    require_same(last.download(), {(unsigned)(blocks - 1)}, "last block");
}

int main() {
    check_coordinates(dim3(1), 5, 1, 1);
    check_coordinates(dim3(33), 1000, 1, 1);
    check_coordinates(dim3(16, 16), 100, 50, 1);
    check_coordinates(dim3(7, 5, 3), 20, 21, 22);
    check_coordinates(dim3(1, 1, 64), 3, 4, 100);
    check_coordinates(dim3(1024), 3000, 2, 1);
    check_coordinates(dim3(1, 1024), 3, 2000, 1);
    check_coordinates(dim3(8, 8, 16), 9, 9, 17);

    for (dim3 block : {dim3(1), dim3(31), dim3(64), dim3(100), dim3(8, 4), dim3(5, 5, 5), dim3(1024)}) {
        unsigned threads = block.x * block.y * block.z;
        Device<unsigned> out(threads * 3);
        lanes<<<3, block>>>(out);
        FINISH();
        std::vector<unsigned> want;
        for (unsigned i = 0; i < threads * 3; i++) want.push_back(i % threads % 32);
        require_same(out.download(), want, "lanes");
    }

    check_blocks(dim3(1), 1);
    check_blocks(dim3(200000), 32);
    check_blocks(dim3(3, 65535), 1);
    check_blocks(dim3(1, 1, 65535), 2);
    check_blocks(dim3(40, 40, 40), 64);

    const size_t count = 3000001;
    std::vector<int> want(count);
    for (size_t i = 0; i < count; i++) want[i] = 2 * (int)(i % 1000);
    Device<int> values(count);
    values.clear();
    stride<<<17, 224>>>(values, count);
    stride<<<1000, 96>>>(values, count);
    FINISH();
    require_same(values.download(), want, "grid-stride");
    return passed("grids");
}
