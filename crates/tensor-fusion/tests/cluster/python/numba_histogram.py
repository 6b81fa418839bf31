# A histogram through shared memory and atomics, compared with NumPy's.
import numpy as np
from numba import cuda, int32


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


values = np.random.default_rng(1).integers(0, 64, 200_000).astype(np.int32)
bins = np.zeros(64, dtype=np.int32)
histogram[12, 128](values, bins)
np.testing.assert_array_equal(bins, np.bincount(values, minlength=64))
free, total = cuda.current_context().get_memory_info()
print(f"numba: {bins.sum()} values counted, {total >> 20} MiB of memory")
