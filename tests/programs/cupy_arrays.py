# CuPy: RawKernel and RawModule, elementwise expressions, fusion, reductions, indexing, sort, scans, random numbers.
# builds: python
# paths: tcp pod
import cupy as cp
import numpy as np

SOURCE = r"""
extern "C" __global__ void saxpy(float a, const float *x, const float *y, float *out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = a * x[i] + y[i];
}
__constant__ int factor = 3;
extern "C" __global__ void block_sums(const int *values, int *sums) {
    extern __shared__ int shared[];
    shared[threadIdx.x] = values[blockIdx.x * blockDim.x + threadIdx.x] * factor;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) sums[blockIdx.x] = shared[0];
}
template <typename T> __global__ void cube(T *values) { values[threadIdx.x] = values[threadIdx.x] * values[threadIdx.x] * values[threadIdx.x]; }
"""


def raw_kernels(generator):
    kernel = cp.RawKernel(SOURCE, "saxpy")
    x = generator.standard_normal(5000).astype(np.float32)
    y = generator.standard_normal(5000).astype(np.float32)
    out = cp.empty(5000, dtype=cp.float32)
    kernel((40,), (128,), (np.float32(1.5), cp.asarray(x), cp.asarray(y), out, np.int32(5000)))
    np.testing.assert_allclose(cp.asnumpy(out), np.float32(1.5) * x + y, rtol=1e-6, atol=1e-6)

    module = cp.RawModule(code=SOURCE, name_expressions=["cube<double>", "cube<int>"], options=("-std=c++17",))
    values = generator.integers(0, 100, 1024).astype(np.int32)
    sums = cp.zeros(8, dtype=cp.int32)
    module.get_function("block_sums")((8,), (128,), (cp.asarray(values), sums), shared_mem=512)
    np.testing.assert_array_equal(cp.asnumpy(sums), values.reshape(8, 128).sum(axis=1) * 3)
    for name, kind in (("cube<double>", np.float64), ("cube<int>", np.int32)):
        cubes = cp.arange(64, dtype=kind)
        module.get_function(name)((1,), (64,), (cubes,))
        np.testing.assert_array_equal(cp.asnumpy(cubes), np.arange(64, dtype=kind) ** 3)


@cp.fuse()
def rectified(p, q):
    return cp.maximum(p, 0) * q + 1


def elementwise(generator):
    a, b = generator.standard_normal((64, 100)), generator.standard_normal((64, 100))
    x, y = cp.asarray(a), cp.asarray(b)
    np.testing.assert_allclose(cp.asnumpy(x * y + 2 * x - y / 3), a * b + 2 * a - b / 3, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(cp.asnumpy(cp.exp(x) + cp.sin(y) * cp.sqrt(abs(x))), np.exp(a) + np.sin(b) * np.sqrt(abs(a)), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(cp.asnumpy(cp.where(x > y, x, y)), np.where(a > b, a, b))
    np.testing.assert_array_equal(cp.asnumpy(x.T[3:50:7, ::-2]), a.T[3:50:7, ::-2])
    np.testing.assert_array_equal(cp.asnumpy((x > 0) & (y < 1)), (a > 0) & (b < 1))
    np.testing.assert_array_equal(cp.asnumpy(x[x > 1]), a[a > 1])
    np.testing.assert_array_equal(cp.asnumpy(cp.concatenate([x, y], axis=1)), np.concatenate([a, b], axis=1))
    integers = generator.integers(-1000, 1000, 500)
    device = cp.asarray(integers)
    np.testing.assert_array_equal(cp.asnumpy(device // 7 + device % 13 - (device << 2)), integers // 7 + integers % 13 - (integers << 2))
    index = generator.integers(0, 500, 300)
    np.testing.assert_array_equal(cp.asnumpy(cp.take(device, cp.asarray(index))), integers[index])
    square = cp.ElementwiseKernel("float64 x, float64 y", "float64 z", "z = (x - y) * (x - y)", "squared_difference")
    np.testing.assert_allclose(cp.asnumpy(square(x, y)), (a - b) ** 2, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(cp.asnumpy(rectified(x, y)), np.maximum(a, 0) * b + 1, rtol=1e-12, atol=1e-12)
    halves = a.astype(np.float16)
    np.testing.assert_array_equal(cp.asnumpy(cp.asarray(halves) + cp.float16(1)), halves + np.float16(1))
    bytes_in = generator.integers(0, 256, 1000).astype(np.uint8)
    np.testing.assert_array_equal(cp.asnumpy(cp.asarray(bytes_in) * cp.uint8(3)), bytes_in * np.uint8(3))


def reductions(generator):
    a = generator.standard_normal((37, 211))
    x = cp.asarray(a)
    np.testing.assert_allclose(float(x.sum()), a.sum(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(cp.asnumpy(x.sum(axis=0)), a.sum(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(cp.asnumpy(x.mean(axis=1)), a.mean(axis=1), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(cp.asnumpy(x.std(axis=1)), a.std(axis=1), rtol=1e-12, atol=1e-12)
    assert float(x.max()) == a.max() and float(x.min()) == a.min()
    assert int(x.argmax()) == a.argmax()
    np.testing.assert_array_equal(cp.asnumpy(x.argmin(axis=0)), a.argmin(axis=0))
    integers = generator.integers(0, 10, 10_000)
    device = cp.asarray(integers)
    assert int(device.sum()) == integers.sum()
    np.testing.assert_array_equal(cp.asnumpy(cp.cumsum(device)), np.cumsum(integers))
    np.testing.assert_array_equal(cp.asnumpy(cp.bincount(device)), np.bincount(integers))
    assert bool(cp.any(device == 9)) and not bool(cp.all(device > 0))
    dot = cp.ReductionKernel("float64 x, float64 y", "float64 z", "x * y", "a + b", "z = a", "0", "dot")
    np.testing.assert_allclose(float(dot(x, x)), (a * a).sum(), rtol=1e-12, atol=1e-12)


def sorting(generator):
    for kind in (np.int32, np.int64, np.float32, np.float64, np.uint8):
        values = (generator.standard_normal(5000) * 100).astype(kind)
        device = cp.asarray(values)
        np.testing.assert_array_equal(cp.asnumpy(cp.sort(device)), np.sort(values))
    values = generator.permutation(3000)
    np.testing.assert_array_equal(cp.asnumpy(cp.argsort(cp.asarray(values))), np.argsort(values))
    rows = generator.integers(0, 1000, (20, 50))
    np.testing.assert_array_equal(cp.asnumpy(cp.sort(cp.asarray(rows), axis=1)), np.sort(rows, axis=1))
    repeated = generator.integers(0, 40, 1000)
    np.testing.assert_array_equal(cp.asnumpy(cp.unique(cp.asarray(repeated))), np.unique(repeated))
    np.testing.assert_array_equal(cp.asnumpy(cp.searchsorted(cp.arange(0, 1000, 10), cp.asarray(repeated))), np.searchsorted(np.arange(0, 1000, 10), repeated))


def random_numbers():
    generator = cp.random.default_rng(7)
    for sample, low, high, mean in (
        (generator.random(20_000), 0, 1, 0.5),
        (generator.integers(0, 100, 20_000), 0, 100, 49.5),
        (generator.standard_normal(20_000), -8, 8, 0),
    ):
        assert float(sample.min()) >= low and float(sample.max()) < high
        assert abs(float(sample.mean()) - mean) < 0.02 * (high - low), float(sample.mean())
    first, second = cp.random.default_rng(3).random(100), cp.random.default_rng(3).random(100)
    np.testing.assert_array_equal(cp.asnumpy(first), cp.asnumpy(second))


def memory(generator):
    values = generator.standard_normal((50, 60))
    device = cp.asarray(values)
    host = cp.asnumpy(device)
    assert host.flags.c_contiguous and (host == values).all()
    stream = cp.cuda.Stream(non_blocking=True)
    start, end = cp.cuda.Event(), cp.cuda.Event()
    with stream:
        start.record()
        doubled = device * 2
        end.record()
    stream.synchronize()
    assert cp.cuda.get_elapsed_time(start, end) >= 0
    np.testing.assert_array_equal(doubled.get(), values * 2)
    free, total = cp.cuda.runtime.memGetInfo()
    assert 0 < free <= total
    try:
        cp.empty(total + 1, dtype=cp.uint8)
        raise AssertionError("more memory than there is was granted")
    except cp.cuda.memory.OutOfMemoryError:
        pass
    assert float(cp.ones(1000).sum()) == 1000


generator = np.random.default_rng(2)
raw_kernels(generator)
elementwise(generator)
reductions(generator)
sorting(generator)
random_numbers()
memory(generator)
print("cupy_arrays: ok")
