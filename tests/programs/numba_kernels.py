# Numba: jitted kernels with shared memory, atomics, reductions, local arrays, device functions, streams and events.
# builds: python
# paths: tcp pod
import math

import numpy as np
from numba import cuda, float32, int32


@cuda.jit
def axpy(a, x, y, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a * x[i] + y[i]


@cuda.jit
def matmul(a, b, c):
    tile_a = cuda.shared.array((16, 16), dtype=float32)
    tile_b = cuda.shared.array((16, 16), dtype=float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total = float32(0)
    for start in range(0, a.shape[1], 16):
        tile_a[ty, tx] = a[row, start + tx] if row < a.shape[0] and start + tx < a.shape[1] else 0
        tile_b[ty, tx] = b[start + ty, column] if start + ty < b.shape[0] and column < b.shape[1] else 0
        cuda.syncthreads()
        for k in range(16):
            total += tile_a[ty, k] * tile_b[k, tx]
        cuda.syncthreads()
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total


@cuda.jit
def histogram(values, bins):
    local = cuda.shared.array(64, dtype=int32)
    if cuda.threadIdx.x < 64:
        local[cuda.threadIdx.x] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(local, values[i], 1)
    cuda.syncthreads()
    if cuda.threadIdx.x < 64:
        cuda.atomic.add(bins, cuda.threadIdx.x, local[cuda.threadIdx.x])


@cuda.jit
def extremes(values, out):
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.max(out, 0, values[i])
        cuda.atomic.min(out, 1, values[i])


@cuda.reduce
def total_of(a, b):
    return a + b


@cuda.reduce
def largest_of(a, b):
    return a if a > b else b


@cuda.jit(device=True)
def collatz(n):
    steps = 0
    while n > 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


@cuda.jit
def steps(out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = collatz(i + 1)


@cuda.jit
def transcendental(x, out):
    i = cuda.grid(1)
    if i < x.size:
        out[i] = math.sin(x[i]) * math.exp(-x[i] * x[i]) + math.sqrt(abs(x[i]))


@cuda.jit
def local_sort(rows):
    i = cuda.grid(1)
    if i < rows.shape[0]:
        row = cuda.local.array(8, dtype=int32)
        for k in range(8):
            row[k] = rows[i, k]
        for k in range(1, 8):
            value, j = row[k], k
            while j > 0 and row[j - 1] > value:
                row[j] = row[j - 1]
                j -= 1
            row[j] = value
        for k in range(8):
            rows[i, k] = row[k]


@cuda.jit
def warp_sums(values, out):
    i = cuda.grid(1)
    value = values[i]
    for step in (16, 8, 4, 2, 1):
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, step)
    if i % 32 == 0:
        out[i // 32] = value


@cuda.jit
def records(points, out):
    i = cuda.grid(1)
    if i < points.size:
        out[i] = points[i]["x"] * points[i]["weight"] + points[i]["id"]


def main():
    assert cuda.is_available(), "Numba sees no GPU"
    generator = np.random.default_rng(1)

    x = generator.standard_normal(10_007)
    y = generator.standard_normal(10_007)
    out = np.zeros_like(x)
    axpy[(x.size + 127) // 128, 128](2.5, x, y, out)
    np.testing.assert_allclose(out, 2.5 * x + y, rtol=1e-15, atol=1e-15)

    a = generator.integers(-8, 8, (70, 45)).astype(np.float32)
    b = generator.integers(-8, 8, (45, 53)).astype(np.float32)
    c = cuda.device_array((70, 53), dtype=np.float32)
    matmul[(4, 5), (16, 16)](cuda.to_device(a), cuda.to_device(b), c)
    np.testing.assert_array_equal(c.copy_to_host(), a @ b)

    values = generator.integers(0, 64, 50_000).astype(np.int32)
    bins = np.zeros(64, dtype=np.int32)
    histogram[12, 128](values, bins)
    np.testing.assert_array_equal(bins, np.bincount(values, minlength=64))

    floats = generator.standard_normal(5_000)
    bounds = np.array([-np.inf, np.inf])
    extremes[8, 64](floats, bounds)
    assert bounds[0] == floats.max() and bounds[1] == floats.min(), bounds

    integers = generator.integers(0, 1000, 12_345)
    assert total_of(integers) == integers.sum()
    assert largest_of(integers) == integers.max()

    counts = np.zeros(1000, dtype=np.int64)
    steps[8, 128](counts)
    want = []
    for n in range(1, 1001):
        count = 0
        while n > 1:
            n = n // 2 if n % 2 == 0 else 3 * n + 1
            count += 1
        want.append(count)
    np.testing.assert_array_equal(counts, want)

    angles = generator.uniform(-3, 3, 2000)
    waves = np.zeros_like(angles)
    transcendental[(angles.size + 63) // 64, 64](angles, waves)
    np.testing.assert_allclose(waves, np.sin(angles) * np.exp(-angles * angles) + np.sqrt(abs(angles)), rtol=1e-13, atol=1e-14)

    rows = generator.integers(-100, 100, (300, 8)).astype(np.int32)
    want = np.sort(rows, axis=1)
    local_sort[3, 128](rows)
    np.testing.assert_array_equal(rows, want)

    lanes = generator.integers(0, 1000, 256).astype(np.int32)
    sums = np.zeros(8, dtype=np.int32)
    warp_sums[2, 128](lanes, sums)
    np.testing.assert_array_equal(sums, lanes.reshape(8, 32).sum(axis=1))

    points = np.zeros(100, dtype=np.dtype([("id", np.int32), ("x", np.float64), ("weight", np.float32)], align=True))
    points["id"], points["x"], points["weight"] = np.arange(100), np.linspace(0, 1, 100), 0.5
    weighted = np.zeros(100)
    records[1, 128](points, weighted)
    np.testing.assert_allclose(weighted, points["x"] * 0.5 + points["id"], rtol=1e-15)

    # Streams and events: order on each stream, time that passes.
    streams = [cuda.stream() for _ in range(3)]
    start, end = cuda.event(), cuda.event()
    pinned = cuda.pinned_array(4096, dtype=np.float64)
    pinned[:] = np.arange(4096)
    results = []
    start.record(streams[0])
    for number, stream in enumerate(streams):
        device = cuda.to_device(pinned, stream=stream)
        for _ in range(4):
            axpy[32, 128, stream](1.0 + number, device, device, device)
        results.append(device.copy_to_host(stream=stream))
    for stream in streams:
        end.record(stream)
        stream.synchronize()
    end.synchronize()
    assert cuda.event_elapsed_time(start, end) >= 0
    for number, result in enumerate(results):
        np.testing.assert_array_equal(result, np.arange(4096) * (2.0 + number) ** 4)

    memory = cuda.current_context().get_memory_info()
    assert 0 < memory.free <= memory.total, memory
    print("numba_kernels: ok")


main()
