// Multiplies matrices: naive, and by tiles in shared memory, whose edges are ragged. The host does the same fused
// multiply-adds in the same order, so results are equal to the bit.
// builds: static-ptx static-sass shared-ptx cuda12-ptx
// paths: tcp unix direct native
#include "check.h"

const int TILE = 16;

__global__ void naive(const float *a, const float *b, float *c, int rows, int inner, int columns) {
    int row = blockIdx.y * blockDim.y + threadIdx.y, column = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows || column >= columns) return;
    float sum = 0;
    for (int k = 0; k < inner; k++) sum = fmaf(a[row * inner + k], b[k * columns + column], sum);
    c[row * columns + column] = sum;
}

template <typename T> __device__ T multiply_add(T a, T b, T c) { return a * b + c; }
template <> __device__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
template <> __device__ double multiply_add(double a, double b, double c) { return fma(a, b, c); }

template <typename T> __global__ void tiled(const T *a, const T *b, T *c, int rows, int inner, int columns) {
    __shared__ T tile_a[TILE][TILE], tile_b[TILE][TILE];
    int row = blockIdx.y * TILE + threadIdx.y, column = blockIdx.x * TILE + threadIdx.x;
    T sum = 0;
    for (int start = 0; start < inner; start += TILE) {
        int k = start + threadIdx.x, l = start + threadIdx.y;
        tile_a[threadIdx.y][threadIdx.x] = row < rows && k < inner ? a[row * inner + k] : T(0);
        tile_b[threadIdx.y][threadIdx.x] = l < inner && column < columns ? b[l * columns + column] : T(0);
        __syncthreads();
        for (int i = 0; i < TILE; i++) sum = multiply_add(tile_a[threadIdx.y][i], tile_b[i][threadIdx.x], sum);
        __syncthreads();
    }
    if (row < rows && column < columns) c[row * columns + column] = sum;
}

template <typename T> T host_multiply_add(T a, T b, T c) { return a * b + c; }
template <> float host_multiply_add(float a, float b, float c) { return std::fma(a, b, c); }
template <> double host_multiply_add(double a, double b, double c) { return std::fma(a, b, c); }

template <typename T> void check(const char *what, bool also_naive) {
    const int rows = 83, inner = 77, columns = 101;
    Random random;
    std::vector<T> a(rows * inner), b(inner * columns), want(rows * columns);
    for (T &value : a) value = (T)random.between(-100, 100);
    for (T &value : b) value = (T)random.between(-100, 100);
    for (int row = 0; row < rows; row++)
        for (int column = 0; column < columns; column++) {
            T sum = 0;
            for (int k = 0; k < inner; k++)
                sum = host_multiply_add(a[row * inner + k], b[k * columns + column], sum);
            want[row * columns + column] = sum;
        }
    Device<T> device_a(a), device_b(b), device_c(rows * columns);
    dim3 block(TILE, TILE), grid((columns + TILE - 1) / TILE, (rows + TILE - 1) / TILE);
    tiled<T><<<grid, block>>>(device_a, device_b, device_c, rows, inner, columns);
    FINISH();
    require_same(device_c.download(), want, what);
    if (also_naive) {
        device_c.clear();
        naive<<<grid, block>>>((float *)device_a.data, (float *)device_b.data, (float *)device_c.data, rows, inner,
                               columns);
        FINISH();
        require_same(device_c.download(), want, "naive float");
    }
}

int main() {
    check<float>("tiled float", true);
    check<double>("tiled double", false);
    check<int>("tiled int", false);
    return passed("matmul");
}
