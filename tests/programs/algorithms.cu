// Programs as people write them: scan, transpose, bitonic sort, n-body, stencil, Mandelbrot, Monte Carlo, sparse matrix,
// convolution, shortest paths.
// builds: static-ptx static-sass
// paths: tcp direct
#include "check.h"

#include <algorithm>
#include <numeric>

__global__ void scan_blocks(const int *in, int *out, int *sums, int count) {
    __shared__ int shared[512];
    int thread = threadIdx.x, base = blockIdx.x * 512;
    shared[2 * thread] = base + 2 * thread < count ? in[base + 2 * thread] : 0;
    shared[2 * thread + 1] = base + 2 * thread + 1 < count ? in[base + 2 * thread + 1] : 0;
    int offset = 1;
    for (int d = 256; d > 0; d >>= 1, offset *= 2) {
        __syncthreads();
        if (thread < d) shared[offset * (2 * thread + 2) - 1] += shared[offset * (2 * thread + 1) - 1];
    }
    __syncthreads();
    if (thread == 0) sums[blockIdx.x] = shared[511], shared[511] = 0;
    for (int d = 1; d < 512; d *= 2) {
        offset >>= 1;
        __syncthreads();
        if (thread < d) {
            int a = offset * (2 * thread + 1) - 1, b = offset * (2 * thread + 2) - 1, t = shared[a];
            shared[a] = shared[b];
            shared[b] += t;
        }
    }
    __syncthreads();
    if (base + 2 * thread < count) out[base + 2 * thread] = shared[2 * thread];
    if (base + 2 * thread + 1 < count) out[base + 2 * thread + 1] = shared[2 * thread + 1];
}
__global__ void add_sums(int *out, const int *sums, int count) {
    int i = blockIdx.x * 512 + threadIdx.x;
    for (int k = 0; k < 2; k++, i += 256)
        if (i < count) out[i] += sums[blockIdx.x];
}

void scan() {
    const int count = 100000, blocks = (count + 511) / 512;
    Random random;
    std::vector<int> in(count), want(count);
    for (int &value : in) value = random.word() % 100;
    std::exclusive_scan(in.begin(), in.end(), want.begin(), 0);
    Device<int> device_in(in), out(count), sums(blocks), top(blocks), rest(1);
    scan_blocks<<<blocks, 256>>>(device_in, out, sums, count);
    scan_blocks<<<1, 256>>>(sums, top, rest, blocks);
    add_sums<<<blocks, 256>>>(out, top, count);
    FINISH();
    require_same(out.download(), want, "scan");
}

__global__ void transpose_tiles(const float *in, float *out, int width, int height) {
    __shared__ float tile[32][33];
    int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
    for (int j = 0; j < 32; j += 8)
        if (x < width && y + j < height) tile[threadIdx.y + j][threadIdx.x] = in[(y + j) * width + x];
    __syncthreads();
    x = blockIdx.y * 32 + threadIdx.x, y = blockIdx.x * 32 + threadIdx.y;
    for (int j = 0; j < 32; j += 8)
        if (x < height && y + j < width) out[(y + j) * height + x] = tile[threadIdx.x][threadIdx.y + j];
}

void transpose() {
    const int width = 301, height = 207;
    std::vector<float> in(width * height), want(width * height);
    for (int i = 0; i < width * height; i++) in[i] = (float)i;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) want[x * height + y] = in[y * width + x];
    Device<float> device_in(in), out(width * height);
    transpose_tiles<<<dim3((width + 31) / 32, (height + 31) / 32), dim3(32, 8)>>>(device_in, out, width, height);
    FINISH();
    require_same(out.download(), want, "transpose");
}

__global__ void bitonic_step(unsigned *values, int j, int k) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x, other = i ^ j;
    if (other > i && ((i & k) == 0) == (values[i] > values[other])) {
        unsigned t = values[i];
        values[i] = values[other];
        values[other] = t;
    }
}

void bitonic() {
    const int count = 1 << 13;
    Random random;
    std::vector<unsigned> values(count);
    for (unsigned &value : values) value = random.word();
    Device<unsigned> device(values);
    for (int k = 2; k <= count; k *= 2)
        for (int j = k / 2; j > 0; j /= 2) bitonic_step<<<count / 256, 256>>>(device, j, k);
    FINISH();
    std::sort(values.begin(), values.end());
    require_same(device.download(), values, "bitonic sort");
}

__global__ void accelerate(const float4 *bodies, float3 *accelerations, int count) {
    __shared__ float4 tile[128];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float4 own = i < count ? bodies[i] : make_float4(0, 0, 0, 0);
    float3 sum = make_float3(0, 0, 0);
    for (int start = 0; start < count; start += 128) {
        tile[threadIdx.x] = start + threadIdx.x < count ? bodies[start + threadIdx.x] : make_float4(0, 0, 0, 0);
        __syncthreads();
        for (int k = 0; k < 128; k++) {
            float dx = tile[k].x - own.x, dy = tile[k].y - own.y, dz = tile[k].z - own.z;
            float inverse = rsqrtf(dx * dx + dy * dy + dz * dz + 0.01f), weight = tile[k].w * inverse * inverse * inverse;
            sum.x += dx * weight, sum.y += dy * weight, sum.z += dz * weight;
        }
        __syncthreads();
    }
    if (i < count) accelerations[i] = sum;
}

void n_body() {
    const int count = 500;
    Random random;
    std::vector<float4> bodies(count);
    for (float4 &b : bodies) b = make_float4((float)random.between(-1, 1), (float)random.between(-1, 1), (float)random.between(-1, 1), (float)random.between(0, 1));
    Device<float4> device(bodies);
    Device<float3> accelerations(count);
    accelerate<<<(count + 127) / 128, 128>>>(device, accelerations, count);
    FINISH();
    std::vector<float3> got = accelerations.download();
    for (int i = 0; i < count; i++) {
        double x = 0, y = 0, z = 0;
        for (const float4 &b : bodies) {
            double dx = b.x - bodies[i].x, dy = b.y - bodies[i].y, dz = b.z - bodies[i].z;
            double weight = b.w / std::pow(dx * dx + dy * dy + dz * dz + 0.01f, 1.5);
            x += dx * weight, y += dy * weight, z += dz * weight;
        }
        double error = std::fabs(got[i].x - x) + std::fabs(got[i].y - y) + std::fabs(got[i].z - z);
        REQUIRE(error < 1e-2 + 1e-4 * (std::fabs(x) + std::fabs(y) + std::fabs(z)), "body %d: %g %g %g, expected %g %g %g", i, got[i].x, got[i].y, got[i].z, x, y, z);
    }
}

__global__ void diffuse(const float *in, float *out, int width, int height) {
    __shared__ float tile[18][18];
    int x = blockIdx.x * 16 + threadIdx.x, y = blockIdx.y * 16 + threadIdx.y;
    for (int ty = threadIdx.y; ty < 18; ty += 16)
        for (int tx = threadIdx.x; tx < 18; tx += 16) {
            int sx = min(max((int)blockIdx.x * 16 + tx - 1, 0), width - 1), sy = min(max((int)blockIdx.y * 16 + ty - 1, 0), height - 1);
            tile[ty][tx] = in[sy * width + sx];
        }
    __syncthreads();
    if (x >= width || y >= height) return;
    int tx = threadIdx.x + 1, ty = threadIdx.y + 1;
    out[y * width + x] = tile[ty][tx] * 0.5f + (tile[ty - 1][tx] + tile[ty + 1][tx] + tile[ty][tx - 1] + tile[ty][tx + 1]) * 0.125f;
}

void stencil() {
    const int width = 100, height = 77;
    std::vector<float> host(width * height);
    for (int i = 0; i < width * height; i++) host[i] = (float)((i * 37) % 256); // sums stay exact in a float for a while
    Device<float> a(host), b(width * height);
    for (int step = 0; step < 4; step++) {
        diffuse<<<dim3((width + 15) / 16, (height + 15) / 16), dim3(16, 16)>>>(step % 2 ? b : a, step % 2 ? a : b, width, height);
        std::vector<float> next(width * height);
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++) {
                auto at = [&](int sx, int sy) { return host[std::min(std::max(sy, 0), height - 1) * width + std::min(std::max(sx, 0), width - 1)]; };
                next[y * width + x] = at(x, y) * 0.5f + (at(x, y - 1) + at(x, y + 1) + at(x - 1, y) + at(x + 1, y)) * 0.125f;
            }
        host = next;
    }
    FINISH();
    require_same(a.download(), host, "stencil");
}

__global__ void mandelbrot(unsigned short *out, int width, int height) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    double cr = -2.0 + 3.0 * x / width, ci = -1.5 + 3.0 * y / height, zr = 0, zi = 0;
    int n = 0;
    while (n < 300 && __dadd_rn(__dmul_rn(zr, zr), __dmul_rn(zi, zi)) < 4.0) {
        double next = __dadd_rn(__dadd_rn(__dmul_rn(zr, zr), -__dmul_rn(zi, zi)), cr);
        zi = __dadd_rn(__dmul_rn(__dmul_rn(2.0, zr), zi), ci);
        zr = next;
        n++;
    }
    out[y * width + x] = (unsigned short)n;
}

void fractal() {
    const int width = 120, height = 90;
    Device<unsigned short> out(width * height);
    mandelbrot<<<dim3((width + 7) / 8, (height + 7) / 8), dim3(8, 8)>>>(out, width, height);
    FINISH();
    std::vector<unsigned short> want(width * height);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            volatile double cr = -2.0 + 3.0 * x / width, ci = -1.5 + 3.0 * y / height;
            double zr = 0, zi = 0;
            int n = 0;
            while (n < 300) {
                volatile double rr = zr * zr, ii = zi * zi, sum = rr + ii;
                if (sum >= 4.0) break;
                volatile double difference = rr - ii, twice = 2.0 * zr, product = twice * zi;
                zi = product + ci;
                zr = difference + cr;
                n++;
            }
            want[y * width + x] = (unsigned short)n;
        }
    require_same(out.download(), want, "Mandelbrot");
}

__host__ __device__ inline unsigned next_random(unsigned long long &state) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    unsigned mixed = (unsigned)(((state >> 18) ^ state) >> 27), turn = (unsigned)(state >> 59);
    return mixed >> turn | mixed << (-turn & 31);
}
__global__ void monte_carlo(unsigned long long *hits, int rounds) {
    unsigned long long state = blockIdx.x * blockDim.x + threadIdx.x + 1, inside = 0;
    for (int i = 0; i < rounds; i++) {
        unsigned long long x = next_random(state) >> 1, y = next_random(state) >> 1;
        inside += x * x + y * y < 1ull << 62;
    }
    atomicAdd(hits, inside);
}

void pi() {
    Device<unsigned long long> hits(1);
    hits.clear();
    monte_carlo<<<8, 64>>>(hits, 500);
    FINISH();
    unsigned long long want = 0;
    for (unsigned thread = 0; thread < 512; thread++) {
        unsigned long long state = thread + 1;
        for (int i = 0; i < 500; i++) {
            unsigned long long x = next_random(state) >> 1, y = next_random(state) >> 1;
            want += x * x + y * y < 1ull << 62;
        }
    }
    require_same(hits.download(), {want}, "Monte Carlo");
}

__global__ void sparse(const int *starts, const int *columns, const int *values, const int *x, int *y, int rows) {
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32, sum = 0;
    if (row >= rows) return;
    for (int k = starts[row] + lane; k < starts[row + 1]; k += 32) sum += values[k] * x[columns[k]];
    for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xFFFFFFFFu, sum, step);
    if (lane == 0) y[row] = sum;
}

void sparse_matrix() {
    const int rows = 300;
    Random random;
    std::vector<int> starts = {0}, columns, values, x(rows), want(rows, 0);
    for (int &value : x) value = (int)(random.word() % 100) - 50;
    for (int row = 0; row < rows; row++) {
        for (int k = random.word() % 80; k > 0; k--) {
            columns.push_back(random.word() % rows);
            values.push_back((int)(random.word() % 20) - 10);
            want[row] += values.back() * x[columns.back()];
        }
        starts.push_back((int)columns.size());
    }
    Device<int> device_starts(starts), device_columns(columns), device_values(values), device_x(x), y(rows);
    sparse<<<(rows * 32 + 127) / 128, 128>>>(device_starts, device_columns, device_values, device_x, y, rows);
    FINISH();
    require_same(y.download(), want, "sparse matrix");
}

__constant__ int filter[25];
__global__ void convolve(const unsigned char *in, int *out, int width, int height) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y, sum = 0;
    if (x >= width || y >= height) return;
    for (int dy = -2; dy <= 2; dy++)
        for (int dx = -2; dx <= 2; dx++) {
            int sx = x + dx, sy = y + dy;
            if (sx >= 0 && sx < width && sy >= 0 && sy < height) sum += in[sy * width + sx] * filter[(dy + 2) * 5 + dx + 2];
        }
    out[y * width + x] = sum;
}

void convolution() {
    const int width = 90, height = 70;
    Random random;
    std::vector<unsigned char> in(width * height);
    std::vector<int> weights(25), want(width * height);
    for (unsigned char &value : in) value = (unsigned char)random.word();
    for (int &weight : weights) weight = (int)(random.word() % 9) - 4;
    CUDA(cudaMemcpyToSymbol(filter, weights.data(), 25 * sizeof(int)));
    Device<unsigned char> device_in(in);
    Device<int> out(width * height);
    convolve<<<dim3(6, 5), dim3(16, 16)>>>(device_in, out, width, height);
    FINISH();
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int k = 0; k < 25; k++) {
                int sx = x + k % 5 - 2, sy = y + k / 5 - 2;
                if (sx >= 0 && sx < width && sy >= 0 && sy < height) want[y * width + x] += in[sy * width + sx] * weights[k];
            }
    require_same(out.download(), want, "convolution");
}

__global__ void relax(int *distances, int nodes, int through) {
    int i = blockIdx.y * blockDim.y + threadIdx.y, j = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < nodes && j < nodes) {
        int detour = distances[i * nodes + through] + distances[through * nodes + j];
        if (detour < distances[i * nodes + j]) distances[i * nodes + j] = detour;
    }
}

void shortest_paths() {
    const int nodes = 60;
    Random random;
    std::vector<int> distances(nodes * nodes);
    for (int i = 0; i < nodes * nodes; i++) distances[i] = i / nodes == i % nodes ? 0 : random.word() % 5 == 0 ? random.word() % 1000 : 1000000;
    Device<int> device(distances);
    for (int k = 0; k < nodes; k++) relax<<<dim3(4, 4), dim3(16, 16)>>>(device, nodes, k);
    FINISH();
    for (int k = 0; k < nodes; k++)
        for (int i = 0; i < nodes; i++)
            for (int j = 0; j < nodes; j++) distances[i * nodes + j] = std::min(distances[i * nodes + j], distances[i * nodes + k] + distances[k * nodes + j]);
    require_same(device.download(), distances, "shortest paths");
}

int main() {
    scan();
    transpose();
    bitonic();
    n_body();
    stencil();
    fractal();
    pi();
    sparse_matrix();
    convolution();
    shortest_paths();
    return passed("algorithms");
}
